"""Whose subscriptions are to be looked at, and when: a row for each connection, with an index."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import sqlalchemy as sa

from membrane_sync.stores.ledger.connection_table import connections
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import checkups, subscriptions
from membrane_sync.stores.ledger.leases import now
from membrane_sync.stores.sql_insert import inserting


class SqlCheckups:
    """Implements `ports.subscriptions.Checkups` in the ledger's database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def expect(self, version: str) -> None:
        mine = connections.c
        known = sa.select(checkups.c.connection)
        missing = sa.select(
            mine.key, sa.literal("").label("version"), sa.literal(0.0), sa.literal("")
        ).where(mine.status != "archived", mine.key.not_in(known))
        outdated = sa.update(checkups).where(checkups.c.version != version)
        with self._database.begin() as transaction:
            insert = inserting(transaction)(checkups)
            names = ["connection", "version", "due_at", "claim"]
            transaction.execute(insert.from_select(names, missing).on_conflict_do_nothing())
            # Also from one who has it claimed, and looks at it by another project.
            transaction.execute(outdated.values(due_at=0.0, claim=""))

    def claim(self, version: str, most: int, seconds: float) -> Mapping[str, str]:
        with self._database.begin() as transaction:
            moment = now(transaction)
            query = sa.select(checkups.c.connection).where(checkups.c.due_at <= moment)
            query = query.order_by(checkups.c.due_at).limit(most).with_for_update(skip_locked=True)
            keys = transaction.execute(query).scalars().all()
            claim = uuid.uuid4().hex
            if keys:
                taken = sa.update(checkups).where(checkups.c.connection.in_(keys))
                values = {"claim": claim, "version": version, "due_at": moment + seconds}
                transaction.execute(taken.values(values))
        return dict.fromkeys(keys, claim)

    def claim_one(self, connection: str, version: str, seconds: float) -> str | None:
        claim = uuid.uuid4().hex
        here = checkups.c.connection == connection
        with self._database.begin() as transaction:
            moment = now(transaction)
            insert = inserting(transaction)(checkups).on_conflict_do_nothing()
            row = {"connection": connection, "version": "", "due_at": 0.0, "claim": ""}
            transaction.execute(insert.values(row))
            free = sa.or_(checkups.c.claim == "", checkups.c.due_at <= moment)
            taken = sa.update(checkups).where(here, free)
            values = {"claim": claim, "version": version, "due_at": moment + seconds}
            return claim if transaction.execute(taken.values(values)).rowcount else None

    def renew(self, connection: str, claim: str, seconds: float) -> bool:
        here = sa.and_(checkups.c.connection == connection, checkups.c.claim == claim)
        with self._database.begin() as transaction:
            until = now(transaction) + seconds
            kept = sa.update(checkups).where(here).values(due_at=until)
            return bool(transaction.execute(kept).rowcount)

    def settle(self, connection: str, claim: str, due_at: float | None) -> None:
        here = sa.and_(checkups.c.connection == connection, checkups.c.claim == claim)
        with self._database.begin() as transaction:
            transaction.execute(sa.update(checkups).where(here).values(claim="", due_at=due_at))


def check_up(transaction: sa.Connection, connection: str, *, all_of_them: bool = False) -> None:
    """Have a connection's subscriptions looked at soon, whoever has them claimed.

    With `all_of_them`, each is to be renewed: its app may not have kept it.
    """
    row = {"connection": connection, "version": "", "due_at": 0.0, "claim": ""}
    insert = inserting(transaction)(checkups).values(row)
    soon = {"due_at": 0.0, "claim": ""}
    transaction.execute(insert.on_conflict_do_update(index_elements=["connection"], set_=soon))
    if all_of_them:
        here = subscriptions.c.connection == connection
        transaction.execute(sa.update(subscriptions).where(here).values(refresh_at=0.0))
