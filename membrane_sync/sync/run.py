"""The five verbs in the order data flows: pull → store → map → link → push.

Each stage can run alone, in a process of its own, and takes up where the last one left off; that's
how the assets of `orchestration/` call them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from membrane_sync.errors import DestinationError, UnexpectedAnswer
from membrane_sync.ports import Api, ConnectionRecord, Destination, Lake, Owner
from membrane_sync.project.families import drill_down
from membrane_sync.project.project import ResolvedSync
from membrane_sync.records import Report
from membrane_sync.sync.ahead import ahead
from membrane_sync.sync.collection import TokenExpired
from membrane_sync.sync.cursor import marked, stored_value
from membrane_sync.sync.family import Household, read_below, scope_of
from membrane_sync.sync.lookup import Answering
from membrane_sync.sync.map import map_stream
from membrane_sync.sync.pull import Mode, Pulled, Reading, pull
from membrane_sync.sync.push import link_and_push
from membrane_sync.sync.resume import Beginning, Trail, fingerprint, unfinished
from membrane_sync.sync.store import Progress, finish_scan, new_scan, store
from membrane_sync.sync.visits import Visits


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
class _Read:
    """A reading that came to its end; `whole` if all that came has an id."""

    reading: Reading
    trail: Trail | Visits
    whole: bool


def silent(verb: str, report: Report) -> None:
    """Progress for those who don't look."""


def run_sync(
    sync: ResolvedSync,
    parties: Parties,
    *,
    mode: Mode = "incremental",
    run_id: str = "",
    progress: Progress = silent,
    report: Report | None = None,
) -> Report:
    """Sync one connection from end to end, and report what happened.

    `report` is filled as the sync goes on, for one who wants the numbers of a sync that fails, too.
    A full scan that is refused deletes nothing; what else it brought is delivered all the same.
    """
    report = report or new_report(sync, parties)
    started = monotonic()
    read = _read(sync, parties, report, mode, run_id, progress)
    try:
        _finish(sync, parties, report, read)
        if read.trail.resumed:
            _catch_up(sync, parties, report, run_id, progress)
    finally:
        map_records(sync, parties, report, progress=progress)
        deliver_records(sync, parties, report, progress=progress)
        report.seconds = monotonic() - started
    return report


def new_report(sync: ResolvedSync, parties: Parties) -> Report:
    """An empty report with its names."""
    return Report(sync.sync.key, sync.integration.key, parties.connection.key)


def pull_and_store(
    sync: ResolvedSync,
    parties: Parties,
    report: Report,
    *,
    mode: Mode = "incremental",
    run_id: str = "",
    progress: Progress = silent,
) -> None:
    """1 and 2: bring the app's changed records, or with mode `full` all of them, into the lake.

    Where only a full scan finds deletions, one is due every `full_sync_interval_seconds`. It
    deletes nothing if a record came without an id: that may be any of those that seem to be gone.
    """
    read = _read(sync, parties, report, mode, run_id, progress)
    _finish(sync, parties, report, read)
    if read.trail.resumed:
        _catch_up(sync, parties, report, run_id, progress)


def _read(
    sync: ResolvedSync,
    parties: Parties,
    report: Report,
    mode: Mode,
    run_id: str,
    progress: Progress,
) -> _Read:
    """Read and store; gives the reading, and how it ended."""
    stored = _stored_cursor(sync, parties.lake)
    report.cursor_from = report.cursor_to = "" if stored is None else str(stored)
    full = mode == "full" or _has_no_cursor(sync) or _is_scan_due(sync, parties.lake)
    reading = Reading(
        collection=sync.collection,
        stream=sync.stream,
        scope=scope_of(sync, parties.connection),
        cursor=stored,
        full=full,
        run_id=run_id or uuid.uuid4().hex,
        scan=new_scan() if full and sync.collection.deletes.full_scan else "",
    )
    before, skipped = parties.api.requests, parties.api.skipped
    if drill_down(sync.collection) is not None:
        try:
            return _read_below(sync, parties, report, reading, mode, progress)
        finally:
            report.requests += parties.api.requests - before
            report.skipped += parties.api.skipped - skipped
    reading, trail = _begun(sync, reading, parties.lake)
    try:
        whole = _stored(sync, parties, report, reading, trail, progress)
    except TokenExpired:
        # Nothing was read yet; what was deleted since is only told by all that's there.
        trail.end()
        scan = new_scan() if sync.collection.deletes.full_scan else ""
        reading = replace(reading, cursor=None, full=True, scan=scan)
        reading, trail = _begun(sync, reading, parties.lake)
        whole = _stored(sync, parties, report, reading, trail, progress)
    except UnexpectedAnswer:
        # What was kept may be what the app doesn't understand any more, as a token that expired.
        if trail.resumed:
            trail.end()
        raise
    finally:
        report.requests += parties.api.requests - before
        report.skipped += parties.api.skipped - skipped
    return _Read(reading, trail, whole)


