"""The ledger: connections with sealed credentials, and what goes by them; SQLite or PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from membrane_sync.errors import Fatal, LockTimeout, MembraneError, SecretError
from membrane_sync.ports import ConnectionRecord, ConnectionStatus, Vault
from membrane_sync.stores.ledger.checkups import SqlCheckups, check_up
from membrane_sync.stores.ledger.connection_requests import SqlConnectionRequests
from membrane_sync.stores.ledger.connection_table import (
    connection_record,
    connections,
    not_connected,
)
from membrane_sync.stores.ledger.credentials import SqlCredentials, refreshes
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.due import SqlDue, due, make_due, planned
from membrane_sync.stores.ledger.event_log import SqlEventLog, SqlWebhookLog
from membrane_sync.stores.ledger.event_retention import forget_events
from membrane_sync.stores.ledger.event_tables import checkups, subscriptions
from membrane_sync.stores.ledger.inbox import SqlInbox
from membrane_sync.stores.ledger.input import SqlInput
from membrane_sync.stores.ledger.leases import SqlLeases
from membrane_sync.stores.ledger.overrides import SqlOverrides, overrides
from membrane_sync.stores.ledger.product_subscriptions import SqlProductSubscriptions
from membrane_sync.stores.ledger.runs import SqlRuns
from membrane_sync.stores.ledger.sealed import SqlSecrets
from membrane_sync.stores.ledger.subscriptions import SqlSubscriptions
from membrane_sync.stores.ledger.tenants import SqlTenantLedger, SqlTenants, mention
from membrane_sync.stores.ledger.webhook_counts import SqlWebhookCounts

_TRIES = 10

_IDENTITY = ("key", "tenant", "integration")
"""What a connection is known by; none of it ever changes."""


class SqlLedger:
    """Implements `ports.Ledger` through SQLAlchemy."""

    def __init__(self, url: str, vault: Vault, *, lease_seconds: float = 30.0) -> None:
        self._database = LedgerDatabase(url)
        self._vault = vault
        self.runs = SqlRuns(self._database)
        self.overrides = SqlOverrides(self._database)
        self.leases = SqlLeases(self._database, lease_seconds)
        self.due = SqlDue(self._database)
        self.requests = SqlConnectionRequests(self._database, vault)
        self.tenants = SqlTenants(self._database)
        self.credentials = SqlCredentials(self._database, vault)
        self.secrets = SqlSecrets(self._database, vault)
        self.inbox = SqlInbox(self._database)
        self.webhooks = SqlWebhookLog(self._database)
        self.webhook_counts = SqlWebhookCounts(self._database)
        self.product_subscriptions = SqlProductSubscriptions(self._database, vault)
        self.subscriptions = SqlSubscriptions(self._database, vault)
        self.input = SqlInput(self._database, vault)
        self.checkups = SqlCheckups(self._database)

    def close(self) -> None:
        """Give back the database connections."""
        self.leases.close()
        self._database.close()

    def for_tenant(self, tenant: str | None) -> SqlTenantLedger:
        """The connections of one tenant and no other; of the whole workspace with None."""
        return SqlTenantLedger(self._database, self.connection, tenant)

    def event_log(self, tenant: str | None) -> SqlEventLog:
        """The events of one tenant and no other; of the whole workspace with None."""
        return SqlEventLog(self._database, tenant)

    def forget_events(self, before: datetime) -> Mapping[str, int]:
        """Delete webhooks and events that ended earlier; gives how many of each."""
        return forget_events(self._database, before.timestamp())

    def connections(self, integration: str = "") -> Sequence[ConnectionRecord]:
        query = sa.select(connections)
        if integration:
            query = query.where(connections.c.integration == integration)
        with self._database.reading() as transaction:
            found = [connection_record(row) for row in transaction.execute(query)]
        # Not by the database, whose order depends on its locale.
        return sorted(found, key=lambda record: record.key)

    def living(self) -> Mapping[str, Sequence[str]]:
        query = sa.select(connections.c.integration, connections.c.key)
        found: dict[str, list[str]] = defaultdict(list)
        with self._database.reading() as transaction:
            for row in transaction.execute(query.where(connections.c.status != "archived")):
                found[row.integration].append(row.key)
        return found

    def connection(self, key: str) -> ConnectionRecord:
        row = self._row(key)
        try:
            return self._opened(row)
        except SecretError:
            # What was replaced after it was read may be gone from an external store.
            newer = self._row(key)
            if newer.credentials == row.credentials and newer.secret_input == row.secret_input:
                raise
            return self._opened(newer)

    def _opened(self, row: Any) -> ConnectionRecord:
        secret = self._vault.open(row.secret_input, f"{row.key}/input") if row.secret_input else {}
        return replace(
            connection_record(row),
            credentials=self._vault.open(row.credentials, row.key),
            input={**row.input, **secret},
            secret_fields=tuple(secret),
        )

    def known(self, key: str) -> ConnectionRecord:
        return connection_record(self._row(key))

    def _row(self, key: str) -> Any:
        query = sa.select(connections).where(connections.c.key == key)
        with self._database.reading() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise not_connected(key)
        return row

    def connect(self, record: ConnectionRecord) -> None:
        values = self._values(record)
        # Its tenant is in the condition: nobody takes over another's key, not in a race either.
        here = sa.and_(*(connections.c[n] == getattr(record, n) for n in _IDENTITY))
        with self._begin() as transaction:
            mention(transaction, record.tenant)
            former = transaction.execute(_sealed(here)).one_or_none()
            if former is not None and former.status == "paused":
                values |= {"status": "paused", "reason": former.reason}
            # The version always rises: credentials that are in use somewhere are told by it.
            newer = sa.update(connections).where(here)
            newer = newer.values(values | {"version": connections.c.version + 1})
            if not transaction.execute(newer).rowcount:
                _insert(transaction, {"key": record.key, "version": 1, **values})
            # What failed may go well with other credentials: it's due at once. So is all of a
            # connection that had to be connected anew.
            if former is None or former.status == "ready":
                make_due(transaction, record.key, due.c.attempts > 0)
            else:
                make_due(transaction, record.key)
            check_up(transaction, record.key, all_of_them=True)
        if former is not None:
            with suppress(MembraneError):  # At worst, an external store keeps an entry too many.
                self._forget(record.key, former)

    def _values(self, record: ConnectionRecord) -> dict[str, Any]:
        secret = record.secrets["input"]
        return {
            "integration": record.integration,
            "tenant": record.tenant,
            "name": record.name,
            "input": record.plain_input,
            "credentials": self._vault.seal(record.credentials, record.key),
            "connected_at": record.connected_at or datetime.now(UTC),
            "option": record.option,
            "status": record.status,
            "reason": record.reason,
            "expires_at": record.expires_at,
            "refusals": 0,
            "account": record.account,
            "secret_input": self._vault.seal(secret, f"{record.key}/input") if secret else "",
        }

    def _forget(self, key: str, sealed: Any) -> None:
        """Let an external store, if there is one, delete what it has kept for these texts."""
        self._vault.forget(sealed.credentials, key)
        self._vault.forget(sealed.secret_input, f"{key}/input")

    def set_status(
        self,
        key: str,
        status: ConnectionStatus,
        reason: str = "",
        *,
        among: Collection[ConnectionStatus] | None = None,
    ) -> bool:
        here = connections.c.key == key
        fitting = here if among is None else sa.and_(here, connections.c.status.in_(among))
        noted = sa.update(connections).where(fitting).values(status=status, reason=reason)
        with self._begin() as transaction:
            if transaction.execute(noted).rowcount:
                check_up(transaction, key)
                return True
        self._row(key)
        return False

    def archive(self, key: str, reason: str = "", *, version: int | None = None) -> bool:
        values = {
            "credentials": self._vault.seal({}, key),
            "secret_input": "",
            "status": "archived",
            "reason": reason,
            "version": connections.c.version + 1,
            "expires_at": None,
        }

        # Once it's connected again, it's planned anew.
        tables = (due, planned, refreshes, subscriptions, checkups)
        return self._end(key, sa.update(connections).values(values), tables, version)

    def disconnect(self, key: str) -> None:
        tables = (overrides, due, planned, refreshes, subscriptions, checkups)
        self._end(key, sa.delete(connections), tables)

    def _end(
        self,
        key: str,
        change: sa.Update | sa.Delete,
        tables: Sequence[sa.Table],
        version: int | None = None,
    ) -> bool:
        """Forget the credentials, then change the row, unless it has got others in between.

        In this order: an external store that can't be reached leaves the row as it is. False where
        it's of another version than asked for.
        """
        for _ in range(_TRIES):
            row = self._row(key)
            if version not in (None, row.version):
                return False
            self._forget(key, row)
            same = sa.and_(
                connections.c.key == key,
                connections.c.credentials == row.credentials,
                connections.c.secret_input == row.secret_input,
            )
            with self._begin() as transaction:
                if transaction.execute(change.where(same)).rowcount:
                    for table in tables:
                        transaction.execute(sa.delete(table).where(table.c.connection == key))
                    return True
        raise LockTimeout(f"the credentials of {key!r} keep changing", hint="try again")

    def _begin(self) -> AbstractContextManager[sa.Connection]:
        return self._database.begin()


def _insert(transaction: sa.Connection, values: dict[str, Any]) -> None:
    try:
        transaction.execute(sa.insert(connections).values(values))
    except IntegrityError:
        raise Fatal(
            f"there is another connection {values['key']!r}", hint="give this one another key"
        ) from None


def _sealed(here: sa.ColumnElement[bool]) -> sa.Select[Any]:
    query = sa.select(
        connections.c.status,
        connections.c.reason,
        connections.c.credentials,
        connections.c.secret_input,
    )
    return query.where(here).with_for_update()
