"""The ledger in memory: connections, overrides and runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from membrane_sync.errors import NotConnected
from membrane_sync.ports import (
    DEFAULT_INSTANCE,
    ConnectionRecord,
    ConnectionStatus,
    Override,
    RunRecord,
)


class MemoryLedger:
    """Implements `ports.Ledger`; it keeps credentials as they are, in memory alone."""

    def __init__(self) -> None:
        self._connections: dict[str, ConnectionRecord] = {}
        self._overrides: list[Override] = []
        self._runs: dict[tuple[str, str, str], RunRecord] = {}

    def connections(self, integration: str = "") -> Sequence[ConnectionRecord]:
        return [
            _shown(record)
            for _, record in sorted(self._connections.items())
            if integration in ("", record.integration)
        ]

    def connection(self, key: str) -> ConnectionRecord:
        if key not in self._connections:
            raise NotConnected(f"there is no connection {key!r}")
        return self._connections[key]

    def living(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for record in self._connections.values():
            if record.status != "archived":
                found.setdefault(record.integration, []).append(record.key)
        return found

    def known(self, key: str) -> ConnectionRecord:
        return _shown(self.connection(key))

    def archive(self, key: str, reason: str = "", *, version: int | None = None) -> bool:
        record = self.connection(key)
        if version not in (None, record.version):
            return False
        self._connections[key] = replace(
            _shown(record),
            status="archived",
            reason=reason,
            version=record.version + 1,
            expires_at=None,
        )
        return True

    def connect(self, record: ConnectionRecord) -> None:
        moment = record.connected_at or datetime.now(UTC)
        known = self._connections.get(record.key)
        version = known.version + 1 if known else 1
        if known and known.status == "paused":
            record = replace(record, status="paused", reason=known.reason)
        self._connections[record.key] = replace(record, connected_at=moment, version=version)

    def set_status(
        self,
        key: str,
        status: ConnectionStatus,
        reason: str = "",
        *,
        among: Collection[ConnectionStatus] | None = None,
    ) -> bool:
        known = self.connection(key)
        if among is not None and known.status not in among:
            return False
        self._connections[key] = replace(known, status=status, reason=reason)
        return True

    def disconnect(self, key: str) -> None:
        self.connection(key)
        del self._connections[key]
        self._overrides = [o for o in self._overrides if o.connection != key]

    def overrides(self, connection: str) -> Sequence[Override]:
        mine = (o for o in self._overrides if o.connection == connection)
        return sorted(mine, key=lambda o: (o.kind, o.key, o.instance_key, o.path))

    def override(self, connection: str, overrides: Sequence[Override]) -> None:
        self.connection(connection)
        for new in overrides:
            self.reset_overrides(connection, new.kind, new.key, new.path, new.instance_key)
            moment = new.made_at or datetime.now(UTC)
            self._overrides.append(replace(new, connection=connection, made_at=moment))

    def reset_overrides(
        self,
        connection: str,
        kind: str,
        key: str,
        path: Sequence[str] = (),
        instance_key: str = DEFAULT_INSTANCE,
    ) -> int:
        element = (connection, kind, key, instance_key)
        kept = [
            o
            for o in self._overrides
            if (o.connection, o.kind, o.key, o.instance_key) != element
            or o.path[: len(path)] != tuple(path)
        ]
        dropped = len(self._overrides) - len(kept)
        self._overrides = kept
        return dropped

    def record_run(self, run: RunRecord) -> None:
        self._runs[run.id, run.sync, run.connection] = run

    def record_runs(self, runs: Sequence[RunRecord]) -> None:
        for run in runs:
            self.record_run(run)

    def run(self, id: str, sync: str, connection: str) -> RunRecord | None:
        return self._runs.get((id, sync, connection))

    def forget_runs(self, before: datetime) -> int:
        kept = {(run.id, run.sync, run.connection) for run in self.last_runs()}
        old = [k for k, run in self._runs.items() if run.started_at < before and k not in kept]
        for key in old:
            del self._runs[key]
        return len(old)

    def last_runs(self) -> Sequence[RunRecord]:
        newest: dict[tuple[str, str], RunRecord] = {}
        for run in sorted(self._runs.values(), key=lambda run: run.started_at):
            newest[run.connection, run.sync] = run
        return [newest[key] for key in sorted(newest)]


def _shown(record: ConnectionRecord) -> ConnectionRecord:
    return replace(record, credentials={}, input=record.plain_input, secret_fields=())
