"""Runs in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from membrane_sync.ports import RunRecord


class MemoryRuns:
    """Implements `ports.Runs`."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str], RunRecord] = {}

    def record(self, runs: Sequence[RunRecord]) -> None:
        for run in runs:
            self._runs[run.id, run.sync, run.connection] = run

    def find(self, id: str, sync: str, connection: str) -> RunRecord | None:
        return self._runs.get((id, sync, connection))

    def forget(self, before: datetime) -> int:
        kept = {(run.id, run.sync, run.connection) for run in self.newest()}
        old = [k for k, run in self._runs.items() if run.started_at < before and k not in kept]
        for key in old:
            del self._runs[key]
        return len(old)

    def newest(self) -> Sequence[RunRecord]:
        newest: dict[tuple[str, str], RunRecord] = {}
        for run in sorted(self._runs.values(), key=lambda run: run.started_at):
            newest[run.connection, run.sync] = run
        return [newest[key] for key in sorted(newest)]
