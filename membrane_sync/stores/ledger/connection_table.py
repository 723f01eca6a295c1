"""The ledger's table of connections; what else speaks of one has its key."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import NotConnected
from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.ledger.database import aware, metadata
from membrane_sync.stores.ledger.sealed import sealed_column

connections = sa.Table(
    "membrane_connections",
    metadata,
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("integration", sa.String(100), nullable=False, index=True),
    sa.Column("tenant", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("input", sa.JSON, nullable=False),
    sealed_column("credentials", "{key}"),
    sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
    # Since version 4; an older ledger gets them with these defaults.
    sa.Column("option", sa.String(100), nullable=False, server_default=""),
    sa.Column("status", sa.String(20), nullable=False, server_default="ready"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("expires_at", sa.Double),
    sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refused_at", sa.Double),
    # Since version 5.
    sealed_column("secret_input", "{key}/input", server_default=""),
    # Since version 6.
    sa.Column("account", sa.String(255), nullable=False, server_default=""),
)

living = sa.select(connections.c.key).where(connections.c.status != "archived")
"""The keys of those that may be used again."""

resting = sa.select(connections.c.key).where(connections.c.status != "ready")
"""The keys of those that nothing is done for by itself."""


def connection_record(row: Any) -> ConnectionRecord:
    """The connection of a row, without its secrets."""
    return ConnectionRecord(
        key=row.key,
        integration=row.integration,
        tenant=row.tenant,
        name=row.name,
        input=row.input,
        connected_at=aware(row.connected_at),
        option=row.option,
        status=row.status,
        reason=row.reason,
        version=row.version,
        expires_at=row.expires_at,
        refusals=row.refusals,
        account=row.account,
    )


def not_connected(key: str) -> NotConnected:
    """The error that says so, to whoever may see all connections."""
    return NotConnected(
        f"there is no connection {key!r}",
        hint="see `membrane status` for those there are, or make it: membrane connect",
    )
