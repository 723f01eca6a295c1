"""Deletions that the app lists, requests by functions, backfills of a window, reconciling scans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from membrane_sync.errors import AppUnavailable
from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call
from membrane_sync.sync.collection import Bounds
from membrane_sync.sync.run import run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, answer
from tests.sync.parts import App, collection, parties, resolved


def alive(lake: Lake) -> dict[str, Any]:
    latest = {change.external_id: change.payload for change in lake.changes("contacts", 0, 10_000)}
    return {i: json.loads(text) for i, text in latest.items() if text is not None}


class Archive(App):
    """An app whose list leaves out what is deleted; another list has it, from a time on."""

    gone: list[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__(page_size=3, tombstones=False)
        self.gone = []

    def archive(self, external_id: str) -> None:
        self.now += 1
        del self.records[external_id]
        self.gone.append({"ref": external_id, "when": self.now})

    def respond(self, call: Call) -> Answer:
        if call.url != "/deleted":
            return super().respond(call)
        since = call.query.get("since", 0)
        return answer({"items": [entry for entry in self.gone if entry["when"] >= since]})


DELETED = {
    "path": "/deleted",
    "query": {"since": {"$var": "$.cursor"}},
    "records": "$.body.items",
    "id": "$.ref",
    "cursor": {"field": "$.when", "type": "integer", "inclusive": True, "sorted": "ascending"},
}


def with_deleted() -> ResolvedSync:
    pages = {"type": "page", "parameter": "page"}
    return resolved(collection(pages, {}, deletes={"endpoint": DELETED}))


def test_what_the_app_lists_as_deleted_is_deleted(lake: Lake) -> None:
    app = Archive()
    for number in range(5):
        app.put(f"p{number}", email="a@x", score=number)
    api, sync = FakeApi(app.respond), with_deleted()
    all_ = parties(api, lake, MemoryDestination())
    run_sync(sync, all_)
    app.archive("p1")
    report = run_sync(sync, all_)
    assert report.deleted == 1
    assert set(alive(lake)) == {"p0", "p2", "p3", "p4"}


def test_a_record_that_is_there_again_stays_though_its_deletion_is_told_again(lake: Lake) -> None:
    app = Archive()
    for number in range(3):
        app.put(f"p{number}", email="a@x", score=number)
    api, sync = FakeApi(app.respond), with_deleted()
    all_ = parties(api, lake, MemoryDestination())
    run_sync(sync, all_)
    app.archive("p1")
    run_sync(sync, all_)
    app.put("p1", email="back@x", score=9)
    app.put("p2", email="later@x", score=9)
    run_sync(sync, all_)
    assert set(alive(lake)) == {"p0", "p1", "p2"}
    assert run_sync(sync, all_).written == 0
    assert alive(lake)["p1"]["email"] == "back@x"
    app.archive("p1")
    run_sync(sync, all_)
    assert set(alive(lake)) == {"p0", "p2"}


def test_pages_that_were_kept_before_a_deletion_do_not_bring_the_record_back(lake: Lake) -> None:
    """A full reading is killed; a sync takes a deletion and fails at the list; it goes on."""
    app = Archive()
    for number in range(9):
        app.put(f"p{number}", email="a@x", score=number)
    api, sync = FakeApi(app.respond), with_deleted()
    all_ = parties(api, lake, MemoryDestination())
    run_sync(sync, all_)
    for number in range(9):
        app.put(f"p{number}", email="b@x", score=number)
    api.fail_at, api.error = api.requests + 4, KeyboardInterrupt()  # after deletions and two pages
    with pytest.raises(KeyboardInterrupt):
        run_sync(sync, all_, mode="full")
    app.archive("p0")
    api.fail_at, api.error = api.requests + 2, AppUnavailable("it's down")
    with pytest.raises(AppUnavailable):
        run_sync(sync, all_)
    api.fail_at = None
    run_sync(sync, all_, mode="full")
    run_sync(sync, all_)
    assert set(alive(lake)) == set(app.records)


def test_a_request_by_a_function_of_the_connector(lake: Lake) -> None:
    app = App(page_size=2)
    for number in range(5):
        app.put(f"p{number}", email="a@x", score=number)

    def pages(scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
        number = 1
        while True:
            found = yield {"path": "/contacts", "query": {"page": number}}
            if not found.body["data"]:
                return
            number += 1

    of = collection()
    assert of.list_ is not None
    method = type(of.list_).model_validate({"function": "pages", "records": "$.body.data"})
    sync = replace(resolved(of.model_copy(update={"list_": method})), functions={"pages": pages})
    run_sync(sync, parties(FakeApi(app.respond), lake, MemoryDestination()))
    assert set(alive(lake)) == set(app.records)


def timed(app: App, call: Call) -> Answer:
    """The app's records with a time in ISO notation instead of a number."""
    since = call.query.get("since")
    number = int(datetime.fromisoformat(since).timestamp()) if since else None
    query = {**call.query, "since": number} if number is not None else dict(call.query)
    given = app.respond(replace(call, query=query))
    for record in given.body["data"]:
        record["at"] = datetime.fromtimestamp(record["at"], UTC).isoformat()
    return answer({"data": [dict(record) for record in given.body["data"]]})


def test_a_backfill_of_a_window_leaves_the_cursor(lake: Lake) -> None:
    app = App(page_size=3)
    for number in range(1, 10):
        app.put(f"p{number}", email="a@x", score=number)

    def respond(call: Call) -> Answer:
        copy = App(page_size=3, records={i: dict(r) for i, r in app.records.items()})
        return timed(copy, call)

    sync = resolved(collection({"type": "page", "parameter": "page"}, {"type": "timestamp"}))
    all_ = parties(FakeApi(respond), lake, MemoryDestination())
    run_sync(sync, all_)
    before = lake.cursor("contacts")
    for record in app.records.values():
        record["email"] = "new@x"
    since, until = datetime.fromtimestamp(4, UTC), datetime.fromtimestamp(7, UTC)
    report = run_sync(sync, all_, bounds=Bounds(since, until))
    assert report.updated == 3
    assert lake.cursor("contacts") == before
    changed = {i for i, record in alive(lake).items() if record["email"] == "new@x"}
    assert changed == {"p4", "p5", "p6"}


def test_a_reconciling_scan_finds_fixes_and_counts_what_the_cursor_missed(lake: Lake) -> None:
    app = App(page_size=3)
    for number in range(6):
        app.put(f"p{number}", email="a@x", score=number)
    sync = resolved(collection({"type": "page", "parameter": "page"}, {}))
    source = type(sync.source).model_validate(
        {**sync.source.model_dump(exclude_unset=True), "full_sync_interval_seconds": 86_400}
    )
    all_ = parties(FakeApi(app.respond), lake, MemoryDestination())
    run_sync(sync, all_)
    app.records["late"] = {"id": "late", "at": 2, "email": "late@x"}
    app.records["p1"]["email"] = "silent@x"
    app.put("new", email="new@x")
    assert run_sync(sync, all_).missed == 0
    assert "late" not in alive(lake)
    report = run_sync(replace(sync, source=source), all_)
    assert (report.missed, report.created, report.updated) == (2, 1, 1)
    assert alive(lake)["p1"]["email"] == "silent@x"
    assert "late" in alive(lake)
    again = run_sync(replace(sync, source=source), all_)
    assert (again.missed, again.written) == (0, 0)
    assert again.requests < report.requests
