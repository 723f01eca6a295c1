"""Overrides in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from membrane_sync.ports import DEFAULT_INSTANCE, Override


class MemoryOverrides:
    """Implements `ports.Overrides`; `connection` raises NotConnected where there's none."""

    def __init__(self, connection: Callable[[str], object]) -> None:
        self._connection = connection
        self._overrides: list[Override] = []

    def of(self, connection: str) -> Sequence[Override]:
        mine = (o for o in self._overrides if o.connection == connection)
        return sorted(mine, key=lambda o: (o.kind, o.key, o.instance_key, o.path))

    def keep(self, connection: str, made: Sequence[Override]) -> None:
        self._connection(connection)
        for new in made:
            self.reset(connection, new.kind, new.key, new.path, new.instance_key)
            moment = new.made_at or datetime.now(UTC)
            self._overrides.append(replace(new, connection=connection, made_at=moment))

    def reset(
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

    def forget(self, connection: str) -> None:
        """Drop all that a connection has."""
        self._overrides = [o for o in self._overrides if o.connection != connection]
