"""Readings that were cut off: gone on with where that is safe, begun anew where it isn't."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.errors import AppUnavailable, Fatal, Fenced, UnexpectedAnswer
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call, Report
from membrane_sync.stores.lake import page_log
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync import resume
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, answer
from tests.sync.parts import PAGES, App, collection, parties, resolved

INCREMENTAL = resolved(
    collection(PAGES, {"sorted": "ascending"}, deletes={"tombstone": {"$var": "$.deleted"}})
)
SCANNED = resolved(collection(PAGES, deletes={"full_scan": True, "max_share": 0.5}))
BOTH = resolved(collection(PAGES, {}, deletes={"full_scan": True}))


class Scene:
    """An app of ten records on pages of two, and a lake on disk."""

    def __init__(self, root: Path) -> None:
        self.app = App(page_size=2)
        for number in range(10):
            self.app.put(f"r{number}", n=0)
        self.lake = DuckDbLake(root / "acme.duckdb")
        self.log = root / "acme.contacts.pages"
        self.api = FakeApi(self.app.respond)

    def sync(self, sync: ResolvedSync, mode: Any = "incremental") -> Report:
        all_ = parties(self.api, self.lake, MemoryDestination())
        report = new_report(sync, all_)
        self.api.calls.clear()
        pull_and_store(sync, all_, report, mode=mode)
        return report

    def cut_off(self, sync: ResolvedSync, page: int, mode: Any = "incremental") -> None:
        """A sync that ends before its page of this number is answered."""
        self.api.fail_at = self.api.requests + page
        with pytest.raises(AppUnavailable):
            self.sync(sync, mode)
        self.api.fail_at = None
        assert self.log.exists() == (page > 1)

    def pages(self) -> list[int]:
        """The pages that the last sync asked for."""
        return [call.query.get("page", 1) for call in self.api.calls]

    def records(self) -> dict[str, Any]:
        rows = self.lake.select("SELECT _payload FROM records.contacts WHERE _deleted_at IS NULL")
        found = [json.loads(row["_payload"]) for row in rows.to_pylist()]
        return {record["id"]: record for record in found}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.lake.close()


@pytest.mark.parametrize("sync", [INCREMENTAL, SCANNED, BOTH], ids=["cursor", "scan", "both"])
def test_it_goes_on_where_it_was_cut_off(scene: Scene, sync: ResolvedSync, tmp_path: Path) -> None:
    whole = Scene(tmp_path / "whole")
    whole.sync(sync)
    scene.cut_off(sync, 4)
    scene.sync(sync)
    rest = whole.api.calls[3:]
    assert scene.api.calls[: len(rest)] == rest
    # What changed since is asked for, too, where a cursor tells.
    assert len(scene.api.calls) <= len(rest) + (0 if sync is SCANNED else 2)
    assert scene.records() == scene.app.alive()
    assert not scene.log.exists()
    whole.lake.close()


def test_what_was_kept_too_long_ago_is_not_used(scene: Scene) -> None:
    scene.cut_off(SCANNED, 4)
    old = time.time() - resume.LONGEST.total_seconds() - 60
    os.utime(scene.log, (old, old))
    scene.sync(SCANNED)
    assert scene.pages() == [1, 2, 3, 4, 5, 6]


def test_a_reading_that_takes_long_is_gone_on_with_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is when it was cut off, not when it began."""
    scene.cut_off(SCANNED, 4)
    text = scene.log.read_bytes()
    header, content = page_log._read(scene.log.open("rb"))
    began = page_log._written({**header, "started_at": "2026-01-01T00:00:00+00:00"}, content)
    scene.log.write_bytes(b"".join(began) + text.split(b"\n", 2)[2])
    scene.sync(SCANNED)
    assert scene.pages() == [4, 5, 6]


def test_after_another_declaration_it_begins_anew(scene: Scene) -> None:
    scene.cut_off(SCANNED, 4)
    other = collection(PAGES, deletes={"full_scan": True, "max_share": 0.4})
    scene.sync(resolved(other))
    assert scene.pages() == [1, 2, 3, 4, 5, 6]
    assert scene.records() == scene.app.alive()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("how", ["cut", "wrong"])
def test_a_damaged_log_is_used_as_far_as_it_is_whole(scene: Scene, share: float, how: str) -> None:
    scene.cut_off(SCANNED, 5)
    text = bytearray(scene.log.read_bytes())
    place = int(share * len(text))
    if how == "cut":
        del text[place:]
    else:
        text[place] ^= 0b0101
    scene.log.write_bytes(text)
    for name in scene.app.records:
        scene.app.records[name]["n"] = 1
    scene.sync(SCANNED)
    assert set(scene.records()) == set(scene.app.alive())
    assert scene.pages()[0] <= 5 and scene.pages()[-1] == 6
    # A page that was asked for again is stored again: it may show what is newer.
    again = {f"r{n}" for page in scene.pages() for n in (2 * page - 2, 2 * page - 1)}
    assert all(r["n"] == 1 for i, r in scene.records().items() if i in again)
    assert not scene.log.exists()


