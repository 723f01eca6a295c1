"""Events that are kept no more, a bounded number at a time: of long ago, or of who has left."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from membrane_sync.stores.ledger.bulk import among
from membrane_sync.stores.ledger.connection_table import living
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import (
    event_queues,
    events,
    seen_events,
    webhook_counts,
    webhooks,
)
from membrane_sync.stores.ledger.leases import now

FORGOTTEN_AT_ONCE = 5_000
"""Rows that one transaction deletes, so that nobody waits long for it."""


def forget_events(database: LedgerDatabase, before: float) -> Mapping[str, int]:
    """Delete webhooks and events that ended before a moment; gives how many of each.

    An event that waits is kept, unless its connection is archived or gone. The keys by which an
    event that comes again is known go when their time is over, and counts of endpoints that nothing
    came to since then.
    """
    # By queues, since pending events have an index by connection.
    orphaned = sa.select(event_queues.c.connection)
    orphaned = orphaned.where(event_queues.c.connection.not_in(living))
    old = {
        "events": (
            _forget(database, events, events.c.id, events.c.finished_at < before)
            + _forget(
                database,
                events,
                events.c.id,
                events.c.status == "pending",
                events.c.connection.in_(orphaned),
                events.c.received_at < before,
            )
        ),
        "webhooks": _forget(database, webhooks, webhooks.c.id, webhooks.c.received_at < before),
    }
    with database.begin() as transaction:
        moment = now(transaction)
    seen = _forget(database, seen_events, seen_events.c.key, seen_events.c.until <= moment)
    idle = webhook_counts.c.changed_at < before
    _forget(database, webhook_counts, webhook_counts.c.endpoint, idle)
    return {**old, "keys": seen}


def forget_events_of(database: LedgerDatabase, tenant: str) -> None:
    """Delete a tenant's events, whatever became of them, with the webhooks that brought them.

    A webhook that told of other tenants, too, goes as well: their events don't need it.
    """
    some = sa.select(events.c.id, events.c.webhook).where(events.c.tenant == tenant)
    some = some.order_by(events.c.id).limit(FORGOTTEN_AT_ONCE)
    while True:
        with database.begin() as transaction:
            found = transaction.execute(some).all()
            for table, ids in (
                (webhooks, {row.webhook for row in found if row.webhook is not None}),
                (events, {row.id for row in found}),
            ):
                forget = sa.delete(table).where(among(transaction, table.c.id, sorted(ids)))
                transaction.execute(forget)
        if len(found) < FORGOTTEN_AT_ONCE:
            return


def _forget(
    database: LedgerDatabase,
    table: sa.Table,
    key: sa.Column[int] | sa.Column[bytes] | sa.Column[str],
    *which: sa.ColumnElement[bool],
) -> int:
    some = sa.select(key).where(*which).limit(FORGOTTEN_AT_ONCE)
    total = 0
    while True:
        with database.begin() as transaction:
            # The condition once more: a key may have come again meanwhile.
            forget = sa.delete(table).where(key.in_(some.scalar_subquery()), *which)
            gone = transaction.execute(forget).rowcount
        total += gone
        if gone < FORGOTTEN_AT_ONCE:
            return total
