"""Tenants, and the ledger as one of them sees it: every query here is bound to a tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import NotConnected, NotFound
from membrane_sync.ports import ConnectionRecord, ConnectionStatus, Tenant
from membrane_sync.stores.ledger.connection_table import connection_record, connections
from membrane_sync.stores.ledger.database import LedgerDatabase, aware, metadata
from membrane_sync.stores.ledger.event_retention import forget_events_of
from membrane_sync.stores.sql_insert import inserting

_tenants = sa.Table(
    "membrane_tenants",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)


def mention(transaction: sa.Connection, tenant: str) -> None:
    """Make sure that there's such a tenant."""
    new = {"key": tenant, "name": "", "fields": {}, "created_at": datetime.now(UTC)}
    transaction.execute(inserting(transaction)(_tenants).values(new).on_conflict_do_nothing())


class SqlTenants:
    """Implements `ports.Tenants` in the ledger's database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def tenants(self, after: str, limit: int) -> Sequence[Tenant]:
        with self._database.begin() as transaction:
            key = _bytewise(_tenants.c.key, transaction)
            query = sa.select(_tenants).where(key > after).order_by(key).limit(limit)
            return [_tenant(row) for row in transaction.execute(query)]

    def tenant(self, key: str) -> Tenant:
        query = sa.select(_tenants).where(_tenants.c.key == key)
        with self._database.begin() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise _no_tenant(key)
        return _tenant(row)

    def keep(
        self, key: str, *, name: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> Tenant:
        here = _tenants.c.key == key
        query = sa.select(_tenants).where(here)
        given: dict[str, Any] = {} if name is None else {"name": name}
        given |= {} if fields is None else {"fields": dict(fields)}
        with self._database.begin() as transaction:
            row = transaction.execute(query).one_or_none()
            if row is None:
                mention(transaction, key)
                row = transaction.execute(query).one()
            if any(getattr(row, column) != value for column, value in given.items()):
                transaction.execute(sa.update(_tenants).where(here).values(given))
                row = transaction.execute(query).one()
        return _tenant(row)

    def forget(self, key: str) -> None:
        self.tenant(key)
        # First: who asks again after a crash goes on with it.
        forget_events_of(self._database, key)
        with self._database.begin() as transaction:
            if not transaction.execute(sa.delete(_tenants).where(_tenants.c.key == key)).rowcount:
                raise _no_tenant(key)


class SqlTenantLedger:
    """Implements `ports.TenantLedger`; `_mine` is in the condition of every query."""

    def __init__(
        self,
        database: LedgerDatabase,
        open_key: Callable[[str], ConnectionRecord],
        tenant: str | None,
    ) -> None:
        self.tenant = tenant
        self._database = database
        self._open_key = open_key
        self._mine = sa.true() if tenant is None else connections.c.tenant == tenant

    def connections(
        self,
        after: str,
        limit: int,
        *,
        integration: str = "",
        status: ConnectionStatus | None = None,
    ) -> Sequence[ConnectionRecord]:
        query = sa.select(connections).where(self._mine)
        if integration:
            query = query.where(connections.c.integration == integration)
        if status is not None:
            query = query.where(connections.c.status == status)
        with self._database.begin() as transaction:
            key = _bytewise(connections.c.key, transaction)
            page = query.where(key > after).order_by(key).limit(limit)
            return [connection_record(row) for row in transaction.execute(page)]

    def connection(self, key: str) -> ConnectionRecord:
        return connection_record(self._row(key))

    def opened(self, key: str) -> ConnectionRecord:
        return self._open_key(self._row(key).key)

    def rename(self, key: str, name: str) -> None:
        renamed = sa.update(connections).where(self._here(key)).values(name=name)
        with self._database.begin() as transaction:
            if not transaction.execute(renamed).rowcount:
                raise _not_there(key)

    def _here(self, key: str) -> sa.ColumnElement[bool]:
        return sa.and_(connections.c.key == key, self._mine)

    def _row(self, key: str) -> Any:
        query = sa.select(connections).where(self._here(key))
        with self._database.begin() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise _not_there(key)
        return row


def _bytewise(column: sa.Column[str], transaction: sa.Connection) -> sa.ColumnElement[str]:
    """The column in an order that doesn't depend on the database's locale, so pages fit."""
    return sa.collate(column, "C") if transaction.dialect.name == "postgresql" else column


def _not_there(key: str) -> NotConnected:
    """Says the same of another tenant's connection as of one that isn't there."""
    return NotConnected(f"there is no connection {key!r}", hint="GET /connections lists yours")


def _no_tenant(key: str) -> NotFound:
    return NotFound(f"there is no tenant {key!r}", hint="GET /tenants lists those there are")


def _tenant(row: Any) -> Tenant:
    return Tenant(row.key, row.name, row.fields, aware(row.created_at))
