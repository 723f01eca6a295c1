"""The product's own database, through SQLAlchemy: SQLite and PostgreSQL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from membrane_sync.elements.data_schema import DataSchema, Table
from membrane_sync.errors import AppUnavailable, DestinationError
from membrane_sync.ports import Outcome, Owner
from membrane_sync.records import Delivery

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

_Row = dict[str, Any]


class SqlDestination:
    """Implements `ports.Destination` for the tables that data schemas name."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in _INSERTS:
            raise DestinationError(
                f"databases of type {parsed.get_backend_name()!r} can't be written yet",
                hint="use sqlite:/// or postgresql+psycopg://",
            )
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        arguments = {"timeout": 30} if parsed.get_backend_name() == "sqlite" else {}
        self._engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=True)
        self._tables: dict[str, sa.Table] = {}

    def close(self) -> None:
        """Give back the database connections."""
        self._engine.dispose()

    def prepare(self, schema: DataSchema) -> None:
        declared = _table_of(schema)
        try:
            self._tables[schema.key] = self._reflected(schema, declared)
        except SQLAlchemyError as error:
            raise _unreachable(declared, error) from None

    def match(
        self,
        schema: DataSchema,
        owner: Owner,
        fields: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Sequence[str | None]:
        declared, table = _table_of(schema), self._table(schema)
        wanted = [tuple(_comparable(row.get(field)) for field in fields) for row in rows]
        first = table.c[fields[0]]
        values = {row.get(fields[0]) for row in rows if _is_plain(row.get(fields[0]))}
        columns = [table.c[declared.key], *(table.c[field] for field in fields)]
        query = sa.select(*columns).where(first.in_(sorted(values, key=str)))
        if declared.tenant_column:
            query = query.where(table.c[declared.tenant_column] == owner.tenant)
        found: dict[tuple[Any, ...], list[str]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                key = tuple(_comparable(value) for value in row[1:])
                found.setdefault(key, []).append(str(row[0]))
        single = {key: ids[0] for key, ids in found.items() if len(ids) == 1}
        return [None if None in key else single.get(key) for key in wanted]

    def write(
        self,
        schema: DataSchema,
        owner: Owner,
        deliveries: Sequence[Delivery],
        *,
        soft: bool = False,
    ) -> Outcome:
        table = self._table(schema)
        writer = _Writer(table, schema, owner, soft=soft)
        try:
            with self._engine.begin() as transaction:
                foreign = writer.foreign(transaction, deliveries)
                mine = [d for d in deliveries if d.external_id not in foreign]
                refused = dict.fromkeys(foreign, "the row with this key belongs to another tenant")
                refused.update(writer.write(transaction, mine))
        except OperationalError as error:
            raise AppUnavailable(
                f"the product's database did not answer: {_first_line(error)}",
                hint="is it running? nothing was lost: the next sync writes these rows",
            ) from None
        taken = [d for d in deliveries if d.external_id not in refused]
        return Outcome(
            written=[d.external_id for d in taken if d.values is not None],
            removed=[d.external_id for d in taken if d.values is None],
            refused=refused,
        )

    def _table(self, schema: DataSchema) -> sa.Table:
        if schema.key not in self._tables:
            self.prepare(schema)
        return self._tables[schema.key]

    def _reflected(self, schema: DataSchema, declared: Table) -> sa.Table:
        namespace, name = _split(declared.name)
        inspector = sa.inspect(self._engine)
        if not inspector.has_table(name, schema=namespace):
            self._create(schema, declared)
        table = sa.Table(name, sa.MetaData(), schema=namespace, autoload_with=self._engine)
        self._check(schema, declared, table)
        return table

    def _create(self, schema: DataSchema, declared: Table) -> None:
        table = _designed(schema, declared)
        ddl = str(CreateTable(table).compile(self._engine)).strip()
        if not declared.create:
            raise DestinationError(
                f"the product's database has no table {declared.name!r}",
                hint=f"set `create: true` in the data schema's table, or create it:\n{ddl}",
            )
        table.create(self._engine, checkfirst=True)

    def _check(self, schema: DataSchema, declared: Table, table: sa.Table) -> None:
        needed = [declared.key, *schema.schema_.get("properties", {}), *_owner_columns(declared)]
        if declared.deleted_column:
            needed.append(declared.deleted_column)
        missing = [name for name in dict.fromkeys(needed) if name not in table.c]
        if missing:
            raise DestinationError(
                f"table {declared.name!r} has no column {', '.join(missing)}",
                hint="add it, or take the field out of the data schema",
            )
        if not _conflict_columns(table, declared):
            raise DestinationError(
                f"table {declared.name!r} has no primary key or unique constraint on "
                f"{declared.key!r}, so rows can't be upserted",
                hint=f"add one on ({', '.join([*_owner_columns(declared)[:1], declared.key])})",
            )


class _Writer:
    """Writes batches of one table inside a transaction that the caller holds."""

    def __init__(self, table: sa.Table, schema: DataSchema, owner: Owner, *, soft: bool) -> None:
        self._table = table
        self._declared = _table_of(schema)
        self._fields = list(schema.schema_.get("properties", {}))
        self._owner = owner
        self._soft = soft
        self._key = table.c[self._declared.key]

    def foreign(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> set[str]:
        """External ids whose row, by its key, is another tenant's already."""
        column = self._declared.tenant_column
        if column is None or column in _conflict_columns(self._table, self._declared):
            return set()
        keys = {self._key_value(d.app_id): d.external_id for d in deliveries}
        query = sa.select(self._key).where(
            self._key.in_(list(keys)), self._table.c[column] != self._owner.tenant
        )
        return {keys[key] for key in transaction.execute(query).scalars()}

    def write(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Write all; where the database refuses, halve, until only the refused rows are left."""
        if not deliveries:
            return {}
        try:
            with transaction.begin_nested():
                self._upsert(transaction, [d for d in deliveries if d.values is not None])
                self._delete(transaction, [d for d in deliveries if d.values is None])
            return {}
        except OperationalError:
            raise
        except (DBAPIError, ValueError, TypeError) as error:
            if len(deliveries) == 1:
                return {deliveries[0].external_id: _first_line(error)}
            half = len(deliveries) // 2
            refused = self.write(transaction, deliveries[:half])
            return {**refused, **self.write(transaction, deliveries[half:])}

    def _upsert(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        rows = [self._row(delivery) for delivery in deliveries]
        insert = _INSERTS[transaction.dialect.name](self._table)
        conflict = _conflict_columns(self._table, self._declared)
        changes = {name: insert.excluded[name] for name in rows[0] if name not in conflict}
        if changes:
            insert = insert.on_conflict_do_update(index_elements=conflict, set_=changes)
        else:
            insert = insert.on_conflict_do_nothing(index_elements=conflict)
        transaction.execute(insert, rows)

    def _delete(self, transaction: sa.Connection, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        here = self._key.in_([self._key_value(d.app_id) for d in deliveries])
        if self._declared.tenant_column:
            tenant = self._table.c[self._declared.tenant_column]
            here = sa.and_(here, tenant == self._owner.tenant)
        if self._soft and self._declared.deleted_column:
            column = self._table.c[self._declared.deleted_column]
            now = _converted(datetime.now(UTC).isoformat(), column.type)
            transaction.execute(sa.update(self._table).where(here).values({column.name: now}))
        else:
            transaction.execute(sa.delete(self._table).where(here))

    def _row(self, delivery: Delivery) -> _Row:
        values = delivery.values or {}
        row = {f: _converted(values.get(f), self._table.c[f].type) for f in self._fields}
        row[self._declared.key] = self._key_value(delivery.app_id)
        if self._declared.tenant_column:
            row[self._declared.tenant_column] = self._owner.tenant
        if self._declared.connection_column:
            row[self._declared.connection_column] = self._owner.connection
        if self._declared.deleted_column:
            row[self._declared.deleted_column] = None
        return row

    def _key_value(self, app_id: str) -> Any:
        return _converted(app_id, self._key.type)


def _table_of(schema: DataSchema) -> Table:
    if schema.table is None:
        raise DestinationError(f"data schema {schema.key!r} names no table")
    return schema.table


def _split(name: str) -> tuple[str | None, str]:
    namespace, dot, table = name.rpartition(".")
    return (namespace, table) if dot else (None, name)


def _owner_columns(declared: Table) -> list[str]:
    return [name for name in (declared.tenant_column, declared.connection_column) if name]


def _designed(schema: DataSchema, declared: Table) -> sa.Table:
    """The table as we would create it: keyed by tenant and key, a column for each field."""
    namespace, name = _split(declared.name)
    fields = schema.schema_.get("properties", {})
    keys = [name for name in (declared.tenant_column, declared.key) if name]
    columns = [
        sa.Column(
            key, _column_type(fields.get(key, {}), key=True), primary_key=True, autoincrement=False
        )
        for key in keys
    ]
    if declared.connection_column:
        columns.append(sa.Column(declared.connection_column, sa.String(255)))
    columns += [sa.Column(f, _column_type(spec)) for f, spec in fields.items() if f not in keys]
    if declared.deleted_column:
        columns.append(sa.Column(declared.deleted_column, sa.DateTime(timezone=True)))
    return sa.Table(name, sa.MetaData(), *columns, schema=namespace)


def _column_type(spec: Mapping[str, Any], *, key: bool = False) -> sa.types.TypeEngine[Any]:
    kind = spec.get("type", "string" if key else None)
    if isinstance(kind, list):
        named = [name for name in kind if name != "null"]
        kind = named[0] if len(named) == 1 else None
    if kind == "string" and spec.get("format") == "date-time":
        return sa.DateTime(timezone=True)
    if kind == "string" and spec.get("format") == "date":
        return sa.Date()
    types: dict[str, sa.types.TypeEngine[Any]] = {
        "string": sa.String(255) if key else sa.Text(),
        "integer": sa.BigInteger(),
        "number": sa.Float(53),
        "boolean": sa.Boolean(),
    }
    return types.get(str(kind), sa.JSON())


def _conflict_columns(table: sa.Table, declared: Table) -> list[str]:
    """The unique columns to upsert by: tenant and key together where there are, else the key."""
    unique = [{column.name for column in table.primary_key.columns}]
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            unique.append({column.name for column in constraint.columns})
    unique += [{column.name for column in index.columns} for index in table.indexes if index.unique]
    owners = _owner_columns(declared)
    choices = [[*owners, declared.key], [*owners[:1], declared.key], [declared.key]]
    return next((choice for choice in choices if set(choice) in unique), [])


def _converted(value: Any, kind: sa.types.TypeEngine[Any]) -> Any:
    """A JSON value as the column's Python type; raises ValueError where it can't be one."""
    if value is None:
        return None
    for column_type, convert in _CONVERSIONS:
        if isinstance(kind, column_type):
            return convert(value)
    if isinstance(value, dict | list) and isinstance(kind, sa.String):
        return json.dumps(value, ensure_ascii=False)
    return value


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_CONVERSIONS: list[tuple[type[sa.types.TypeEngine[Any]], Callable[[Any], Any]]] = [
    (sa.DateTime, _moment),
    (sa.Date, lambda value: date.fromisoformat(value[:10]) if isinstance(value, str) else value),
    (sa.Integer, lambda value: int(value) if isinstance(value, str) else value),
    (sa.Uuid, lambda value: uuid.UUID(value) if isinstance(value, str) else value),
]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _comparable(value: Any) -> Any:
    return value if _is_plain(value) or value is None else str(value)


def _unreachable(declared: Table, error: SQLAlchemyError) -> DestinationError:
    return DestinationError(
        f"table {declared.name!r} of database {declared.database!r}: {_first_line(error)}",
        hint="is the database running, and its URL in the settings right?",
    )


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
