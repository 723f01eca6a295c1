"""1 and 2 of a sync: everything that is asked of an app, kept in the lake.

Deletions come before the list: what was deleted and is there again comes back by the list.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import Fatal, IncompleteScan, UnexpectedAnswer
from membrane_sync.ports import Api, ConnectionRecord, Destination, Lake, Owner
from membrane_sync.project.families import drill_down
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Report
from membrane_sync.sync.ahead import ahead
from membrane_sync.sync.ancestors import scope_of
from membrane_sync.sync.collection import Bounds, TokenExpired, deleted_collection
from membrane_sync.sync.conditional import Condition
from membrane_sync.sync.cursor import marking, stored_value
from membrane_sync.sync.custom_fields import learn_fields
from membrane_sync.sync.family import Household, is_begun, read_below
from membrane_sync.sync.pull import Mode, Pulled, Reading, pull
from membrane_sync.sync.resume import Beginning, Trail, fingerprint, forget_uncommitted, unfinished
from membrane_sync.sync.store import Progress, finish_scan, new_scan, store
from membrane_sync.sync.totals import Total
from membrane_sync.sync.visits import Visits

DELETED = "/deleted"
"""The part of a stream that is the app's list of deleted records, with a cursor of its own."""


@dataclass(frozen=True)
class Parties:
    """Who takes part in a sync: the connection, its app, its lake, and the product's database."""

    connection: ConnectionRecord
    api: Api
    lake: Lake
    destination: Destination

    @property
    def owner(self) -> Owner:
        """Whose rows are written in the product's database."""
        return Owner(self.connection.tenant, self.connection.key)


@dataclass(frozen=True)
class Task:
    """What one sync is to read, and where its numbers go."""

    sync: ResolvedSync
    parties: Parties
    report: Report
    progress: Progress
    mode: Mode = "incremental"
    bounds: Bounds | None = None
    run_id: str = ""
    allow_deletions: bool = False
    """Whether a full scan of this collection may delete more than its `max_share`."""
    brought: set[str] = field(default_factory=set)
    """The streams of parents that were read already, for the lists below them."""

    @property
    def lake(self) -> Lake:
        """The connection's lake."""
        return self.parties.lake


@dataclass(frozen=True)
class Read:
    """A reading that came to its end; `whole` if all that came has an id.

    `expected` is how many records the app says there are, 0 where that isn't to be trusted.
    """

    reading: Reading
    trail: Trail | Visits
    whole: bool
    expected: int = 0
    condition: Condition | None = None


def read(task: Task) -> Read:
    """Read deletions, if the app lists them, and then the list; `finish` must follow.

    A list that an earlier sync began to read comes before: what it shows may be deleted by now.
    """
    if task.bounds is not None:
        task.bounds.check(task.sync.collection)
    scope = scope_of(task.sync, task.parties.connection)
    anew = task.mode == "full"
    learn_fields(task.sync, task.parties.api, task.lake, scope, task.report, anew=anew)
    reading = _reading(task, task.sync.collection)
    if not _is_begun(task, reading):
        _read_deletions(task)
    return _read(task, reading)


def finish(task: Task, done: Read) -> None:
    """Delete what a whole scan didn't see; after a reading of an earlier sync, read what's new."""
    _finish(task, done)
    if not done.trail.resumed or task.bounds is not None:
        return
    drill = drill_down(task.sync.collection)
    if drill is not None and not drill.changed_parents_only:
        return  # it would be a request for each parent: the next sync makes them
    _read_deletions(task)
    if not _has_no_cursor(task.sync.collection):
        _finish(task, _read(task, _reading(task, task.sync.collection, mode="incremental")))


def _read_deletions(task: Task) -> None:
    if task.sync.collection.deletes.endpoint is not None and task.bounds is None:
        # What another reading kept is older than what is deleted now.
        forget_uncommitted(task.lake, task.sync.stream)
        gone = deleted_collection(task.sync.collection)
        _finish(task, _read(task, _reading(task, gone, DELETED)))


