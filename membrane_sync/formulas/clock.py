"""The time that `$now` gives: the clock's, or one that is held still for a whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

_HELD: Final[ContextVar[datetime | None]] = ContextVar("held", default=None)


def now() -> datetime:
    """The present time in UTC, or the one that is held."""
    return _HELD.get() or datetime.now(UTC)


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Hold the time within the block, so that all records of a batch have the same one."""
    token = _HELD.set(moment.astimezone(UTC))
    try:
        yield
    finally:
        _HELD.reset(token)


def text_of(moment: datetime) -> str:
    """The moment in ISO 8601, in UTC, with as much of the second as it has.

    >>> text_of(datetime(2024, 5, 7, 4, tzinfo=UTC))
    '2024-05-07T04:00:00Z'
    """
    part = "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
    part = part if moment.microsecond else "seconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=part) + "Z"
