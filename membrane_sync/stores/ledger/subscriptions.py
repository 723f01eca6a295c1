"""Subscriptions in the ledger's database; what the app gave for them is sealed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import MembraneError
from membrane_sync.ports import Vault
from membrane_sync.ports.subscriptions import Subscription
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import subscriptions
from membrane_sync.stores.ledger.leases import now
from membrane_sync.stores.sql_insert import inserting

FORMER_SECONDS = 600.0
"""For how long webhooks may come that an app signed by its former secret."""

_PLAIN = (
    *("key", "connection", "tenant", "config", "status", "global_webhook", "selector"),
    *("refresh_at", "attempts", "error", "identity"),
)


class SqlSubscriptions:
    """Implements `ports.subscriptions.Subscriptions`."""

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

    def add(self, subscription: Subscription) -> Subscription:
        values = self._plain(subscription) | self._sealed(subscription)
        same = sa.and_(
            subscriptions.c.connection == subscription.connection,
            subscriptions.c.identity == values["identity"],
        )
        with self._database.begin() as transaction:
            insert = inserting(transaction)(subscriptions).values(values)
            transaction.execute(insert.on_conflict_do_nothing())
        return self._found(same)[0]

    def keep(self, subscription: Subscription) -> None:
        former = self.get(subscription.key)
        values = self._plain(subscription)
        if former is None:
            values |= self._sealed(subscription)
            change: Any = sa.insert(subscriptions)
        else:
            if (former.state, former.secret) != (subscription.state, subscription.secret):
                values |= self._sealed(subscription)
            change = sa.update(subscriptions).where(subscriptions.c.key == subscription.key)
        with self._database.begin() as transaction:
            replaced = _sealed_texts(transaction, subscription.key)
            transaction.execute(change.values(values))
        if "state" in values:
            self._forget(subscription.connection, replaced)

    def expect_secret(self, key: str, seconds: float | None) -> None:
        with self._database.begin() as transaction:
            until = None if seconds is None else now(transaction) + seconds
            change = sa.update(subscriptions).where(subscriptions.c.key == key)
            transaction.execute(change.values(secret_until=until))

    def take_secret(self, key: str, secret: str) -> bool:
        found = self.get(key)
        if found is None or found.secret_until is None:
            return False
        given: dict[str, Any] = {"secret": secret}
        for former in found.given[:1]:
            given |= {"former": former, "former_until": time.time() + FORMER_SECONDS}
        sealed = self._vault.seal(given, _owner(found.connection))
        here = sa.and_(subscriptions.c.key == key, subscriptions.c.secret_until.is_not(None))
        with self._database.begin() as transaction:
            is_time = sa.and_(here, subscriptions.c.secret_until > now(transaction))
            replaced = transaction.execute(sa.select(subscriptions.c.given).where(is_time)).scalar()
            # Of two that come at once, one finds that nothing is expected any more.
            change = sa.update(subscriptions).where(is_time)
            change = change.values(given=sealed, secret_until=None)
            is_taken = transaction.execute(change).rowcount == 1
        self._forget(found.connection, [replaced or "" if is_taken else sealed])
        return is_taken

    def drop(self, key: str) -> None:
        found = self._found(subscriptions.c.key == key)
        with self._database.begin() as transaction:
            replaced = _sealed_texts(transaction, key, subscriptions.c.given)
            transaction.execute(sa.delete(subscriptions).where(subscriptions.c.key == key))
        for one in found:
            self._forget(one.connection, replaced)

    def _forget(self, connection: str, sealed: Sequence[str]) -> None:
        """Let an external store, if there is one, delete what it has kept for these texts."""
        with suppress(MembraneError):  # At worst, it keeps an entry too many.
            for text in filter(None, sealed):
                self._vault.forget(text, _owner(connection))

    @staticmethod
    def _plain(subscription: Subscription) -> dict[str, Any]:
        values = {name: getattr(subscription, name) for name in _PLAIN}
        values["config"] = dict(subscription.config)
        values["identity"] = subscription.identity or subscription.key
        return values

    def _sealed(self, subscription: Subscription) -> dict[str, Any]:
        secret = {"secret": subscription.secret} if subscription.secret else {}
        owner = _owner(subscription.connection)
        both = {"state": subscription.state, "secret": secret}
        return {n: self._vault.seal(value, owner) if value else "" for n, value in both.items()}

    def _found(self, *which: sa.ColumnElement[bool]) -> list[Subscription]:
        query = sa.select(subscriptions).where(*which).order_by(subscriptions.c.key)
        with self._database.begin() as transaction:
            rows = transaction.execute(query).all()
        return [self._subscription(row) for row in rows]

    def _subscription(self, row: Any) -> Subscription:
        owner = _owner(row.connection)
        plain = {name: row._mapping[name] for name in _PLAIN}
        plain["identity"] = "" if row.identity == row.key else row.identity
        state = self._vault.open(row.state, owner) if row.state else {}
        secret = self._vault.open(row.secret, owner)["secret"] if row.secret else ""
        given = _given(self._vault.open(row.given, owner)) if row.given else ()
        return Subscription(
            **plain, state=state, secret=secret, given=given, secret_until=row.secret_until
        )


def _given(sealed: Mapping[str, Any]) -> Sequence[str]:
    """The secret that the app gave, and the one before it for as long as it's good."""
    is_good = "former" in sealed and sealed["former_until"] > time.time()
    return (sealed["secret"], sealed["former"]) if is_good else (sealed["secret"],)


def _sealed_texts(transaction: sa.Connection, key: str, *more: sa.Column[str]) -> Sequence[str]:
    query = sa.select(subscriptions.c.state, subscriptions.c.secret, *more)
    row = transaction.execute(query.where(subscriptions.c.key == key)).one_or_none()
    return tuple(row) if row is not None else ()


def _owner(connection: str) -> str:
    return f"{connection}/subscription"
