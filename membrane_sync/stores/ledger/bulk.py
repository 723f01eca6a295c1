"""Many new rows by one statement, whichever database it is.

SQLAlchemy's own way writes a statement as long as the rows are many, which a driver then parses
anew each time, or sends each row by itself. Here PostgreSQL gets an array for each column, and
SQLite, where nobody else writes meanwhile, the ids beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from membrane_sync.stores.sql_insert import inserting

Rows = Sequence[Mapping[str, Any]]


def inserted(transaction: sa.Connection, table: sa.Table, rows: Rows) -> Sequence[int]:
    """Insert the rows; their ids, in the same order."""
    if not rows:
        return ()
    if transaction.dialect.name == "postgresql":
        insert = sa.insert(table).from_select([*rows[0]], _given(table, rows))
        # Ids are given in the order of the rows, but may be told in another.
        return sorted(transaction.execute(insert.returning(table.c.id)).scalars())
    sequence = sa.text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :name")
    last = int(transaction.execute(sequence, {"name": table.name}).scalar_one())
    ids = range(last + 1, last + 1 + len(rows))
    numbered = [{"id": id, **row} for id, row in zip(ids, rows, strict=True)]
    transaction.execute(sa.insert(table), numbered)
    return ids


def among(
    transaction: sa.Connection, column: sa.Column[int], numbers: Sequence[int]
) -> sa.ColumnElement[bool]:
    """Whether the column has one of the numbers, however many they are: they go as one value."""
    if transaction.dialect.name == "postgresql":
        given = sa.bindparam(None, [*numbers], postgresql.ARRAY(column.type))
        return column == sa.any_(given)
    each = sa.func.json_each(json.dumps([*numbers])).table_valued("value")
    return column.in_(sa.select(each.c.value))


def upserted(
    transaction: sa.Connection,
    table: sa.Table,
    rows: Rows,
    *,
    key: sa.Column[Any],
    changes: Mapping[str, Any],
    where: sa.ColumnElement[bool] | None = None,
    tell: bool = False,
) -> set[Any]:
    """Insert the rows; where the key is there and `where` holds, change it instead.

    A change that's None is what the row has. The rows are in one order of their keys for everybody,
    so that two who write the same don't wait for one another. With `tell`, gives the keys of those
    that were inserted or changed.
    """
    if not rows:
        return set()
    ordered = sorted(rows, key=lambda row: row[key.name])
    many = transaction.dialect.name == "postgresql"
    insert: Any = inserting(transaction)(table)
    if many:
        insert = insert.from_select([*rows[0]], _given(table, ordered))
    changed = {n: insert.excluded[n] if value is None else value for n, value in changes.items()}
    insert = insert.on_conflict_do_update(index_elements=[key], set_=changed, where=where)
    if tell:
        insert = insert.returning(key)
    result = transaction.execute(insert) if many else transaction.execute(insert, ordered)
    return set(result.scalars()) if tell else set()


def _given(table: sa.Table, rows: Rows) -> sa.Select[Any]:
    """The rows as PostgreSQL selects them out of arrays."""
    names = [*rows[0]]
    arrays = [
        sa.bindparam(None, [row[name] for row in rows], postgresql.ARRAY(table.c[name].type))
        for name in names
    ]
    columns = [sa.column(name, table.c[name].type) for name in names]
    given = sa.func.unnest(*arrays).table_valued(*columns, with_ordinality="nth", name="given")
    given = given.render_derived()
    return sa.select(*(given.c[name] for name in names)).order_by(given.c.nth)
