"""Tenants, and what one of them may see of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from membrane_sync.ports.connections import ConnectionRecord, ConnectionStatus


@dataclass(frozen=True)
class Tenant:
    """One customer of the product; `fields` is what the product says of it."""

    key: str
    name: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


class Tenants(Protocol):
    """The product's customers, as its tokens and its backend tell of them."""

    def tenants(self, after: str, limit: int) -> Sequence[Tenant]:
        """The next tenants by key, after one of them, or after the empty text from the first."""
        ...

    def tenant(self, key: str) -> Tenant:
        """One tenant; raises NotFound."""
        ...

    def keep(
        self, key: str, *, name: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> Tenant:
        """The tenant, made if there's none; with this name and these fields where they're given."""
        ...

    def forget(self, key: str) -> None:
        """Forget what is said of it, and its events, but not its connections; raises NotFound."""
        ...


class TenantLedger(Protocol):
    """Connections as one tenant sees them: of another's it says that they aren't there.

    There's no way in it to name another tenant. Of the workspace, `tenant` is None: it sees all.
    """

    tenant: str | None

    def connections(
        self,
        after: str,
        limit: int,
        *,
        integration: str = "",
        status: ConnectionStatus | None = None,
    ) -> Sequence[ConnectionRecord]:
        """The next connections by key, after one of them or from the first, without credentials."""
        ...

    def connection(self, key: str) -> ConnectionRecord:
        """One connection without its credentials; raises NotConnected."""
        ...

    def opened(self, key: str) -> ConnectionRecord:
        """One connection with its credentials; raises NotConnected or SecretError."""
        ...

    def rename(self, key: str, name: str) -> None:
        """Give it another name for people; raises NotConnected."""
        ...
