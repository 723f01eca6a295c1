"""Runs: which sync of which connection ran when, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from membrane_sync.records import Report


@dataclass(frozen=True)
class RunRecord:
    """One sync of one connection, finished or not; `error` is empty if it went well."""

    id: str
    connection: str
    sync: str
    started_at: datetime
    finished_at: datetime | None = None
    report: Report | None = None
    error: str = ""


class Runs(Protocol):
    """The runs of all connections."""

    def record(self, runs: Sequence[RunRecord]) -> None:
        """Write runs at their beginning, and the same runs again at their end; all or none."""
        ...

    def find(self, id: str, sync: str, connection: str) -> RunRecord | None:
        """One run; None if there is none."""
        ...

    def forget(self, before: datetime) -> int:
        """Forget runs that began earlier, but for the newest of each connection and sync."""
        ...

    def newest(self) -> Sequence[RunRecord]:
        """The newest run of each connection and sync."""
        ...