def _reading(
    task: Task, collection: DataCollection, part: str = "", mode: Mode | None = None
) -> Reading:
    stored = _stored_cursor(collection, task.sync.stream + part, task.lake)
    full = not part and task.bounds is None and _is_full(task, mode or task.mode)
    if not part:
        task.report.cursor_from = task.report.cursor_to = "" if stored is None else str(stored)
    return Reading(
        collection=collection,
        stream=task.sync.stream,
        part=part,
        scope=scope_of(task.sync, task.parties.connection),
        cursor=stored,
        full=full,
        run_id=task.run_id or uuid.uuid4().hex,
        scan=new_scan() if full and not part else "",
        deletes=collection.deletes.full_scan,
        bounds=task.bounds,
        functions=task.sync.functions,
    )


def _read(task: Task, reading: Reading) -> Read:
    api = task.parties.api
    before, skipped = api.requests, api.skipped
    try:
        if drill_down(reading.collection) is not None:
            return _read_below(task, reading)
        return _read_list(task, reading)
    finally:
        task.report.requests += api.requests - before
        task.report.skipped += api.skipped - skipped


def _read_below(task: Task, reading: Reading) -> Read:
    """Read the lists below each parent, after the parents themselves, which aren't counted."""

    def bring(above: ResolvedSync) -> None:
        if above.stream in task.brought:
            return
        counted = Report(above.sync.key, above.integration.key, task.parties.connection.key)
        parents = replace(
            task,
            sync=above,
            report=counted,
            progress=lambda verb, _: task.progress(verb, task.report),
            bounds=None,
            allow_deletions=False,
        )
        try:
            finish(parents, read(parents))
            task.brought.add(above.stream)
        finally:
            task.report.pages += counted.pages
            task.report.failed += counted.failed

    house = Household(
        task.parties.connection, task.parties.api, task.lake, task.report, task.progress, bring
    )
    return Read(*read_below(task.sync, reading, house))


def _read_list(task: Task, reading: Reading) -> Read:
    while True:
        begun, trail = _begun(task, reading)
        condition = _condition(task, begun)
        try:
            whole, expected = _stored(task, begun, trail, condition)
            return Read(begun, trail, whole, expected, condition)
        except TokenExpired:
            # What was deleted since is only told by all that's there.
            reading = replace(reading, cursor=None, full=True, scan=new_scan())
        except UnexpectedAnswer:
            # What was kept may be what the app doesn't understand any more: begin anew.
            if not trail.resumed:
                raise
        trail.end()


def _condition(task: Task, reading: Reading) -> Condition | None:
    """The list's, if it declares one; a reading of everything that is meant as one has none."""
    if reading.part:
        return None
    full = reading.full and not _has_no_cursor(reading.collection)
    asks = task.mode != "full" and task.bounds is None and not full
    return Condition.of(task.sync, task.lake, asks=asks)


def _begun(task: Task, reading: Reading) -> tuple[Reading, Trail]:
    """The reading and its trail: of the same reading that was cut off, if there's one."""
    log = task.lake.page_log(reading.stream + reading.part)
    found = _unfinished(task, reading)
    if found is None:
        of = _identity(task, reading)
        fresh = Beginning(new_scan(), of, datetime.now(UTC), reading.cursor, scan=reading.scan)
        return replace(reading, started_at=fresh.started_at), Trail(log, fresh)
    begun, committed = found
    reading = replace(
        reading,
        cursor=begun.cursor,
        asked=begun.asked,
        scan=begun.scan,
        started_at=begun.started_at,
    )
    return reading, Trail(log, begun, resumed=True, committed=committed)


def _is_begun(task: Task, reading: Reading) -> bool:
    if drill_down(reading.collection) is not None:
        return is_begun(task.sync, reading, task.lake)
    return _unfinished(task, reading) is not None


