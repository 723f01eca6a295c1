"""The product's tables as SQLAlchemy sees them: found or created, then checked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.schema import CreateTable

from membrane_sync.elements.data_schema import DataSchema, Table
from membrane_sync.errors import DestinationError


def declared_table(schema: DataSchema) -> Table:
    """What the schema says of its table; raises DestinationError if it names none."""
    if schema.table is None:
        raise DestinationError(
            f"data schema {schema.key!r} names no table", hint="add `table` to the data schema"
        )
    return schema.table


def ready_table(engine: sa.Engine, schema: DataSchema) -> sa.Table:
    """The table, created if the schema asks for it; raises DestinationError if it doesn't fit."""
    declared = declared_table(schema)
    namespace, name = _split(declared.name)
    if not sa.inspect(engine).has_table(name, schema=namespace):
        _create(engine, schema, declared)
    table = sa.Table(name, sa.MetaData(), schema=namespace, autoload_with=engine)
    _check(schema, declared, table)
    for column in table.c:
        if isinstance(column.type, sa.JSON):
            column.type.none_as_null = True
    return table


def conflict_columns(table: sa.Table, declared: Table) -> list[str]:
    """The unique columns to upsert by: tenant and key together where there are, else the key."""
    unique = [{column.name for column in table.primary_key.columns}]
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            unique.append({column.name for column in constraint.columns})
    unique += [
        {column.name for column in index.columns}
        for index in table.indexes
        if index.unique and not _is_partial(index)
    ]
    owners = _owner_columns(declared)
    choices = [[*owners, declared.key], [*owners[:1], declared.key], [declared.key]]
    return next((choice for choice in choices if set(choice) in unique), [])


def converted(value: Any, kind: sa.types.TypeEngine[Any]) -> Any:
    """A JSON value as the column's Python type; raises ValueError where it can't be one."""
    if value is None:
        return None
    if isinstance(kind, sa.DateTime):
        return _moment(value, zoned=bool(kind.timezone))
    for column_type, convert in _CONVERSIONS:
        if isinstance(kind, column_type):
            return convert(value)
    return value


def _split(name: str) -> tuple[str | None, str]:
    namespace, dot, table = name.rpartition(".")
    return (namespace, table) if dot else (None, name)


def _create(engine: sa.Engine, schema: DataSchema, declared: Table) -> None:
    table = _designed(schema, declared)
    if not declared.create:
        ddl = str(CreateTable(table).compile(engine)).strip()
        raise DestinationError(
            f"the product's database has no table {declared.name!r}",
            hint=f"set `create: true` in the data schema's table, or create it:\n{ddl}",
        )
    try:
        table.create(engine, checkfirst=True)
    except (IntegrityError, OperationalError, ProgrammingError):
        # Another tenant's sync may have created it just now.
        if not sa.inspect(engine).has_table(table.name, schema=table.schema):
            raise


def _check(schema: DataSchema, declared: Table, table: sa.Table) -> None:
    needed = [declared.key, *schema.schema_.get("properties", {}), *_owner_columns(declared)]
    if declared.deleted_column:
        needed.append(declared.deleted_column)
    missing = [name for name in dict.fromkeys(needed) if name not in table.c]
    if missing:
        raise DestinationError(
            f"table {declared.name!r} has no column {', '.join(missing)}",
            hint="add it, or take the field out of the data schema",
        )
    if not conflict_columns(table, declared):
        raise DestinationError(
            f"table {declared.name!r} has no primary key or unique constraint on "
            f"{declared.key!r}, so rows can't be upserted",
            hint=f"add one on ({', '.join([*_owner_columns(declared)[:1], declared.key])})",
        )


def _owner_columns(declared: Table) -> list[str]:
    return [name for name in (declared.tenant_column, declared.connection_column) if name]


def _is_partial(index: sa.Index) -> bool:
    return any(options.get("where") is not None for options in index.dialect_options.values())


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


def _moment(value: Any, *, zoned: bool) -> Any:
    """A column without a zone gets UTC: a driver would drop the offset, or use the server's."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    utc = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return utc if zoned else utc.replace(tzinfo=None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_CONVERSIONS: list[tuple[type[sa.types.TypeEngine[Any]], Callable[[Any], Any]]] = [
    (sa.Date, lambda value: date.fromisoformat(value[:10]) if isinstance(value, str) else value),
    (sa.Integer, lambda value: int(value) if isinstance(value, str) else value),
    (sa.Uuid, lambda value: uuid.UUID(value) if isinstance(value, str) else value),
    (sa.Enum, lambda value: value),
    (sa.String, _text),
]
