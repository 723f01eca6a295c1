"""The log of events and webhooks in the ledger's database; every query is bound to a tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import NotFound
from membrane_sync.ports.event_log import EventFilter
from membrane_sync.ports.events import Event, Webhook, WebhookStatus
from membrane_sync.stores.ledger.bulk import inserted
from membrane_sync.stores.ledger.connection_table import connections, living
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import event_queues, events, webhooks
from membrane_sync.stores.ledger.inbox import (
    LONGEST_ERROR,
    SETTLED_AT_ONCE,
    event_of,
    event_row,
    pieces,
    wake,
)
from membrane_sync.stores.ledger.leases import now

_ALL = EventFilter()


class SqlEventLog:
    """Implements `ports.event_log.EventLog`; `_mine` is in the condition of every query."""

    def __init__(self, database: LedgerDatabase, tenant: str | None) -> None:
        self.tenant = tenant
        self._database = database
        self._mine = sa.true() if tenant is None else events.c.tenant == tenant

    def events(self, before: int, limit: int, which: EventFilter = _ALL) -> Sequence[Event]:
        shown = [column for column in events.c if column.name != "payload"]
        query = sa.select(*shown, sa.literal("").label("payload"))
        query = query.where(self._mine, *self._fitting(which))
        if before:
            query = query.where(events.c.id < before)
        with self._database.reading() as transaction:
            page = query.order_by(events.c.id.desc()).limit(limit)
            return [event_of(row) for row in transaction.execute(page)]

    def event(self, id: int) -> Event:
        query = sa.select(events).where(events.c.id == id, self._mine)
        with self._database.reading() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise _no_event(id)
        return event_of(row)

    def webhook(self, event: int) -> Webhook | None:
        kept = self.event(event)
        query = sa.select(webhooks).where(webhooks.c.id == kept.webhook)
        if self.tenant is not None:
            query = query.where(webhooks.c.source == "webhook")
        with self._database.reading() as transaction:
            row = transaction.execute(query).one_or_none()
        return None if row is None else _webhook(row)

    def counts(self) -> Mapping[str, int]:
        query = sa.select(events.c.status, sa.func.count()).where(self._mine)
        with self._database.reading() as transaction:
            found = transaction.execute(query.group_by(events.c.status).order_by(events.c.status))
            return {row[0]: row[1] for row in found}

    def replay(self, ids: Sequence[int]) -> Sequence[int]:
        done: list[int] = []
        for some in pieces(ids, SETTLED_AT_ONCE):
            here = events.c.id.in_(some), self._mine, events.c.connection.in_(living)
            with self._database.begin() as transaction:
                waiting = _waiting_from(now(transaction))
                update = sa.update(events).where(*here).values(waiting)
                found = transaction.execute(update.returning(events.c.id, events.c.connection))
                rows = found.all()
                _wake_at_once(transaction, {row.connection for row in rows})
                done += [row.id for row in rows]
        return sorted(done)

    def retell(self, id: int, events_: Sequence[Event]) -> Sequence[int]:
        first, *others = events_
        here = events.c.id == id, self._mine, events.c.connection == ""
        with self._database.begin() as transaction:
            moment = now(transaction)
            values = event_row(first, first.webhook, moment)
            if not transaction.execute(sa.update(events).where(*here).values(values)).rowcount:
                raise _no_event(id)
            rows = [event_row(event, event.webhook, moment) for event in others]
            ids = [id, *inserted(transaction, events, rows)]
            _wake_at_once(
                transaction, {event.connection for event in events_ if event.status == "pending"}
            )
        return ids

    def _fitting(self, which: EventFilter) -> list[sa.ColumnElement[bool]]:
        wanted = {
            name: value
            for name in ("connection", "kind", "name", "external_id")
            if (value := getattr(which, name))
        }
        found = [events.c[name] == value for name, value in wanted.items()]
        if which.status is not None:
            of_all = self.tenant is None and not which.connection
            # Else SQLite looks for a tenant's few events among all that have the status.
            status = events.c.status if of_all else events.c.status.concat("")
            found.append(status == which.status)
        if which.connection:
            # A connection has one tenant, and it's by tenant that events have an index.
            tenant = sa.select(connections.c.tenant)
            tenant = tenant.where(connections.c.key == which.connection)
            found.append(events.c.tenant == tenant.scalar_subquery())
        if which.since is not None:
            found.append(events.c.received_at >= which.since)
        return found


class SqlWebhookLog:
    """Implements `ports.event_log.WebhookLog`."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def webhooks(
        self, before: int, limit: int, status: WebhookStatus | None = None
    ) -> Sequence[Webhook]:
        shown = [column for column in webhooks.c if column.name != "body"]
        query = sa.select(*shown, sa.literal(b"").label("body"))
        if status is not None:
            query = query.where(webhooks.c.status == status)
        if before:
            query = query.where(webhooks.c.id < before)
        with self._database.reading() as transaction:
            page = query.order_by(webhooks.c.id.desc()).limit(limit)
            return [_webhook(row) for row in transaction.execute(page)]

    def webhook(self, id: int) -> Webhook:
        query = sa.select(webhooks).where(webhooks.c.id == id)
        with self._database.reading() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise _no_webhook(id)
        return _webhook(row)

    def settle(self, id: int, status: WebhookStatus, error: str = "") -> None:
        update = sa.update(webhooks).where(webhooks.c.id == id)
        update = update.values(status=status, error=error[:LONGEST_ERROR])
        with self._database.begin() as transaction:
            if not transaction.execute(update).rowcount:
                raise _no_webhook(id)


def _waiting_from(moment: float) -> dict[str, Any]:
    return {
        "status": "pending",
        "due_at": moment,
        "attempts": 0,
        "error": "",
        "finished_at": None,
    }


def _wake_at_once(transaction: sa.Connection, connections: set[str]) -> None:
    """Make the queues due, also those that rest since they failed as a whole."""
    moment = now(transaction)
    wake(transaction, connections, moment)
    resting = sa.update(event_queues).where(event_queues.c.connection.in_(sorted(connections)))
    resting = resting.where(event_queues.c.attempts > 0, event_queues.c.batch == "")
    transaction.execute(resting.values(attempts=0, due_at=moment))


def _webhook(row: Any) -> Webhook:
    return Webhook(
        source=row.source,
        name=row.name,
        body=bytes(row.body),
        headers=row.headers,
        query=row.query,
        status=row.status,
        error=row.error,
        id=row.id,
        received_at=datetime.fromtimestamp(row.received_at, UTC),
    )


def _no_event(id: int) -> NotFound:
    """Says the same of another tenant's event as of one that isn't there."""
    return NotFound(f"there is no event {id}", hint="it's forgotten, or was never there")


def _no_webhook(id: int) -> NotFound:
    return NotFound(f"there is no webhook {id}", hint="it's forgotten, or was never there")
