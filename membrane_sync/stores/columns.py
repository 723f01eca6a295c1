"""Typed columns of a lake table out of a data schema, and the DuckDB SQL that fills them.

The same nested structure serves the column's type and DuckDB's `from_json`, which parses a whole
column of JSON text at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
SYSTEM_PREFIX = "_"


@dataclass(frozen=True)
class Column:
    """One field of the schema as a column; `structure` is what `from_json` wants."""

    field: str
    name: str
    type: str
    structure: Any

    @property
    def pointer(self) -> str:
        """JSON pointer of the field in the payload (RFC 6901)."""
        return "/" + self.field.replace("~", "~0").replace("/", "~1")


def columns_of(schema: Mapping[str, Any], reserved: Sequence[str]) -> list[Column]:
    """A column for each property; a name that we need ourselves gets a trailing underscore.

    DuckDB's column names ignore case, so a property that differs from another only in case gets a
    number.
    """
    columns: list[Column] = []
    used = {name.lower() for name in reserved}
    for field, spec in schema.get("properties", {}).items():
        name = f"{field}_" if field.lower() in used and field in reserved else field
        number = 2
        while name.lower() in used:
            name, number = f"{field}_{number}", number + 1
        used.add(name.lower())
        structure = _structure(spec)
        columns.append(Column(field, name, _column_type(spec, structure), structure))
    return columns


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def parsed(payload: str, columns: Sequence[Column]) -> str:
    """SQL that parses the JSON column `payload` into a struct with a field for each column."""
    structure = {column.field: column.structure for column in columns}
    return f"from_json({payload}, {literal(json.dumps(structure))})"


def value_of(struct: str, column: Column) -> str:
    """SQL of one column's value; times are UTC without a zone, whatever zone they came in."""
    inner = f"{struct}.{quoted(column.field)}"
    if column.type == "TIMESTAMP":
        return f"(TRY_CAST({inner} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    if column.type == "DATE":
        return f"TRY_CAST({inner} AS DATE)"
    return inner


def misfit(payload: str, value: str, column: Column) -> str:
    """SQL that is true where the payload has a value that the column couldn't take as it is."""
    kind = f"json_type({payload}, {literal(column.pointer)})"
    text = f"json_extract_string({payload}, {literal(column.pointer)})"
    lost = f"({value} IS NULL AND {kind} IS NOT NULL AND {kind} <> 'NULL')"
    if column.type == "BIGINT":
        rounded = f"TRY_CAST({text} AS DOUBLE) IS DISTINCT FROM CAST({value} AS DOUBLE)"
        return f"({lost} OR ({value} IS NOT NULL AND {rounded}))"
    return lost


def _column_type(spec: Mapping[str, Any], structure: Any) -> str:
    if structure == "VARCHAR" and spec.get("format") == "date-time":
        return "TIMESTAMP"
    if structure == "VARCHAR" and spec.get("format") == "date":
        return "DATE"
    return _type(structure)


def _structure(spec: Any) -> Any:
    kind = spec.get("type") if isinstance(spec, Mapping) else None
    if isinstance(kind, list):
        named = [name for name in kind if name != "null"]
        kind = named[0] if len(named) == 1 else None
    if kind == "object" and spec.get("properties"):
        return {name: _structure(inner) for name, inner in spec["properties"].items()}
    if kind == "array" and spec.get("items"):
        return [_structure(spec["items"])]
    return _TYPES.get(str(kind), "JSON")


def _type(structure: Any) -> str:
    if isinstance(structure, dict):
        fields = ", ".join(f"{quoted(name)} {_type(inner)}" for name, inner in structure.items())
        return f"STRUCT({fields})"
    if isinstance(structure, list):
        return f"{_type(structure[0])}[]"
    return str(structure)
