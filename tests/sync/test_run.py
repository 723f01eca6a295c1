"""The five verbs together: what a sync reports, and that nothing new means nothing done."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.errors import AppUnavailable, DestinationError, Fatal
from membrane_sync.records import Answer, Call, LinkKey
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.sql_destination import SqlDestination
from membrane_sync.sync.cursor import value_of
from membrane_sync.sync.run import Parties, new_report, run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake, answer
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


def test_a_limited_app_gets_ahead_with_every_sync(app: App) -> None:
    """Two answers, and then the app asks to wait: small pages must not wait for the end."""
    all_, api, lake, destination = together(app)
    app.page_size = 1
    reached = []
    for _ in range(2):
        api.fail_at = api.requests + 3
        with pytest.raises(AppUnavailable):
            run_sync(SYNC, all_)
        reached.append(value_of(lake.cursor("contacts")))
    assert reached == [2, 4]
    api.fail_at = None
    assert run_sync(SYNC, all_).pulled == 1
    assert len(destination.rows("contacts")) == 5


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
    app.put("e", email="e@new")
    with pytest.raises(Fatal, match="delete 2 of 3"):
        run_sync(scanned, all_)
    rows = sorted(row["email"] for row in destination.rows("contacts"))
    assert rows == ["c@x", "d@x", "e@new"], "what changed is delivered all the same"
    allowed = run_sync(scanned, all_, mode="full", allow_deletions=True)
    assert (allowed.deleted, set(lake.records("contacts"))) == (2, {"e"})


TOMBSTONE_BY_DATE = {
    "tombstone": {"$eval": {"$extractDate": {"$var": "$.gone"}}, "isNotEmpty": True},
    "full_scan": True,
}


@pytest.mark.parametrize(
    "bad",
    [{"x": float("nan")}, {"gone": "someday"}, {"at": 0}],
    ids=["nan", "tombstone", "null"],
)
def test_a_scan_deletes_nothing_that_came_but_could_not_be_taken(
    app: App, tmp_path: Path, bad: dict[str, Any]
) -> None:
    cursor = {"nulls": "exclude", "sorted": "none"}
    scanned = resolved(collection(PAGES, cursor, deletes=TOMBSTONE_BY_DATE))
    lake = DuckDbLake(tmp_path / "acme.duckdb")

    def respond(call: Call) -> Answer:
        page = app.respond(call)
        shown = [{**record, "at": record["at"] or None} for record in page.body["data"]]
        return answer({"data": shown})

    all_ = parties(FakeApi(respond), lake, MemoryDestination())
    run_sync(scanned, all_)
    app.records["a"] |= bad
    del app.records["b"]
    report = run_sync(scanned, all_, mode="full")
    assert (report.deleted, report.failed) == (1, 1)
    alive = lake.select("SELECT _external_id AS id FROM records.contacts WHERE _deleted_at IS NULL")
    assert sorted(alive.column("id").to_pylist()) == ["a", "c", "d", "e"]
    lake.close()


def test_a_scan_with_a_record_without_an_id_deletes_nothing(app: App) -> None:
    scanned = resolved(collection(PAGES, deletes={"full_scan": True}))
    all_, _, lake, _ = together(app)
    run_sync(scanned, all_)
    app.records["a"]["id"] = ""
    del app.records["b"]
    report = run_sync(scanned, all_)
    assert (report.deleted, report.failed) == (0, 1)
    assert set(lake.records("contacts")) == set("abcde")
    assert "a full scan with it deletes nothing" in lake.dead_letters[0].reason
    app.put("a", email="a@x")
    assert run_sync(scanned, all_).deleted == 1


def test_another_cursor_reads_from_the_beginning(app: App) -> None:
    all_, api, _, _ = together(app)
    run_sync(SYNC, all_)
    for record in app.records.values():
        record["changed"] = record["at"]
    moved = resolved(
        collection(
            PAGES,
            {"field": "$.changed", "inclusive": False, "unique": True},
            deletes=TOMBSTONE,
        )
    )
    api.calls.clear()
    report = run_sync(moved, all_)
    assert "since" not in api.calls[0].query
    assert (report.cursor_from, report.pulled, report.cursor_to) == ("", 5, "5")
    api.calls.clear()
    run_sync(moved, all_)
    assert [call.query["since"] for call in api.calls] == [5]


def test_one_record_dated_ahead_does_not_stop_the_sync() -> None:
    now = int(time.time())
    app = App(page_size=2, now=now)
    cursor = {"granularity": "second"}
    made = resolved(collection(PAGES, cursor, deletes=TOMBSTONE))
    all_, _, lake, _ = together(app)
    app.put("a", email="a@x")
    app.records["wrong"] = {"id": "wrong", "at": now + 10**9, "email": "w@x"}
    assert run_sync(made, all_).cursor_to == str(now + 1)
    app.put("b", email="b@x")
    report = run_sync(made, all_)
    assert (report.cursor_to, report.delivered) == (str(now + 2), 1)
    assert set(lake.records("contacts")) == {"a", "b", "wrong"}
    assert [(x.external_id, x.field) for x in lake.dead_letters] == [("wrong", "at")]


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


def test_a_scan_that_was_finished_in_time_to_come_counts_as_due(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = resolved(
        collection(PAGES, {"inclusive": False, "unique": True}, deletes={"full_scan": True})
    )
    all_, _, lake, _ = together(app)
    run_sync(scanned, all_)
    del app.records["a"]
    ahead = datetime.now(UTC) + timedelta(days=400)
    monkeypatch.setattr(lake, "scanned_at", lambda _: ahead)
    assert run_sync(scanned, all_).deleted == 1


def test_the_report_is_filled_even_by_a_sync_that_fails(app: App) -> None:
    all_, api, _, _ = together(app)
    api.fail_at = 2
    report = new_report(SYNC, all_)
    with pytest.raises(AppUnavailable):
        run_sync(SYNC, all_, report=report)
    assert (report.pages, report.pulled, report.created, report.cursor_to) == (1, 3, 3, "3")
