"""The five verbs in the order data flows: pull → store → map → link → push.

Each stage can run alone, in a process of its own, and takes up where the last one left off; that's
how the assets of `orchestration/` call them.
"""

from __future__ import annotations

from time import monotonic

from membrane_sync.errors import DestinationError
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Report
from membrane_sync.sync.collection import Bounds
from membrane_sync.sync.lookup import Answering
from membrane_sync.sync.map import map_stream
from membrane_sync.sync.pull import Mode
from membrane_sync.sync.push import link_and_push
from membrane_sync.sync.read import Parties, Task, finish, read
from membrane_sync.sync.store import Progress

__all__ = [
    "Parties",
    "deliver_records",
    "map_records",
    "new_report",
    "pull_and_store",
    "run_sync",
    "silent",
]


def silent(verb: str, report: Report) -> None:
    """Progress for those who don't look."""


def run_sync(
    sync: ResolvedSync,
    parties: Parties,
    *,
    mode: Mode = "incremental",
    bounds: Bounds | None = None,
    run_id: str = "",
    progress: Progress = silent,
    report: Report | None = None,
    look: bool = True,
    allow_deletions: bool = False,
) -> Report:
    """Sync one connection from end to end, and report what happened.

    `report` is filled as the sync goes on, for one who wants the numbers of a sync that fails, too.
    A full scan that is refused deletes nothing; what else it brought is delivered all the same.
    With `bounds`, what has a time between them is read, and the cursor stays where it is. Without
    `look`, where nothing changed, nobody looks whether the product's rows are still there. With
    `allow_deletions`, a full scan may delete more than the collection's `max_share`.
    """
    report = report or new_report(sync, parties)
    started = monotonic()
    task = Task(sync, parties, report, progress, mode, bounds, run_id, allow_deletions)
    done = read(task)
    try:
        finish(task, done)
    finally:
        map_records(sync, parties, report, progress=progress)
        deliver_records(sync, parties, report, progress=progress, look=look)
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
    bounds: Bounds | None = None,
    run_id: str = "",
    progress: Progress = silent,
    allow_deletions: bool = False,
) -> None:
    """1 and 2: bring the app's changed records, or with mode `full` all of them, into the lake.

    Where only a full scan finds deletions, or the data source declares the interval, one is due
    every `full_sync_interval_seconds`. It deletes nothing if a record came without an id: that may
    be any of those that seem to be gone.
    """
    task = Task(sync, parties, report, progress, mode, bounds, run_id, allow_deletions)
    finish(task, read(task))


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
    sync: ResolvedSync,
    parties: Parties,
    report: Report,
    *,
    progress: Progress = silent,
    look: bool = True,
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
        look=look,
    )
