"""How changes of a sync's records reach us: by what the app tells, and by polls beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from membrane_sync.elements.data_collection import CollectionEvent
from membrane_sync.events.wanted import events_of
from membrane_sync.ports import Timetable
from membrane_sync.project.resolved_sync import ResolvedSync

_TELLING = ("webhook", "connector_event")


def timetable(sync: ResolvedSync, covered: Collection[str] = ()) -> Timetable | None:
    """When the sync is due by itself; None if it never is.

    By its own schedule, if it declares one. Else by its data source's intervals: the one for polls
    if that's declared, or its app could tell of changes; the longer one for the streams that are
    `covered`, of which webhooks tell every change.
    """
    declared = sync.sync.schedule
    if declared is not None and declared.cron is not None:
        return Timetable(sync.sync.key, cron=declared.cron, timezone=declared.timezone)
    if declared is not None and declared.every_minutes is not None:
        return Timetable(sync.sync.key, every_seconds=declared.every_minutes * 60)
    seconds = _interval(sync, covered)
    return None if seconds is None else Timetable(sync.sync.key, every_seconds=seconds)


def timetables(syncs: Sequence[ResolvedSync], covered: Collection[str] = ()) -> list[Timetable]:
    """Those of the syncs that are due by themselves."""
    found = (timetable(sync, covered) for sync in syncs)
    return [table for table in found if table is not None]


def ways(sync: ResolvedSync, covered: Collection[str]) -> str:
    """How changes come, in words: `webhook, poll every 3 h`."""
    table = timetable(sync, covered)
    told = {event.type.replace("_", " ") for event in _telling(sync)}
    by = " and ".join(sorted(told)) if sync.stream in covered else _reading(sync)
    if table is None:
        return f"{by}, when asked to" if sync.stream not in covered else by
    often = f"by {table.cron}" if table.every_seconds is None else _every(table.every_seconds)
    return f"{by}, poll {often}" if sync.stream in covered else f"{by} {often}"


def _interval(sync: ResolvedSync, covered: Collection[str]) -> int | None:
    source = sync.source
    usual = source.pull_updates_interval_seconds
    is_declared = "pull_updates_interval_seconds" in source.model_fields_set
    if sync.stream in covered:
        safety = source.safety_poll_interval_seconds
        return max(usual, safety) if is_declared else safety
    return usual if is_declared or _telling(sync) else None


def _telling(sync: ResolvedSync) -> list[CollectionEvent]:
    return [e for e in events_of(sync.collection).values() if e.type in _TELLING]


def _reading(sync: ResolvedSync) -> str:
    """What kind of reading finds the changes."""
    method = sync.collection.list_
    cursor = method.cursor if method is not None else None
    if cursor is None:
        return "full scan"
    return "delta pull" if cursor.is_delta else "pull latest"


def _every(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"every {seconds // size} {unit}"
    return f"every {seconds} s"