class Full:
    """A file of a disk that has no room for more than so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, text: bytes) -> int:
        done = self.file.write(text[: self.room])
        self.room -= done
        if not done and text:
            raise OSError(28, "No space left on device")
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 10, 500])
def test_a_full_disk_costs_requests_and_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    opened = Path.open

    def open_(self: Path, mode: str = "r", *args: Any, **named: Any) -> Any:
        file = opened(self, mode, *args, **named)
        return Full(file, room) if mode == "ab" else file

    monkeypatch.setattr(Path, "open", open_)
    scene.cut_off(SCANNED, 5)
    monkeypatch.undo()
    scene.sync(SCANNED)
    assert scene.pages()[0] < 5
    assert scene.records() == scene.app.alive()
    assert not scene.log.exists()


def test_where_no_log_can_be_begun_an_old_one_is_not_left(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.cut_off(SCANNED, 3)

    def refuse(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    scene.sync(INCREMENTAL)
    assert scene.records() == scene.app.alive()
    assert not scene.log.exists()


@pytest.mark.parametrize("status", [400, 410])
def test_a_token_that_expired_meanwhile_begins_it_anew_at_once(scene: Scene, status: int) -> None:
    scene.cut_off(SCANNED, 4)
    refused: list[Call] = []

    def respond(call: Call) -> Answer:
        if not refused:
            refused.append(call)
            raise UnexpectedAnswer(f"GET /contacts: answered {status}")
        return scene.app.respond(call)

    scene.api._respond = respond
    scene.sync(SCANNED)
    assert refused[0].query["page"] == 4
    assert scene.pages() == [4, 1, 2, 3, 4, 5, 6]
    assert scene.records() == scene.app.alive()


def test_what_the_app_never_answers_is_an_error_and_not_a_loop(scene: Scene) -> None:
    scene.cut_off(SCANNED, 4)

    def respond(call: Call) -> Answer:
        if call.query.get("page") == 4:
            raise UnexpectedAnswer("GET /contacts: answered 400")
        return scene.app.respond(call)

    scene.api._respond = respond
    for _ in range(2):
        with pytest.raises(UnexpectedAnswer):
            scene.sync(SCANNED)
    scene.api._respond = scene.app.respond
    scene.sync(SCANNED)
    assert scene.records() == scene.app.alive()


def test_an_incremental_sync_makes_the_log_of_a_full_one_useless(scene: Scene) -> None:
    """What the full one kept is older than what the incremental one brings."""
    scene.sync(INCREMENTAL)
    scene.cut_off(INCREMENTAL, 3, mode="full")
    scene.app.put("r0", n=1)
    scene.sync(INCREMENTAL)
    assert not scene.log.exists()
    scene.sync(INCREMENTAL, mode="full")
    assert scene.pages()[0] == 1
    assert scene.records() == scene.app.alive()


def test_a_full_sync_makes_the_log_of_an_incremental_one_useless(scene: Scene) -> None:
    scene.cut_off(INCREMENTAL, 3)
    scene.app.put("r0", n=1)
    scene.sync(INCREMENTAL, mode="full")
    assert scene.pages()[0] == 1
    scene.app.put("r1", n=1)
    scene.sync(INCREMENTAL)
    assert scene.records() == scene.app.alive()


def test_a_scan_that_was_finished_is_not_finished_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies once the scan is finished, and before its log is gone."""
    monkeypatch.setattr(page_log.FilePageLog, "clear", lambda _self: None)
    scene.sync(SCANNED)
    monkeypatch.undo()
    assert scene.log.exists()
    scene.app.records["r5"]["n"] = 1
    assert scene.sync(SCANNED).deleted == 0
    assert scene.pages() == [1, 2, 3, 4, 5, 6]
    assert scene.records() == scene.app.alive()


def test_a_scan_that_is_refused_is_begun_anew(scene: Scene) -> None:
    scene.sync(SCANNED)
    gone = {f"r{n}": scene.app.records.pop(f"r{n}") for n in range(8)}
    with pytest.raises(Fatal, match="delete 8 of 10"):
        scene.sync(SCANNED)
    assert not scene.log.exists()
    scene.app.records |= gone
    scene.sync(SCANNED)
    assert scene.pages()[0] == 1
    assert scene.records() == scene.app.alive()