def _stored(
    sync: ResolvedSync,
    parties: Parties,
    report: Report,
    reading: Reading,
    trail: Trail,
    progress: Progress,
) -> bool:
    pages = ahead(_marked(sync, pull(reading, parties.api, trail)))
    return store(pages, parties.lake, report, progress, trail.commit)


def _read_below(
    sync: ResolvedSync,
    parties: Parties,
    report: Report,
    reading: Reading,
    mode: Mode,
    progress: Progress,
) -> _Read:
    """Read the lists below each parent, after the parents themselves, which aren't counted."""

    def bring(above: ResolvedSync) -> None:
        parents = new_report(above, parties)
        try:
            pull_and_store(
                above,
                parties,
                parents,
                mode=mode,
                run_id=reading.run_id,
                progress=lambda verb, _: progress(verb, report),
            )
        finally:
            report.pages += parents.pages
            report.failed += parents.failed

    house = Household(parties.connection, parties.api, parties.lake, report, progress, bring)
    return _Read(*read_below(sync, reading, house))


def _catch_up(
    sync: ResolvedSync, parties: Parties, report: Report, run_id: str, progress: Progress
) -> None:
    """After a reading that began in an earlier sync: what changed since, if a cursor tells."""
    drill = drill_down(sync.collection)
    if drill is not None and not drill.changed_parents_only:
        return  # it would be a request for each parent: the next sync makes them
    if not _has_no_cursor(sync):
        read = _read(sync, parties, report, "incremental", run_id, progress)
        _finish(sync, parties, report, read)


def _begun(sync: ResolvedSync, reading: Reading, lake: Lake) -> tuple[Reading, Trail]:
    """The reading and its trail: of the same reading that was cut off, if there's one."""
    log = lake.page_log(sync.stream)
    of = fingerprint(sync.collection_version, reading.scope, reading.full, bool(reading.scan))
    begun = unfinished(log, of)
    if begun is None:
        fresh = Beginning(new_scan(), of, datetime.now(UTC), reading.cursor, scan=reading.scan)
        return replace(reading, started_at=fresh.started_at), Trail(log, fresh)
    reading = replace(
        reading,
        cursor=begun.cursor,
        asked=begun.asked,
        scan=begun.scan,
        started_at=begun.started_at,
    )
    committed = max(begun.first_page, lake.pages(sync.stream, begun.name))
    return reading, Trail(log, begun, resumed=True, committed=committed)


def _finish(sync: ResolvedSync, parties: Parties, report: Report, read: _Read) -> None:
    reading = read.reading
    try:
        if reading.scan and read.whole:
            share = sync.collection.deletes.max_share
            finish_scan(parties.lake, sync.stream, reading.scan, share, reading.run_id, report)
    finally:
        read.trail.end()


def _stored_cursor(sync: ResolvedSync, lake: Lake) -> Any:
    cursor = sync.collection.list_.cursor if sync.collection.list_ else None
    return None if cursor is None else stored_value(cursor, lake.cursor(sync.stream))


def _marked(sync: ResolvedSync, pages: Iterator[Pulled]) -> Iterator[Pulled]:
    cursor = sync.collection.list_.cursor if sync.collection.list_ else None
    for page in pages:
        value = page.batch.cursor
        moved = value if cursor is None else marked(cursor, value)
        yield replace(page, batch=replace(page.batch, cursor=moved))


def map_records(
    sync: ResolvedSync, parties: Parties, report: Report, *, progress: Progress = silent
) -> None:
    """3: map what changed in the lake."""
    map_stream(
        parties.lake,
        sync.sync.key,
        sync.stream,
        sync.mapping,
        sync.schema,
        sync.version,
        report,
        progress,
        Answering(parties.lake, sync.names, sync.links.key, sync.instance_key),
        sync.names.function,
    )


def deliver_records(
    sync: ResolvedSync, parties: Parties, report: Report, *, progress: Progress = silent
) -> None:
    """4 and 5: link mapped records and write them to the product's database."""
    if sync.schema is None:
        raise DestinationError(
            f"sync {sync.sync.key!r}: its field mapping names no data schema",
            hint="add `data_schema` to the field mapping",
        )
    link_and_push(
        parties.lake,
        parties.destination,
        sync.sync,
        sync.links,
        sync.schema,
        parties.owner,
        report,
        progress,
        sync.instance_key,
    )


def _has_no_cursor(sync: ResolvedSync) -> bool:
    """Whether nothing tells what has changed, so that all of it is read each time."""
    method, drill = sync.collection.list_, drill_down(sync.collection)
    by_parent = drill is not None and drill.changed_parents_only
    return method is not None and method.cursor is None and not by_parent


def _is_scan_due(sync: ResolvedSync, lake: Lake) -> bool:
    if not sync.collection.deletes.full_scan:
        return False
    last = lake.scanned_at(sync.stream)
    interval = timedelta(seconds=sync.source.full_sync_interval_seconds)
    # A time to come was noted by a clock that was wrong, and says nothing.
    return last is None or not timedelta(0) <= datetime.now(UTC) - last < interval
