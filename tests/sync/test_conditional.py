"""Conditional requests: a 304 is believed only where nothing can be missed by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import AppUnavailable, Fatal
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.records import Answer, Call, Report
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.run import pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.sync.parts import parties, resolved

WINDOWED = {"field": "$.at", "type": "timestamp", "inclusive": True, "window_seconds": 60}
PAGE = {"type": "page", "parameter": "page", "has_more": {"$var": "$.body.more"}}


def collection(pagination: Any = None, *, conditional: Any = True, **more: Any) -> DataCollection:
    listing = {"path": "/tags", "records": "$.body.data", "conditional": conditional}
    listing |= {"pagination": pagination or {"type": "none"}, **more.pop("list", {})}
    deletes = {"full_scan": True, "max_share": more.pop("max_share", 1.0)}
    return DataCollection.model_validate(
        {"key": "tags", "list": listing, "deletes": deletes, **more}
    )


@dataclass
class App:
    """Records in pages, each with an ETag of its text; `dated` says Last-Modified instead."""

    records: dict[str, Any] = field(default_factory=dict)
    page_size: int = 100
    dated: str = ""
    said: str = "Wed, 01 Jul 2026 10:00:00 GMT"
    answered: list[int] = field(default_factory=list)

    def respond(self, call: Call) -> Answer:
        page = int(call.query.get("page", 1)) - 1
        names = sorted(self.records)
        start, end = page * self.page_size, (page + 1) * self.page_size
        data = [{"id": name, "n": self.records[name]} for name in names[start:end]]
        body = {"data": data, "more": end < len(names)}
        etag = f'"{hashlib.sha256(json.dumps(body).encode()).hexdigest()}"'
        headers = {"last-modified": self.dated, "date": self.said} if self.dated else {"etag": etag}
        asked = {name.lower(): value for name, value in call.headers.items()}
        known = asked.get("if-modified-since") if self.dated else asked.get("if-none-match")
        status = 304 if known in (etag, self.dated) and known else 200
        self.answered.append(status)
        return Answer(status, headers, None if status == 304 else body)


class Syncs:
    """An app, a lake, and syncs between the two."""

    def __init__(self, of: DataCollection, app: App, lake: Any = None) -> None:
        self.of, self.app, self.lake = resolved(of), app, lake or MemoryLake()
        self.api = FakeApi(app.respond)

    def sync(self, mode: Any = "incremental") -> Report:
        report = Report()
        all_ = parties(self.api, self.lake, MemoryDestination())
        pull_and_store(self.of, all_, report, mode=mode)
        return report

    def kept(self) -> dict[str, Any]:
        records = self.lake.records(self.of.stream)
        return {name: json.loads(text)["n"] for name, text in records.items()}


def test_what_has_not_changed_is_neither_sent_nor_written() -> None:
    syncs = Syncs(collection(), App({"a": 1, "b": 2}))
    first = syncs.sync()
    assert (first.created, first.not_modified) == (2, 0)
    writes = syncs.lake.writes
    second = syncs.sync()
    assert (second.requests, second.not_modified, second.pulled) == (1, 1, 0)
    assert syncs.lake.writes == writes
    del syncs.app.records["a"]
    third = syncs.sync()
    assert (third.deleted, third.not_modified) == (1, 0)
    assert syncs.sync().not_modified == 1
    assert syncs.app.answered == [200, 304, 200, 304]


def test_a_full_sync_that_is_asked_for_asks_for_everything() -> None:
    syncs = Syncs(collection(), App({"a": 1}))
    syncs.sync()
    assert syncs.sync("full").not_modified == 0
    assert syncs.app.answered == [200, 200]
    assert syncs.sync().not_modified == 1


def test_a_list_of_several_pages_is_not_vouched_for_by_its_first() -> None:
    app = App(dict.fromkeys("abcde", 1), page_size=2)
    syncs = Syncs(collection(PAGE), app)
    syncs.sync()
    app.records["e"] = 2
    assert syncs.sync().not_modified == 0
    assert syncs.kept() == app.records
    for name in "bcde":
        del app.records[name]
    syncs.sync()
    assert syncs.sync().not_modified == 1, "now it's in one answer, which says so"


def test_a_first_page_vouches_for_the_list_where_that_is_declared() -> None:
    app = App(dict.fromkeys("abcde", 1), page_size=2)
    syncs = Syncs(collection(PAGE, conditional="first_page"), app)
    syncs.sync()
    assert syncs.sync().not_modified == 1
    app.records["a"] = 2
    assert syncs.sync().not_modified == 0
    assert app.answered == [200, 200, 200, 304, 200, 200, 200]


def test_a_scan_that_deletes_nothing_for_safety_says_so_each_time() -> None:
    app = App(dict.fromkeys("abcd", 1))
    syncs = Syncs(collection(max_share=0.5), app)
    syncs.sync()
    for name in "bcd":
        del app.records[name]
    for _ in range(2):
        with pytest.raises(Fatal, match="max_share"):
            syncs.sync()
    assert len(syncs.kept()) == 4


def test_an_app_that_goes_back_after_a_broken_reading_is_read_again() -> None:
    app = App({"a": 1, "b": 1, "c": 1}, page_size=2)
    syncs = Syncs(collection(PAGE, conditional="first_page"), app)
    syncs.sync()
    app.records["a"] = 2
    syncs.api.fail_at = syncs.api.requests + 2
    with pytest.raises(AppUnavailable):
        syncs.sync()
    assert syncs.kept()["a"] == 2
    app.records["a"] = 1
    syncs.lake.page_log(syncs.of.stream).clear()
    assert syncs.sync().not_modified == 0
    assert syncs.kept() == app.records


def test_another_declaration_reads_again() -> None:
    syncs = Syncs(collection(), App({"a": 1}))
    syncs.sync()
    syncs.of = resolved(collection(ignored_fields=["n"]))
    assert syncs.sync().not_modified == 0


@pytest.mark.parametrize(
    ("dated", "believed"),
    [
        ("Wed, 01 Jul 2026 09:00:00 GMT", True),
        ("Wed, 01 Jul 2026 09:59:30 GMT", False),
        ("yesterday", False),
    ],
)
def test_a_time_of_change_counts_once_it_is_a_minute_old(dated: str, believed: bool) -> None:
    syncs = Syncs(collection(), App({"a": 1}, dated=dated))
    syncs.sync()
    assert syncs.sync().not_modified == believed


@pytest.mark.parametrize(
    ("listing", "says"),
    [
        ({"method": "POST"}, "only a GET"),
        ({"pagination": {"type": "link_header"}}, "first_page"),
        ({"pagination": {**PAGE, "has_more": {"$var": "$.headers.more"}}}, "first_page"),
        ({"cursor": WINDOWED}, "a window ends now"),
    ],
)
def test_where_a_304_would_prove_nothing_it_is_an_error(listing: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        collection(list=listing)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), page_size=st.integers(1, 4), paged=st.booleans())
def test_it_reads_what_a_sync_without_conditions_reads(
    data: st.DataObject, page_size: int, paged: bool
) -> None:
    """Edits that go back and forth, breaks and full syncs: the lake is what the app is."""
    app = App(page_size=page_size if paged else 100)
    syncs = Syncs(collection(PAGE if paged else None), app)
    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(data.draw(st.integers(0, 3))):
            name, value = data.draw(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)))
            app.records[name] = value
            if not value:
                del app.records[name]
        syncs.api.fail_at = syncs.api.requests + data.draw(st.integers(1, 5))
        try:
            syncs.sync(data.draw(st.sampled_from(["incremental", "incremental", "full"])))
        except AppUnavailable:
            syncs.lake.page_log(syncs.of.stream).clear()
        else:
            assert syncs.kept() == app.records
    syncs.api.fail_at = None
    syncs.sync()
    assert syncs.kept() == app.records


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[tuple[Simulator, DataCollection, HttpApi]]:
    write_project(tmp_path)
    project = Project.load(tmp_path)
    of = project.find("data_collection", "conditional", integration="simulator")
    assert isinstance(of, DataCollection)
    simulator = Simulator(seed=5, records=90)
    with running(simulator) as url:
        given_ = {"input": {"url": url}, "credentials": {"token": "token-acme"}}
        record = ConnectionRecord("acme", "simulator", "acme", **given_)
        api = HttpApi(project.connector("simulator"), record)
        yield simulator, of, api
        api.close()


def test_the_lake_stays_as_it_is_byte_by_byte(tmp_path: Path, simulated: Any) -> None:
    simulator, of, api = simulated

    def sync() -> Report:
        report = Report()
        lake = DuckDbLake(tmp_path / "lake" / "acme.duckdb")
        try:
            pull_and_store(resolved(of), parties(api, lake, MemoryDestination()), report)
        finally:
            lake.close()
        return report

    assert sync().created == 90
    assert sync().not_modified == 0, "it's another request, from the new cursor on"
    before = {path.name: path.read_bytes() for path in (tmp_path / "lake").iterdir()}
    third = sync()
    assert (third.requests, third.not_modified, third.written) == (1, 1, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "lake").iterdir()} == before
    simulator.edit("conditional", 3)
    assert sync().updated == 3
