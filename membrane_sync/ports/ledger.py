"""What the whole workspace knows: connections, runs and overrides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from membrane_sync.ports.connections import ConnectionRecord, ConnectionStatus
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


DEFAULT_INSTANCE = "default"
"""The instance of an element that a connection has, unless it asks for more of them by name."""


@dataclass(frozen=True)
class Override:
    """A value that a connection has of its own, set at run time, over what the files say.

    An element is identified by kind, key, connection and `instance_key`. `path` holds keys alone;
    an item of a list whose items have keys is named by its own. `parent` is the hash of what the
    files said at the path when it was made, so that a change on both sides can be told.
    """

    connection: str
    kind: str
    key: str
    path: tuple[str, ...]
    value: Any = None
    removed: bool = False
    parent: str = ""
    instance_key: str = DEFAULT_INSTANCE
    made_at: datetime | None = None


class Ledger(Protocol):
    """Connections, their encrypted credentials, their overrides, and runs."""

    def connections(self, integration: str = "") -> Sequence[ConnectionRecord]:
        """All connections, in order of key, without credentials."""
        ...

    def living(self) -> Mapping[str, Sequence[str]]:
        """The keys of all connections that aren't archived, by integration; costs little."""
        ...

    def connection(self, key: str) -> ConnectionRecord:
        """One connection with its credentials; raises NotConnected or SecretError."""
        ...

    def known(self, key: str) -> ConnectionRecord:
        """One connection without its credentials, which needn't be readable; or NotConnected."""
        ...

    def connect(self, record: ConnectionRecord) -> None:
        """Create the connection, or replace its credentials and input; a paused one stays so."""
        ...

    def set_status(
        self,
        key: str,
        status: ConnectionStatus,
        reason: str = "",
        *,
        among: Collection[ConnectionStatus] | None = None,
    ) -> bool:
        """Note how the connection stands; False where it stands otherwise than `among` these.

        Looks and writes in one step. Raises NotConnected where there's none.
        """
        ...

    def archive(self, key: str, reason: str = "", *, version: int | None = None) -> bool:
        """Wipe its credentials, and note that it's archived; raises NotConnected.

        False where its credentials are others by now than those of the `version`, if one is given.
        Whoever has got new credentials meanwhile can't store them any more: the version rises.
        """
        ...

    def disconnect(self, key: str) -> None:
        """Forget the connection, its credentials and its overrides; raises NotConnected."""
        ...

    def overrides(self, connection: str) -> Sequence[Override]:
        """All overrides of a connection, in order of kind, key, instance and path."""
        ...

    def override(self, connection: str, overrides: Sequence[Override]) -> None:
        """Keep them, all or none; each takes the place of those at its path and below it.

        Raises NotConnected.
        """
        ...

    def reset_overrides(
        self,
        connection: str,
        kind: str,
        key: str,
        path: Sequence[str] = (),
        instance_key: str = DEFAULT_INSTANCE,
    ) -> int:
        """Drop those at a path and below it, or all of the element; gives how many there were."""
        ...

    def record_run(self, run: RunRecord) -> None:
        """Write a run's beginning, and the same run again at its end."""
        ...

    def record_runs(self, runs: Sequence[RunRecord]) -> None:
        """Write several runs in one transaction."""
        ...

    def run(self, id: str, sync: str, connection: str) -> RunRecord | None:
        """One run; None if there is none."""
        ...

    def forget_runs(self, before: datetime) -> int:
        """Forget runs that began earlier, but for the newest of each connection and sync."""
        ...

    def last_runs(self) -> Sequence[RunRecord]:
        """The newest run of each connection and sync."""
        ...
