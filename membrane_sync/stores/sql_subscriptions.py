"""Subscriptions in the ledger's database; what the app gave for them is sealed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from membrane_sync.ports import Vault
from membrane_sync.ports.events import Subscription
from membrane_sync.stores.event_tables import subscriptions
from membrane_sync.stores.sql_database import LedgerDatabase

_PLAIN = (
    *("key", "connection", "tenant", "config", "status", "global_webhook", "selector"),
    *("refresh_at", "attempts", "error"),
)


class SqlSubscriptions:
    """Implements `ports.events.Subscriptions`."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def get(self, key: str) -> Subscription | None:
        found = self.of_keys([key])
        return found[0] if found else None

    def of_keys(self, keys: Sequence[str]) -> Sequence[Subscription]:
        return self._found(subscriptions.c.key.in_(keys))

    def matching(
        self, global_webhook: str, selectors: Sequence[str]
    ) -> Mapping[str, Sequence[Subscription]]:
        meant: dict[str, list[Subscription]] = defaultdict(list)
        here = subscriptions.c.global_webhook == global_webhook
        for found in self._found(here, subscriptions.c.selector.in_({*selectors})):
            meant[found.selector].append(found)
        return meant

    def of_connection(self, connection: str) -> Sequence[Subscription]:
        return self._found(subscriptions.c.connection == connection)

    def keep(self, subscription: Subscription) -> None:
        values = {name: getattr(subscription, name) for name in _PLAIN}
        owner = _owner(subscription.connection)
        values["config"] = dict(subscription.config)
        values["state"] = self._sealed(subscription.state, owner)
        secret = {"secret": subscription.secret} if subscription.secret else {}
        values["secret"] = self._sealed(secret, owner)
        here = subscriptions.c.key == subscription.key
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(subscriptions).where(here))
            transaction.execute(sa.insert(subscriptions).values(values))

    def drop(self, key: str) -> None:
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(subscriptions).where(subscriptions.c.key == key))

    def _found(self, *which: sa.ColumnElement[bool]) -> list[Subscription]:
        query = sa.select(subscriptions).where(*which).order_by(subscriptions.c.key)
        with self._database.begin() as transaction:
            rows = transaction.execute(query).all()
        return [self._subscription(row) for row in rows]

    def _subscription(self, row: Any) -> Subscription:
        owner = _owner(row.connection)
        plain = {name: row._mapping[name] for name in _PLAIN}
        state = self._vault.open(row.state, owner) if row.state else {}
        secret = self._vault.open(row.secret, owner)["secret"] if row.secret else ""
        return Subscription(**plain, state=state, secret=secret)

    def _sealed(self, secrets: Mapping[str, Any], owner: str) -> str:
        return self._vault.seal(secrets, owner) if secrets else ""


def _owner(connection: str) -> str:
    return f"{connection}/subscription"
