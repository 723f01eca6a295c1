"""What the product was asked to tell of, in the ledger's database; its answers are sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from membrane_sync.ports import Vault
from membrane_sync.ports.product import ProductSubscription
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import product_subscriptions
from membrane_sync.stores.ledger.inbox import LONGEST_ERROR
from membrane_sync.stores.ledger.leases import now
from membrane_sync.stores.sql_insert import inserting

_columns = product_subscriptions.c


class SqlProductSubscriptions:
    """Implements `ports.product.ProductSubscriptions`."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def of_tenant(self, tenant: str) -> Sequence[ProductSubscription]:
        query = sa.select(product_subscriptions).where(_columns.tenant == tenant)
        with self._database.begin() as transaction:
            rows = transaction.execute(query.order_by(_columns.event)).all()
        return [self._opened(row) for row in rows]

    def due(self, limit: int) -> Sequence[str]:
        with self._database.begin() as transaction:
            moment = now(transaction)
            query = sa.select(_columns.tenant).distinct()
            query = query.where(_columns.due_at <= moment, _columns.claimed_until <= moment)
            return [*transaction.execute(query.limit(limit)).scalars()]

    def touch(self, tenant: str) -> None:
        with self._database.begin() as transaction:
            touched = sa.update(product_subscriptions).where(_columns.tenant == tenant)
            transaction.execute(touched.values(due_at=now(transaction)))

    def claim(self, tenant: str, event: str, seconds: float) -> ProductSubscription | None:
        with self._database.begin() as transaction:
            moment = now(transaction)
            new = {"tenant": tenant, "event": event, "version": "", "state": "", "attempts": 0}
            new |= {"error": "", "due_at": moment, "claimed_until": moment + seconds}
            upsert = inserting(transaction)(product_subscriptions).values(new)
            upsert = upsert.on_conflict_do_update(
                index_elements=[_columns.tenant, _columns.event],
                # Due until it's settled, so that somebody goes on with it if we're killed.
                set_={"claimed_until": moment + seconds, "due_at": moment},
                where=_columns.claimed_until <= moment,
            )
            row = transaction.execute(upsert.returning(*_columns)).one_or_none()
        return None if row is None else self._opened(row)

    def settle(self, subscription: ProductSubscription) -> None:
        state = {"answer": subscription.state}
        values = {
            "version": subscription.version,
            "state": self._vault.seal(state, _owner(subscription.tenant)),
            "attempts": subscription.attempts,
            "error": subscription.error[:LONGEST_ERROR],
            "due_at": subscription.due_at,
            "claimed_until": 0.0,
        }
        here = _here(subscription.tenant, subscription.event)
        with self._database.begin() as transaction:
            transaction.execute(sa.update(product_subscriptions).where(*here).values(values))

    def drop(self, tenant: str, event: str) -> None:
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(product_subscriptions).where(*_here(tenant, event)))

    def _opened(self, row: Any) -> ProductSubscription:
        sealed = row.state
        state = self._vault.open(sealed, _owner(row.tenant))["answer"] if sealed else None
        names = (row.tenant, row.event, row.version)
        return ProductSubscription(*names, state, row.attempts, row.error, row.due_at)


def _here(tenant: str, event: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return _columns.tenant == tenant, _columns.event == event


def _owner(tenant: str) -> str:
    return f"{tenant}/product"
