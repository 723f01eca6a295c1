"""The product's own database, through SQLAlchemy: SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError, StatementError

from membrane_sync.elements.data_schema import DataSchema, Table
from membrane_sync.errors import AppUnavailable, DestinationError
from membrane_sync.ports import Outcome, Owner
from membrane_sync.records import Delivery
from membrane_sync.stores.sql_insert import INSERTS, inserting
from membrane_sync.stores.sql_table import (
    conflict_columns,
    converted,
    declared_table,
    ready_table,
)
from membrane_sync.stores.sqlite_engine import sqlite_engine

_BAD_VALUE = (StatementError, ValueError, TypeError, OverflowError)
"""What a driver, or a conversion, raises for a value that the database can't take."""


_CREDENTIALS = ("user", "password", "passfile", "sslpassword")
"""What a URL's query may say of who asks; the rest says where."""


def place_of(url: sa.URL) -> str:
    """Tells databases apart, without user and password."""
    query = {name: value for name, value in url.query.items() if name not in _CREDENTIALS}
    name = url.database or ""
    if url.get_backend_name() == "sqlite":
        name = Path(name).name  # a project that moves takes its file along
    where = (url.get_backend_name(), url.host, url.port, name, sorted(query.items()))
    return hashlib.sha256(repr(where).encode()).hexdigest()[:16]


class Tables:
    """A database's tables that were made ready, for one destination or for many of a process.

    Many share a look at a table as long as they share these: one that's dropped meanwhile is only
    missed by the next process.
    """

    def __init__(self, url: str, *, shared: bool = True) -> None:
        self.engine = _engine(url)
        self.shared = shared
        self.preparing = Lock()
        """To be held while a table is looked at, so that many threads don't do it at once."""
        self._ready: dict[int | str, tuple[DataSchema, sa.Table]] = {}

    def close(self) -> None:
        """Give back the database connections."""
        self.engine.dispose()

    def get(self, schema: DataSchema) -> sa.Table | None:
        """The schema's table, if it's ready."""
        found = self._ready.get(self._name(schema))
        return found[1] if found is not None else None

    def put(self, schema: DataSchema, table: sa.Table) -> None:
        """Remember that it's ready."""
        self._ready[self._name(schema)] = (schema, table)

    def _name(self, schema: DataSchema) -> int | str:
        """Connections may differ in a schema of one key, and to hash it takes long.

        So it's known by its identity, and kept, so that no other one gets that.
        """
        return id(schema) if self.shared else schema.key


