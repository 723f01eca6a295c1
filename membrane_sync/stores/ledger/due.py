"""What is due when: a row for each sync of each connection, found by an index on its due time.

Only what belongs to connections that are ready is claimed. To claim an item is to put off its due
time: one whose batch dies is due again by itself when the claim runs out, and asking for what is
due costs the same however many rows are not.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from membrane_sync.ports import ConnectionRecord, DueItem, Settled, Timetable
from membrane_sync.stores.ledger.connection_table import connections, resting
from membrane_sync.stores.ledger.database import LedgerDatabase, aware, metadata
from membrane_sync.stores.ledger.leases import now

SUSPECT_ATTEMPTS = 2
"""A claim that ran out, and at least so many attempts: the item may be what kills its batches."""

due = sa.Table(
    "membrane_due",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    sa.Column("sync", sa.String(100), primary_key=True),
    sa.Column("every_seconds", sa.Integer),
    sa.Column("cron", sa.String(255), nullable=False),
    sa.Column("timezone", sa.String(100), nullable=False),
    sa.Column("due_at", sa.Double, nullable=False, index=True),
    # Empty while nobody has claimed it.
    sa.Column("batch", sa.String(32), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("result", sa.String(100), nullable=False),
)

planned = sa.Table(
    "membrane_planned",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    sa.Column("version", sa.String(64), nullable=False),
)


class SqlDue:
    """Implements `ports.Due` in the ledger's database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def unplanned(self, version: str, limit: int) -> Sequence[ConnectionRecord]:
        mine = connections
        joined = mine.outerjoin(planned, planned.c.connection == mine.c.key)
        outdated = sa.or_(planned.c.version.is_(None), planned.c.version != version)
        query = sa.select(mine.c.key, mine.c.integration, mine.c.tenant).select_from(joined)
        query = query.where(outdated, mine.c.status != "archived")
        with self._database.begin() as transaction:
            found = transaction.execute(query.order_by(mine.c.key).limit(limit))
            return [ConnectionRecord(*row) for row in found]

    def plan(self, connection: str, tables: Sequence[Timetable], version: str) -> None:
        here = due.c.connection == connection
        with self._database.begin() as transaction:
            stored = {
                row.sync: _timetable(row) for row in transaction.execute(sa.select(due).where(here))
            }
            wanted = {table.sync: table for table in tables}
            moment = now(transaction)
            for sync in stored.keys() - wanted.keys():
                transaction.execute(sa.delete(due).where(here, due.c.sync == sync))
            new = [
                _schedule(table) | {"connection": connection, "sync": sync, "due_at": moment}
                for sync, table in wanted.items()
                if sync not in stored
            ]
            if new:
                idle = {"batch": "", "attempts": 0, "result": ""}
                transaction.execute(sa.insert(due), [values | idle for values in new])
            for sync in wanted.keys() & stored.keys():
                if wanted[sync] != stored[sync]:
                    values = _schedule(wanted[sync]) | {"due_at": moment, "attempts": 0}
                    rescheduled = sa.update(due).where(here, due.c.sync == sync, due.c.batch == "")
                    transaction.execute(rescheduled.values(values))
                    busy = sa.update(due).where(here, due.c.sync == sync, due.c.batch != "")
                    transaction.execute(busy.values(_schedule(wanted[sync])))
            transaction.execute(sa.delete(planned).where(planned.c.connection == connection))
            row = {"connection": connection, "version": version}
            transaction.execute(sa.insert(planned).values(row))

    def replan(self, connection: str) -> None:
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(planned).where(planned.c.connection == connection))

    def claim(self, most: int, batch_size: int, seconds: float) -> Sequence[str]:
        with self._database.begin() as transaction:
            moment = now(transaction)
            is_due = due.c.due_at <= moment
            query = sa.select(due.c.connection, due.c.batch, due.c.attempts)
            query = query.where(is_due, due.c.connection.not_in(resting))
            query = query.order_by(due.c.due_at).limit(most).with_for_update(skip_locked=True)
            rows = transaction.execute(query).all()
            batches = []
            for some in _shards(rows, batch_size):
                batch = uuid.uuid4().hex
                theirs = due.c.connection.in_(some)
                values = {"batch": batch, "due_at": moment + seconds}
                values["attempts"] = due.c.attempts + 1
                transaction.execute(sa.update(due).where(theirs, is_due).values(values))
                batches.append(batch)
        return batches

    def items(self, batch: str) -> Sequence[DueItem]:
        query = sa.select(due).where(due.c.batch == batch).order_by(due.c.connection, due.c.sync)
        with self._database.begin() as transaction:
            return [
                DueItem(row.connection, _timetable(row), row.attempts, aware(row.finished_at))
                for row in transaction.execute(query)
            ]

    def renew(self, batch: str, seconds: float) -> None:
        with self._database.begin() as transaction:
            until = now(transaction) + seconds
            transaction.execute(sa.update(due).where(due.c.batch == batch).values(due_at=until))

    def settle(self, batch: str, settled: Sequence[Settled]) -> None:
        if not settled:
            return
        here = sa.and_(
            due.c.connection == sa.bindparam("this_connection"),
            due.c.sync == sa.bindparam("this_sync"),
            due.c.batch == batch,
        )
        moment = datetime.now(UTC)
        names = ("due_at", "attempts", "result")
        values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in names}
        update = sa.update(due).where(here).values(values | {"batch": "", "finished_at": moment})
        rows = [
            {
                "this_connection": item.connection,
                "this_sync": item.sync,
                "new_due_at": item.due_at,
                "new_attempts": item.attempts,
                "new_result": item.result[:100],
            }
            for item in settled
        ]
        with self._database.begin() as transaction:
            transaction.execute(update, rows)


def make_due(transaction: sa.Connection, connection: str, *which: sa.ColumnElement[bool]) -> None:
    """What nobody has claimed of a connection is due now, as if it had never failed."""
    here = sa.and_(due.c.connection == connection, due.c.batch == "", *which)
    transaction.execute(sa.update(due).where(here).values(due_at=0.0, attempts=0))


def _shards(rows: Sequence[Any], size: int) -> Iterator[list[str]]:
    """Connections that make a batch together: about `size` items, and suspects by themselves."""
    together: list[str] = []
    count = 0
    for connection, items in groupby(sorted(rows, key=lambda r: r.connection), _connection_of):
        mine = list(items)
        if any(item.batch and item.attempts >= SUSPECT_ATTEMPTS for item in mine):
            yield [connection]
            continue
        if together and count + len(mine) > size:
            yield together
            together, count = [], 0
        together.append(connection)
        count += len(mine)
    if together:
        yield together


def _connection_of(row: Any) -> str:
    return str(row.connection)


def _schedule(table: Timetable) -> dict[str, Any]:
    return {
        "every_seconds": table.every_seconds,
        "cron": table.cron,
        "timezone": table.timezone,
    }


def _timetable(row: Any) -> Timetable:
    return Timetable(row.sync, row.every_seconds, row.cron, row.timezone)