def test_one_that_was_taken_for_dead_leaves_the_log_of_another_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen before the end of its scan; meanwhile another began to read."""
    kept = []

    def others(*_: Any, **__: Any) -> None:
        log = page_log.FilePageLog(scene.log)
        log.begin({"name": "another's", "of": "it"})
        kept.append(scene.log.read_bytes())
        raise Fenced("another process took the connection over")

    monkeypatch.setattr(scene.lake, "finish_scan", others)
    with pytest.raises(Fenced):
        scene.sync(SCANNED)
    assert scene.log.read_bytes() == kept[0]


def test_deletions_come_after_a_list_that_was_kept_before_them(tmp_path: Path) -> None:
    """A kept page shows a record that is deleted by now."""
    scene = Scene(tmp_path)
    deleted: list[dict[str, Any]] = []
    endpoint = {
        "path": "/deleted",
        "records": "$.body.data",
        "query": {"since": {"$var": "$.cursor"}},
        "pagination": {"type": "none"},
        "cursor": {"field": "$.at", "type": "integer", "inclusive": True, "sorted": "ascending"},
    }
    sync = resolved(collection(PAGES, {"sorted": "none"}, deletes={"endpoint": endpoint}))

    def respond(call: Call) -> Answer:
        return answer({"data": deleted}) if call.url == "/deleted" else scene.app.respond(call)

    scene.api._respond = respond
    scene.cut_off(sync, 5)
    record = scene.app.records.pop("r1")
    deleted.append({"id": record["id"], "at": 11})
    scene.sync(sync)
    assert scene.records() == scene.app.alive()
    scene.lake.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_what_was_read_and_no_thread(
    scene: Scene, error: type[BaseException]
) -> None:
    def interrupt(_verb: str, report: Report) -> None:
        if report.pages == 3:
            raise error

    all_ = parties(scene.api, scene.lake, MemoryDestination())
    with pytest.raises(error):
        pull_and_store(SCANNED, all_, new_report(SCANNED, all_), progress=interrupt)
    assert "reading ahead" not in {thread.name for thread in threading.enumerate()}
    asked = scene.api.requests
    scene.sync(SCANNED)
    assert scene.pages() == list(range(min(asked, 5) + 1, 7))
    assert scene.records() == scene.app.alive()


def test_a_thread_that_is_late_keeps_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer comes once the sync has failed, and perhaps another one has begun."""
    held, go_on = threading.Event(), threading.Event()

    def respond(call: Call) -> Answer:
        if call.query.get("page") == 4 and not go_on.is_set():
            held.set()
            go_on.wait(10)
        return scene.app.respond(call)

    def fail(_verb: str, report: Report) -> None:
        if report.pages == 3:
            held.wait(10)
            raise KeyboardInterrupt

    joined: Callable[..., None] = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: joined(self, 0.1))
    scene.api._respond = respond
    all_ = parties(scene.api, scene.lake, MemoryDestination())
    with pytest.raises(KeyboardInterrupt):
        pull_and_store(SCANNED, all_, new_report(SCANNED, all_), progress=fail)
    before = scene.log.read_bytes()
    [late] = [thread for thread in threading.enumerate() if thread.name == "reading ahead"]
    go_on.set()
    joined(late, 10)
    assert not late.is_alive() and scene.log.read_bytes() == before


@pytest.mark.parametrize("moment", range(1, 6))
def test_a_long_log_that_is_begun_again_loses_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """It's the old one or the new one, whenever the process dies; three pages wait for a commit."""
    monkeypatch.setattr(resume, "REBASE_BYTES", 1)
    begun: list[Path] = []
    moved = Path.replace

    def die(self: Path, target: Path) -> Path:
        begun.append(self)
        if len(begun) > moment:
            raise KeyboardInterrupt
        return moved(self, target)

    monkeypatch.setattr(Path, "replace", die)
    log = page_log.FilePageLog(tmp_path / "acme.pages")
    beginning = resume.Beginning("it", "of it", datetime.now(UTC))
    trail = resume.Trail(log, beginning)
    content = b'{"data": []}'
    with pytest.raises(KeyboardInterrupt):
        for page in range(1, 20):
            call = Call("GET", "/contacts", {"page": page})
            assert trail.answer(call) is None
            trail.keep(call, Answer(200, {}, content=content, read=json.loads), page)
            trail.commit(page - 3)

    left = page_log.FilePageLog(tmp_path / "acme.pages")
    found = resume.unfinished(left, "of it")
    assert found is not None
    answers = list(left.answers())
    assert found.first_page + len(answers) == trail.page
    assert found.first_page >= moment - 1
    assert all(kept.content == content for _, kept in answers)


def test_another_cursor_in_the_lake_makes_a_log_useless(scene: Scene) -> None:
    """Nothing of the reading is committed, and the lake has gone on by other means."""
    scene.sync(INCREMENTAL)
    for number in range(6):
        scene.app.put(f"r{number}", n=1)
    scene.cut_off(INCREMENTAL, 2)
    kept = scene.log.read_bytes()
    scene.app.put("r0", n=2)
    scene.sync(INCREMENTAL)
    scene.log.write_bytes(kept)
    scene.sync(INCREMENTAL)
    assert scene.records() == scene.app.alive()