def _unfinished(task: Task, reading: Reading) -> tuple[Beginning, int] | None:
    """How the same reading began, if it was cut off, and how many of its pages are committed.

    One whose scan is finished isn't gone on with, nor one which the cursor has overtaken: what it
    kept is older than what the lake has.
    """
    stream = reading.stream + reading.part
    begun = unfinished(task.lake.page_log(stream), _identity(task, reading))
    if begun is None:
        return None
    pages = task.lake.pages(stream, begun.name)
    if pages is None or (not pages and begun.cursor != reading.cursor):
        return None
    return begun, max(begun.first_page, pages)


def _identity(task: Task, reading: Reading) -> str:
    return fingerprint(
        task.sync.collection_version,
        reading.scope,
        reading.full,
        bool(reading.scan),
        reading.bounds,
    )


def _stored(
    task: Task, reading: Reading, trail: Trail, condition: Condition | None
) -> tuple[bool, int]:
    total = Total(reading.collection)
    cursor = reading.collection.list_.cursor if reading.collection.list_ else None
    found = pull(reading, task.parties.api, trail, condition, marking(cursor))
    pages = ahead(_told(reading, found, total))
    # However it ends, no thread reads on, or keeps what it has still read.
    with closing(trail), closing(pages):
        guarded = condition.guarded(pages, task.lake) if condition else pages
        whole = store(guarded, task.lake, task.report, task.progress, trail.commit)
    return whole, total.records


def _told(reading: Reading, pages: Iterator[Pulled], total: Total) -> Iterator[Pulled]:
    for page in pages:
        total.saw(page)
        # Of a part of the stream, it's no total of the list.
        yield replace(page, total=0) if reading.part else page


def _finish(task: Task, done: Read) -> None:
    reading, condition = done.reading, done.condition
    if condition and condition.unchanged:
        task.report.not_modified += 1
        return
    try:
        if reading.scan and reading.deletes and done.whole:
            finish_scan(
                task.lake,
                reading.stream,
                reading.scan,
                1.0 if task.allow_deletions else task.sync.collection.deletes.max_share,
                reading.run_id,
                task.report,
                expected=done.expected or None,
            )
        elif reading.scan and not reading.part and not _has_no_cursor(task.sync.collection):
            task.lake.note_scan(reading.stream)
        if condition and done.whole and task.bounds is None:
            condition.keep(task.lake)
    except (Fatal, IncompleteScan):
        # The scan is refused, and would be again by the same pages.
        done.trail.end()
        raise
    done.trail.end()


def _stored_cursor(collection: DataCollection, stream: str, lake: Lake) -> Any:
    cursor = collection.list_.cursor if collection.list_ else None
    return None if cursor is None else stored_value(cursor, lake.cursor(stream))


def _has_no_cursor(collection: DataCollection) -> bool:
    """Whether nothing tells what has changed, so that all of it is read each time."""
    method, drill = collection.list_, drill_down(collection)
    by_parent = drill is not None and drill.changed_parents_only
    return method is not None and method.cursor is None and not by_parent


def _is_full(task: Task, mode: Mode) -> bool:
    collection = task.sync.collection
    return mode == "full" or _has_no_cursor(collection) or _is_scan_due(task.sync, task.lake)


def _is_scan_due(sync: ResolvedSync, lake: Lake) -> bool:
    """Whether it's time to read all: where only that finds deletions, or the source asks for it."""
    asked_for = "full_sync_interval_seconds" in sync.source.model_fields_set
    if not sync.collection.deletes.full_scan and not asked_for:
        return False
    last = lake.scanned_at(sync.stream)
    interval = timedelta(seconds=sync.source.full_sync_interval_seconds)
    # A time to come was noted by a clock that was wrong, and says nothing.
    return last is None or not timedelta(0) <= datetime.now(UTC) - last < interval