class SqlDestination:
    """Implements `ports.Destination` for the tables that data schemas name.

    `check` raises if the connection isn't ours to write for any more. It's asked before each batch
    and, if it may be, `inside` the transaction once more before its commit.
    """

    def __init__(
        self,
        url: str,
        check: Callable[[], None] = lambda: None,
        *,
        inside: bool = True,
        tables: Tables | None = None,
    ) -> None:
        self._own = tables is None
        self._tables = tables or Tables(url, shared=False)
        self._engine = self._tables.engine
        self._check = check
        self._inside = inside

    @property
    def place(self) -> str:
        return place_of(self._engine.url)

    def close(self) -> None:
        """Give back the database connections, unless others use them too."""
        if self._own:
            self._tables.close()

    def prepare(self, schema: DataSchema) -> None:
        declared = declared_table(schema)
        try:
            with self._tables.preparing:
                if self._own or self._tables.get(schema) is None:
                    self._tables.put(schema, ready_table(self._engine, schema))
        except SQLAlchemyError as error:
            raise DestinationError(
                f"table {declared.name!r} of database {declared.database!r}: {_first_line(error)}",
                hint="is the database running, and its URL in the settings right?",
            ) from None

    def match(
        self,
        schema: DataSchema,
        owner: Owner,
        fields: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Sequence[str | None]:
        declared, table = declared_table(schema), self._table(schema)
        columns = [_column(table, declared, field) for field in fields]
        wanted = [_match_key(row.get(f) for f in fields) for row in _typed(rows, columns)]
        first = {key[0] for key in wanted if key is not None}
        query = sa.select(table.c[declared.key], *columns).where(columns[0].in_(first))
        query = query.where(*_owned(table, declared, owner))
        found: dict[tuple[Any, ...], list[str]] = {}
        with self._transaction() as transaction:
            for row in transaction.execute(query):
                key = _match_key(row[1:])
                if key is not None:
                    found.setdefault(key, []).append(str(row[0]))
        single = {key: ids[0] for key, ids in found.items() if len(ids) == 1}
        return [single.get(key) if key is not None else None for key in wanted]

    def holds(self, schema: DataSchema, owner: Owner, app_ids: Sequence[str]) -> bool:
        declared, table = declared_table(schema), self._table(schema)
        key = table.c[declared.key]
        keys = {row[key.name] for row in _typed([{key.name: app_id} for app_id in app_ids], [key])}
        tenant, _ = _owned(table, declared, owner)
        query = sa.select(sa.literal(1)).where(key.in_(keys - {None}), tenant).limit(1)
        with self._transaction() as transaction:
            return transaction.execute(query).first() is not None

    def write(
        self,
        schema: DataSchema,
        owner: Owner,
        deliveries: Sequence[Delivery],
        *,
        soft: bool = False,
    ) -> Outcome:
        writer = _Writer(self._table(schema), schema, owner, soft=soft)
        latest = list({delivery.external_id: delivery for delivery in deliveries}.values())
        refused = writer.unkeyed(latest)
        self._check()
        with self._transaction() as transaction:
            refused.update(writer.foreign(transaction, _without(latest, refused)))
            failed = writer.write(transaction, _without(latest, refused))
            # What was in the way may have moved by now, such as a unique value.
            again = [delivery for delivery in latest if delivery.external_id in failed]
            refused.update(writer.write(transaction, again))
            if self._inside:
                self._check()
        taken = _without(latest, refused)
        return Outcome(
            written=[d.external_id for d in taken if d.values is not None],
            removed=[d.external_id for d in taken if d.values is None],
            refused=refused,
        )

    def _table(self, schema: DataSchema) -> sa.Table:
        if self._tables.get(schema) is None:
            self.prepare(schema)
        table = self._tables.get(schema)
        assert table is not None
        return table

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as transaction:
                yield transaction
        except OperationalError as error:
            raise AppUnavailable(
                f"the product's database did not answer: {_first_line(error)}",
                hint="is it running? nothing was lost: the next sync writes these rows",
            ) from None
        except SQLAlchemyError as error:
            raise DestinationError(
                f"the product's database refused: {_first_line(error)}",
                hint="compare its table, and what its user may do, with the data schema",
            ) from None


class _Writer:
    """Writes batches of one table inside a transaction that the caller holds."""

    def __init__(self, table: sa.Table, schema: DataSchema, owner: Owner, *, soft: bool) -> None:
        self._table = table
        self._declared = declared_table(schema)
        self._fields = list(schema.schema_.get("properties", {}))
        self._owner = owner
        self._soft = soft
        self._key = table.c[self._declared.key]
        self._conflict = conflict_columns(table, self._declared)
        self._mine = sa.and_(*_owned(table, self._declared, owner))

    def unkeyed(self, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Those whose id the key column can't hold, with the reason."""
        refused: dict[str, str] = {}
        for delivery in deliveries:
            try:
                self._key_value(delivery.app_id)
            except ValueError:
                refused[delivery.external_id] = (
                    f"{delivery.app_id!r} is no key for column {self._key.name} of type "
                    f"{self._key.type}; let the mapping give {self._declared.key}"
                )
        return refused

    def foreign(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Those whose row, by its key, belongs to someone else, with the reason."""
        refused: dict[str, str] = {}
        for word, condition in self._others():
            keys = {self._key_value(d.app_id) for d in deliveries}
            query = sa.select(self._key).where(self._key.in_(keys), condition)
            taken = set(transaction.execute(query).scalars())
            reason = f"the row with this key belongs to another {word}"
            found = [d.external_id for d in deliveries if self._key_value(d.app_id) in taken]
            refused = {**dict.fromkeys(found, reason), **refused}
        return refused

    def _others(self) -> Iterator[tuple[str, sa.ColumnElement[bool]]]:
        """Whose a row with the same key may be instead, where the table allows for one such row."""
        tenant, connection = _owned(self._table, self._declared, self._owner)
        if self._declared.tenant_column not in (None, *self._conflict):
            yield "tenant", sa.not_(sa.func.coalesce(tenant, sa.false()))
        if self._declared.connection_column not in (None, *self._conflict):
            yield "connection", sa.and_(tenant, sa.not_(connection))

    def write(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Write all; where the database refuses, halve, until only the refused rows are left.

        Deletions come first: a record that was made anew over there may have taken over the key.
        """
        if not deliveries:
            return {}
        try:
            with transaction.begin_nested():
                self._delete(transaction, [d for d in deliveries if d.values is None])
                self._upsert(transaction, [d for d in deliveries if d.values is not None])
            return {}
        except _BAD_VALUE as error:
            if isinstance(error, OperationalError) and not _is_of_the_row(error):
                raise
            if len(deliveries) == 1:
                return {deliveries[0].external_id: _first_line(error)}
            half = len(deliveries) // 2
            refused = self.write(transaction, deliveries[:half])
            return {**refused, **self.write(transaction, deliveries[half:])}

    def _upsert(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        rows = [self._row(delivery) for delivery in deliveries]
        insert = inserting(transaction)(self._table)
        changes = {name: insert.excluded[name] for name in rows[0] if name not in self._conflict}
        if changes:
            insert = insert.on_conflict_do_update(
                index_elements=self._conflict, set_=changes, where=self._mine
            )
        else:
            insert = insert.on_conflict_do_nothing(index_elements=self._conflict)
        transaction.execute(insert, rows)

    def _delete(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        here = self._key.in_([self._key_value(d.app_id) for d in deliveries])
        condition = sa.and_(here, self._mine)
        if self._soft and self._declared.deleted_column:
            column = self._table.c[self._declared.deleted_column]
            now = converted(datetime.now(UTC).isoformat(), column.type)
            transaction.execute(sa.update(self._table).where(condition).values({column: now}))
        else:
            transaction.execute(sa.delete(self._table).where(condition))

    def _row(self, delivery: Delivery) -> dict[str, Any]:
        values = delivery.values or {}
        row = {f: converted(values.get(f), self._table.c[f].type) for f in self._fields}
        row[self._declared.key] = self._key_value(delivery.app_id)
        if self._declared.tenant_column:
            row[self._declared.tenant_column] = self._owner.tenant
        if self._declared.connection_column:
            row[self._declared.connection_column] = self._owner.connection
        if self._declared.deleted_column:
            row[self._declared.deleted_column] = None
        return row

    def _key_value(self, app_id: str) -> Any:
        return converted(app_id, self._key.type)


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise DestinationError(
            "the URL of the product's database can't be read",
            hint="write it as sqlite:///file.db or postgresql+psycopg://user:password@host/name",
        ) from None
    backend = parsed.get_backend_name()
    if backend not in INSERTS:
        raise DestinationError(
            f"databases of type {backend!r} can't be written yet",
            hint="use sqlite:/// or postgresql+psycopg://",
        )
    try:
        if backend == "sqlite":
            return sqlite_engine(parsed)
        return sa.create_engine(parsed, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise DestinationError(
            f"the driver of {parsed.drivername} is not installed: {error}",
            hint="pip install 'membrane-sync[postgresql]'",
        ) from None


def _owned(
    table: sa.Table, declared: Table, owner: Owner
) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Is a row the tenant's, and is it the connection's? Both must be, for us to touch it.

    A row without a connection is the product's own, and becomes the connection's by being written.
    """
    tenant, connection = declared.tenant_column, declared.connection_column
    tenants = table.c[tenant] == owner.tenant if tenant else sa.true()
    if not connection:
        return tenants, sa.true()
    # Not `in_`: what it expands to can't be part of a statement for many rows at once.
    whose = sa.func.coalesce(table.c[connection], "")
    return tenants, sa.or_(whose == "", whose == owner.connection)


def _column(table: sa.Table, declared: Table, field: str) -> sa.Column[Any]:
    if field not in table.c:
        raise DestinationError(
            f"table {declared.name!r} has no column {field!r}, which the sync matches by",
            hint="mend `match` in the sync",
        )
    return table.c[field]


def _typed(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[sa.Column[Any]]
) -> Iterator[dict[str, Any]]:
    """The rows' values as the columns have them; what can't be one matches nothing."""
    for row in rows:
        typed: dict[str, Any] = {}
        for column in columns:
            try:
                typed[column.name] = converted(row.get(column.name), column.type)
            except (ValueError, TypeError):
                typed[column.name] = None
        yield typed


def _match_key(values: Iterable[Any]) -> tuple[Any, ...] | None:
    """Values to compare rows by; None if one is missing, or isn't a plain value."""
    key = tuple(values)
    plain = not any(value is None or isinstance(value, dict | list) for value in key)
    return key if plain else None


def _without(deliveries: Sequence[Delivery], refused: Mapping[str, str]) -> list[Delivery]:
    return [delivery for delivery in deliveries if delivery.external_id not in refused]


def _is_of_the_row(error: OperationalError) -> bool:
    """PostgreSQL's class 54: the row is over a limit, as a text too long for an index."""
    return str(getattr(error.orig, "sqlstate", "") or "").startswith("54")


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
