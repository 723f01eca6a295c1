"""An outbox table in the product's database: SQLite and PostgreSQL, and others but for one thing.

PostgreSQL numbers its transactions, so that it can be told when none can commit any more that was
going on at some moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from membrane_sync.elements.internal_event import Outbox
from membrane_sync.errors import AppUnavailable, DestinationError
from membrane_sync.ports.outboxes import Look, OutboxRow
from membrane_sync.stores.sql_destination import place_of
from membrane_sync.stores.sqlite_engine import sqlite_engine

GAPS_A_QUERY = 100
NUMBERS_A_QUERY = 500


class SqlOutbox:
    """Implements `ports.outboxes.OutboxTable`; `event` is what its `type_column` may say."""

    def __init__(self, url: str, outbox: Outbox, event: str) -> None:
        self._outbox = outbox
        self._event = event
        self._engine = _engine(url)
        namespace, _, name = outbox.table.rpartition(".")
        self._number: sa.ColumnClause[Any] = sa.column(outbox.cursor_column)
        self._table = sa.table(name, schema=namespace or None)
        others = (outbox.tenant_column, outbox.payload_column, outbox.type_column)
        self._columns = [self._number, *(sa.column(c) if c else sa.null() for c in others)]

    @property
    def place(self) -> str:
        return f"{place_of(self._engine.url)} {self._outbox.table}"

    def close(self) -> None:
        self._engine.dispose()

    def look(self, after: int | None, gaps: Sequence[tuple[int, int]], limit: int) -> Look:
        with self._transaction(reads_only=True) as transaction:
            # In this order, each with a view of its own: what has ended before the rows are read,
            # the rows, and what had begun until then.
            oldest = self._snapshot(transaction, "xmin")
            rows: list[OutboxRow] = []
            for within in _conditions(self._number, gaps):
                if len(rows) < limit:
                    rows += self._rows(transaction, limit - len(rows), within)
            if len(rows) < limit:
                newer = sa.true() if after is None else self._number > after
                rows += self._rows(transaction, limit - len(rows), newer)
            newest = self._snapshot(transaction, "xmax")
        if any(type(row.number) is not int for row in rows):
            raise DestinationError(
                f"column {self._outbox.cursor_column!r} of outbox {self._outbox.table!r} has what "
                "is no whole number",
                hint="name another cursor_column, or let rows be marked or deleted",
            )
        return Look(rows, oldest, newest)

    def unhandled(self, limit: int) -> Sequence[OutboxRow]:
        which: list[sa.ColumnElement[bool]] = []
        if self._outbox.handled_column is not None:
            which.append(sa.column(self._outbox.handled_column).is_(None))
        if self._outbox.type_column is not None:
            which.append(sa.column(self._outbox.type_column) == self._event)
        with self._transaction(reads_only=True) as transaction:
            return self._rows(transaction, limit, *which)

    def handle(self, numbers: Sequence[Any]) -> None:
        for start in range(0, len(numbers), NUMBERS_A_QUERY):
            here = self._number.in_(numbers[start : start + NUMBERS_A_QUERY])
            change: sa.Delete | sa.Update = sa.delete(self._table)
            if self._outbox.handled_column is not None:
                handled: sa.ColumnClause[Any] = sa.column(self._outbox.handled_column)
                change = sa.update(_with(self._table, handled)).values({handled: sa.func.now()})
            with self._transaction() as transaction:
                transaction.execute(change.where(here))

    def _rows(
        self, transaction: sa.Connection, limit: int, *which: sa.ColumnElement[bool]
    ) -> list[OutboxRow]:
        query = sa.select(*self._columns).select_from(self._table).where(*which)
        found = transaction.execute(query.order_by(self._number).limit(limit))
        return [OutboxRow(*row) for row in found]

    def _snapshot(self, transaction: sa.Connection, end: str) -> int | None:
        if transaction.dialect.name != "postgresql":
            return None
        sql = f"SELECT pg_snapshot_{end}(pg_current_snapshot())::text"
        return int(transaction.execute(sa.text(sql)).scalar_one())

    @contextmanager
    def _transaction(self, *, reads_only: bool = False) -> Iterator[sa.Connection]:
        engine = self._engine.execution_options(reads_only=reads_only)
        try:
            with engine.begin() as transaction:
                yield transaction
        except OperationalError as error:
            if "no such table" in str(error):
                raise self._refused(error) from None
            raise AppUnavailable(
                f"the product's database did not answer: {_first_line(error)}",
                hint="is it running? nothing was lost: its outbox is read on from where it stood",
            ) from None
        except SQLAlchemyError as error:
            raise self._refused(error) from None

    def _refused(self, error: SQLAlchemyError) -> DestinationError:
        return DestinationError(
            f"outbox {self._outbox.table!r} can't be read: {_first_line(error)}",
            hint="compare the table, and what its user may do, with the internal event's `outbox`",
        )


def _conditions(
    number: sa.ColumnClause[Any], gaps: Sequence[tuple[int, int]]
) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions that are true within the gaps, none of them too long for a database."""
    single = [first for first, last in gaps if first == last]
    wide = [gap for gap in gaps if gap[0] != gap[1]]
    for start in range(0, len(single), NUMBERS_A_QUERY):
        yield number.in_(single[start : start + NUMBERS_A_QUERY])
    for start in range(0, len(wide), GAPS_A_QUERY):
        some = wide[start : start + GAPS_A_QUERY]
        yield sa.or_(*(number.between(first, last) for first, last in some))


def _with(table: sa.TableClause, column: sa.ColumnClause[Any]) -> sa.TableClause:
    """The same table, which may be set in this column."""
    return sa.table(table.name, column, schema=table.schema)


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(parsed)
    if parsed.get_backend_name() == "postgresql":
        # Each statement is to see what was committed until it began.
        return sa.create_engine(parsed, pool_pre_ping=True, isolation_level="READ COMMITTED")
    return sa.create_engine(parsed, pool_pre_ping=True)


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
