"""The ledger in memory: connections, with their overrides and runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from membrane_sync.errors import NotConnected
from membrane_sync.ports import ConnectionRecord, ConnectionStatus
from membrane_sync.testing.memory.overrides import MemoryOverrides
from membrane_sync.testing.memory.runs import MemoryRuns


class MemoryLedger:
    """Implements `ports.Ledger`; it keeps credentials as they are, in memory alone."""

    def __init__(self) -> None:
        self._connections: dict[str, ConnectionRecord] = {}
        self.overrides = MemoryOverrides(self.connection)
        self.runs = MemoryRuns()

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
        self.overrides.forget(key)


def _shown(record: ConnectionRecord) -> ConnectionRecord:
    return replace(record, credentials={}, input=record.plain_input, secret_fields=())
