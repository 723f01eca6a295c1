"""What the whole workspace knows of its connections."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from membrane_sync.ports.connections import ConnectionRecord, ConnectionStatus


class Ledger(Protocol):
    """Connections and their encrypted credentials."""

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
