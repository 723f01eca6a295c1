"""Which syncs are due, and when each was settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from membrane_sync.ports.connections import ConnectionRecord


@dataclass(frozen=True)
class Timetable:
    """When a sync is due: every so many seconds, or by a cron expression."""

    sync: str
    every_seconds: int | None = None
    cron: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class DueItem:
    """One sync of one connection that a batch has claimed; `attempts` counts this one too."""

    connection: str
    timetable: Timetable
    attempts: int
    finished_at: datetime | None = None
    """When it was last finished, in one way or another."""

    @property
    def sync(self) -> str:
        """The sync's key."""
        return self.timetable.sync


@dataclass(frozen=True)
class Settled:
    """What became of a claimed item: when it's due again, and how it went, in one word."""

    connection: str
    sync: str
    due_at: float
    attempts: int
    result: str


class Due(Protocol):
    """What is due when, for all syncs of all connections; moments are seconds since 1970."""

    def unplanned(self, version: str, limit: int) -> Sequence[ConnectionRecord]:
        """Connections that are new, or whose timetables may be others since they were planned."""
        ...

    def plan(self, connection: str, tables: Sequence[Timetable], version: str) -> None:
        """Keep a row for each of the connection's timetables, and no other row."""
        ...

    def replan(self, connection: str) -> None:
        """Have the connection's timetables looked at again: they may be others by now."""
        ...

    def claim(self, most: int, batch_size: int, seconds: float) -> Sequence[str]:
        """Claim what is due for `seconds`, oldest first; gives the names of the new batches.

        All of one connection's items are in one batch. One whose claim ran out more than once may
        be what kills its batches: its connection gets a batch of its own.
        """
        ...

    def items(self, batch: str) -> Sequence[DueItem]:
        """The items that the batch still has claimed, by connection and sync."""
        ...

    def renew(self, batch: str, seconds: float) -> None:
        """Claim what the batch has not settled yet for so much longer."""
        ...

    def settle(self, batch: str, settled: Sequence[Settled]) -> None:
        """Give items back, unless another batch has claimed them meanwhile."""
        ...
