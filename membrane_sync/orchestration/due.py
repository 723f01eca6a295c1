"""When a sync is due, and when again after it went well, failed, or could not begin."""

import hashlib
import random
from datetime import UTC, datetime

from membrane_sync.elements.schedule import next_time
from membrane_sync.errors import LockTimeout, MembraneError, RateLimited, Retryable
from membrane_sync.events.polling import timetables
from membrane_sync.ports import DueItem, Settled, Timetable
from membrane_sync.project.project import Project

BUSY_SECONDS = 30.0
"""A connection that another run holds is tried again after so long; that counts as no attempt."""

DAY = 86_400

FIRST_BACK_OFF = {True: 30.0, False: 300.0}
LONGEST_BACK_OFF = {True: 3_600.0, False: 21_600.0}
"""Seconds, for what another try may mend, and for what it won't."""


def plan_version(project: Project) -> str:
    """Hash of all that the files say of when something is due, for anyone."""
    places = [(integration, "") for integration in project.integrations]
    for key in project.connections:
        declared = project.connection(key)
        if declared is not None and declared.integration in project.integrations:
            places.append((declared.integration, key))
    said = []
    for place in places:
        syncs = project.syncs(*place)
        told = {sync.stream for sync in syncs}
        said.append((place, timetables(syncs), timetables(syncs, told)))
    return hashlib.sha256(repr(said).encode()).hexdigest()


def next_due(connection: str, table: Timetable, after: float) -> float:
    """When a sync is due after a moment.

    Those of one interval are spread over it, each with a place of its own that stays the same, so
    that not all customers are asked for in the same second.
    """
    if table.every_seconds is None:
        moment = datetime.fromtimestamp(after, UTC)
        return next_time(table.cron, table.timezone, moment).timestamp()
    every = table.every_seconds
    place = _place(f"{connection}/{table.sync}", every)
    return (after - place) // every * every + every + place


def _place(name: str, every: int) -> int:
    """A second of the interval, always the same for this name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % every


def is_time_to_look(item: DueItem, now: float) -> bool:
    """Whether to see if the product's rows are still there, though nothing changed: once a day."""
    if item.finished_at is None or item.attempts > 1:
        return True
    place = _place(f"{item.connection}/{item.sync}", DAY)
    return (item.finished_at.timestamp() - place) // DAY != (now - place) // DAY


def went_well(item: DueItem, now: float) -> Settled:
    """Due again by its timetable."""
    due = next_due(item.connection, item.timetable, now)
    return Settled(item.connection, item.sync, due, 0, "ok")


def was_stopped(item: DueItem, now: float) -> Settled:
    """Not finished, and not to blame: due at once."""
    return Settled(item.connection, item.sync, now, item.attempts - 1, "stopped")


def failed(item: DueItem, error: MembraneError, now: float) -> Settled:
    """Due later each time: soon, if another try may mend it, and when the app said, if it did."""
    if isinstance(error, LockTimeout):
        due, attempts = now + BUSY_SECONDS, item.attempts - 1
        return Settled(item.connection, item.sync, due, attempts, error.code)
    soon = isinstance(error, Retryable)
    longest = LONGEST_BACK_OFF[soon]
    wait = min(FIRST_BACK_OFF[soon] * 2.0 ** min(item.attempts - 1, 20), longest)
    # Many that fail together, because their app is down, don't come back together.
    wait *= random.uniform(0.75, 1.25)  # noqa: S311
    if isinstance(error, RateLimited) and error.retry_after is not None:
        wait = max(wait, error.retry_after)
    due = now + wait
    if not soon:
        due = max(due, next_due(item.connection, item.timetable, now))
    return Settled(item.connection, item.sync, due, item.attempts, error.code)
