"""The five verbs together: what a sync reports, and that nothing new means nothing done."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from membrane_sync.errors import AppUnavailable, DestinationError, Fatal
from membrane_sync.records import LinkKey
from membrane_sync.stores.duckdb_lake import DuckDbLake
from membrane_sync.stores.sql_destination import SqlDestination
from membrane_sync.sync.run import Parties, new_report, run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from tests.sync.parts import PAGES, App, collection, parties, resolved, schema

TOMBSTONE = {"tombstone": {"$var": "$.deleted"}}
SYNC = resolved(collection(PAGES, {"inclusive": False, "unique": True}, deletes=TOMBSTONE))


@pytest.fixture
def app() -> App:
    made = App(page_size=3, exclusive=True)
    for name in "abcde":
        made.put(name, email=f"{name}@x", score=1)
    return made


def together(app: App) -> tuple[Parties, FakeApi, MemoryLake, MemoryDestination]:
    api, lake, destination = FakeApi(app.respond), MemoryLake(), MemoryDestination()
    return parties(api, lake, destination), api, lake, destination


def test_the_report_says_what_happened(app: App) -> None:
    all_, api, lake, destination = together(app)
    first = run_sync(SYNC, all_)
    assert (first.sync, first.integration, first.connection) == ("contacts", "app", "acme_app")
    assert (first.pulled, first.created, first.mapped) == (5, 5, 5)
    assert (first.linked, first.delivered, first.failed, first.written) == (5, 5, 0, 15)
    assert (first.cursor_from, first.cursor_to) == ("", "5")
    assert first.requests == api.requests == first.pages
    assert first.seconds > 0

    app.put("a", email="new@x")
    app.put("b", email={"not": "text"})
    app.put("f", email="f@x")
    app.delete("c")
    second = run_sync(SYNC, all_)
    assert (second.created, second.updated, second.deleted) == (1, 2, 1)
    assert (second.mapped, second.delivered, second.linked) == (2, 2, 1)
    assert (second.removed, second.unlinked, second.failed) == (1, 1, 1)
    assert (second.cursor_from, second.cursor_to) == ("5", "9")
    assert sorted(row["email"] for row in destination.rows("contacts")) == [
        "b@x",
        "d@x",
        "e@x",
        "f@x",
        "new@x",
    ]
    assert [(x.verb, x.external_id, x.field) for x in lake.dead_letters] == [("map", "b", "email")]


def test_nothing_new_is_one_request_and_no_write(app: App) -> None:
    all_, api, lake, _ = together(app)
    run_sync(SYNC, all_)
    api.calls.clear()
    writes = lake.writes
    report = run_sync(SYNC, all_)
    assert len(api.calls) == report.requests == 1
    assert (lake.writes, report.written, report.pulled) == (writes, 0, 0)
    assert (report.cursor_from, report.cursor_to) == ("5", "5")


def test_nothing_new_leaves_the_files_as_they_are(app: App, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    made = resolved(
        SYNC.collection, schema_=schema(table={"create": True, "connection_column": "connection"})
    )

    def sync() -> int:
        lake, destination = DuckDbLake(tmp_path / "acme.duckdb"), SqlDestination(url)
        report = run_sync(made, parties(FakeApi(app.respond), lake, destination))
        lake.close()
        destination.close()
        return report.written

    assert sync() == 15
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sync() == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_progress_names_every_verb(app: App) -> None:
    all_, *_ = together(app)
    heard: list[str] = []
    run_sync(SYNC, all_, progress=lambda verb, _: heard.append(verb))
    assert list(dict.fromkeys(heard)) == ["pull", "store", "map", "push"]


def test_a_failing_app_leaves_what_was_read_for_the_next_time(app: App) -> None:
    all_, api, lake, destination = together(app)
    api.fail_at = 2
    with pytest.raises(AppUnavailable):
        run_sync(SYNC, all_)
    report = run_sync(SYNC, all_)
    assert report.delivered == 5
    assert len(destination.rows("contacts")) == len(lake.records("contacts")) == 5


def test_a_full_sync_reads_all_and_writes_what_differs(app: App) -> None:
    all_, *_ = together(app)
    run_sync(SYNC, all_)
    report = run_sync(SYNC, all_, mode="full")
    assert (report.pulled, report.unchanged, report.written) == (5, 5, 0)
    assert report.cursor_to == "5"


def test_a_full_sync_does_not_lose_tombstones_it_is_not_shown(app: App) -> None:
    all_, _, lake, destination = together(app)
    run_sync(SYNC, all_)
    app.delete("a")
    app.put("f", email="f@x")
    app.tombstones = False
    run_sync(SYNC, all_, mode="full")
    app.tombstones = True
    assert run_sync(SYNC, all_).deleted == 1
    assert "a" not in lake.records("contacts")
    assert len(destination.rows("contacts")) == 5


def test_a_scan_finds_what_is_gone(app: App) -> None:
    scanned = resolved(collection(PAGES, deletes={"full_scan": True, "max_share": 0.5}))
    all_, _, lake, destination = together(app)
    run_sync(scanned, all_)
    for name in "ab":
        del app.records[name]
    report = run_sync(scanned, all_, run_id="the run")
    assert (report.deleted, report.removed, report.unlinked) == (2, 2, 2)
    assert set(lake.records("contacts")) == set("cde")
    assert len(destination.rows("contacts")) == 3
    for name in "cd":
        del app.records[name]
    with pytest.raises(Fatal, match="delete 2 of 3"):
        run_sync(scanned, all_)
    assert len(destination.rows("contacts")) == 3


def test_a_scan_that_breaks_off_deletes_nothing(app: App) -> None:
    scanned = resolved(collection(PAGES, deletes={"full_scan": True}))
    all_, api, lake, _ = together(app)
    run_sync(scanned, all_)
    del app.records["a"]
    api.fail_at = api.requests + 2
    with pytest.raises(AppUnavailable):
        run_sync(scanned, all_)
    assert set(lake.records("contacts")) == set("abcde")


def test_a_scan_says_which_run_deleted(app: App, tmp_path: Path) -> None:
    scanned = resolved(collection(PAGES, deletes={"full_scan": True}))
    lake = DuckDbLake(tmp_path / "acme.duckdb")
    all_ = parties(FakeApi(app.respond), lake, MemoryDestination())
    run_sync(scanned, all_, run_id="first")
    del app.records["a"]
    run_sync(scanned, all_, run_id="second")
    rows = lake.select("SELECT run_id FROM changes WHERE kind = 'deleted'").to_pylist()
    assert rows == [{"run_id": "second"}]
    lake.close()


def test_a_sync_without_a_schema_delivers_nothing(app: App) -> None:
    all_, _, lake, _ = together(app)
    with pytest.raises(DestinationError, match="names no data schema"):
        run_sync(replace(SYNC, schema=None), all_)
    assert json.loads(lake.records("contacts")["a"])["email"] == "a@x"
    assert lake.links(LinkKey("people"), ["a"]) == {}


def test_a_full_scan_is_due_by_itself_where_only_it_finds_deletions(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sync scans, the next ones don't, and one after the interval does."""
    scanned = resolved(
        collection(PAGES, {"inclusive": False, "unique": True}, deletes={"full_scan": True})
    )
    all_, _, lake, _ = together(app)
    run_sync(scanned, all_)
    del app.records["a"]
    assert run_sync(scanned, all_).deleted == 0
    finished = lake.scanned_at("contacts")
    assert finished is not None
    interval = timedelta(seconds=scanned.source.full_sync_interval_seconds)
    monkeypatch.setattr(lake, "scanned_at", lambda _: finished - interval)
    assert run_sync(scanned, all_).deleted == 1


def test_the_report_is_filled_even_by_a_sync_that_fails(app: App) -> None:
    all_, api, _, _ = together(app)
    api.fail_at = 2
    report = new_report(SYNC, all_)
    with pytest.raises(AppUnavailable):
        run_sync(SYNC, all_, report=report)
    assert (report.pages, report.pulled) == (1, 0)
