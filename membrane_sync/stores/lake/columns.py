"""Typed columns of a lake table out of a data schema, and the DuckDB SQL that fills them.

The same nested structure serves the column's type and DuckDB's `from_json`, which parses a whole
column of JSON text at once. `from_json` turns what it can't take into NULL or into another value,
in silence; `misfit` finds those values again by comparing with the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}

EXACT = "x-exact"
"""In a field's schema: only values of its very JSON type fit, so that none is read as another's."""

_ROW_NUMBER = "rowid"
"""A column of this name would hide the number of a row, by which rows are found and replaced."""


@dataclass(frozen=True)
class Column:
    """One field of the schema as a column; `structure` is that of its type."""

    field: str
    name: str
    type: str
    structure: Any
    exact: bool = False

    @property
    def read_as(self) -> Any:
        """What `from_json` is to make of it: what it would turn into another value is a text."""
        if self.exact and self.structure != "VARCHAR":
            return "JSON"
        return _lossless(self.structure)

    @property
    def pointer(self) -> str:
        """JSON pointer of the field in the payload (RFC 6901)."""
        return step(self.field)


def columns_of(schema: Mapping[str, Any], reserved: Sequence[str]) -> list[Column]:
    """A column for each property; a name that we or DuckDB need gets a trailing underscore.

    DuckDB's column names ignore case, so a property that differs from another only in case gets a
    number. A property without a name has no column.
    """
    columns: list[Column] = []
    used = {_ROW_NUMBER, *(name.lower() for name in reserved)}
    for field, spec in schema.get("properties", {}).items():
        is_ours = field in reserved or field.lower() == _ROW_NUMBER
        name = f"{field}_" if is_ours else field
        number = 2
        while name.lower() in used:
            name, number = f"{field}_{number}", number + 1
        if field:
            used.add(name.lower())
            structure = _structure(spec)
            exact = isinstance(spec, Mapping) and EXACT in spec
            columns.append(Column(field, name, _column_type(spec, structure), structure, exact))
    return columns


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def parsed(payload: str, columns: Sequence[Column]) -> str:
    """SQL that parses the JSON column `payload` into a struct with a field for each column."""
    structure = {column.field: column.read_as for column in _together(columns)}
    return f"from_json({payload}, {literal(json.dumps(structure))})" if structure else "NULL"


def raw_values_of(payload: str, struct: str, columns: Sequence[Column]) -> list[str]:
    """SQL of each column's value as it was parsed; of some, their text."""

    def alone(column: Column) -> str:
        return f"from_json({_at(payload, column.pointer)}, {literal(json.dumps(column.read_as))})"

    return _out_of(struct, columns, alone)


def value_of(raw: str, column: Column) -> str:
    """SQL of a parsed value in its type; times are UTC without a zone, whatever they came in."""
    if column.type == "TIMESTAMP":
        return f"(TRY_CAST({raw} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    if column.type == "BOOLEAN" and column.exact:
        return f"CASE CAST({raw} AS VARCHAR) WHEN 'true' THEN true WHEN 'false' THEN false END"
    if column.read_as == "JSON" and column.type != "JSON":
        return f"TRY_CAST(CAST({raw} AS VARCHAR) AS {column.type})"
    if column.type == "DATE" or column.read_as != column.structure:
        return f"TRY_CAST({raw} AS {column.type})"
    return raw


def needs_text(value: str, column: Column) -> str:
    """SQL that is true where only the JSON tells whether the column took the value as it is."""
    if column.type == "JSON":
        return "false"
    brackets = _brackets(value) if column.exact and column.structure == "VARCHAR" else "false"
    return _or(iter((*_doubts(value, column.structure), brackets)))


def texts_found(payload: str, columns: Sequence[Column]) -> str:
    """SQL of a struct that has each field's value as JSON text; NULL where it's absent, or null.

    Read once for all columns: a function of JSON for each of them would read the payload again for
    each, and hold it meanwhile.
    """
    structure = {c.field: "JSON" for c in _together(columns) if c.type != "JSON"}
    return f"from_json({payload}, {literal(json.dumps(structure))})" if structure else "NULL"


def texts_of(payload: str, struct: str, columns: Sequence[Column]) -> list[str]:
    """SQL of each column's value as JSON text, out of `texts_found`."""

    def alone(column: Column) -> str:
        return f"nullif({_at(payload, column.pointer)}, 'null')"

    return _out_of(struct, columns, alone)


def _out_of(struct: str, columns: Sequence[Column], alone: Callable[[Column], str]) -> list[str]:
    """SQL of each column out of the struct of all; `alone` of one that it can't hold."""
    together = {column.name for column in _together(columns)}
    return [
        f"{struct}.{quoted(column.field)}" if column.name in together else alone(column)
        for column in columns
    ]


def misfit(text: str, raw: str, value: str, column: Column) -> str:
    """SQL that is true where the JSON text is of a value that the column couldn't take as it is.

    The text may be missing where `needs_text` is false.
    """
    if column.type == "JSON":
        return "false"
    losses = _losses(text, "", raw, value, column.structure)
    return _or(chain(losses, _other_losses(text, raw, value, column)))


def _or(conditions: Iterator[str]) -> str:
    return " OR ".join(f"coalesce({condition}, false)" for condition in conditions) or "false"


def _lossless(structure: Any) -> Any:
    """What's parsed as a text: `from_json` rounds fractions, and makes each number true, silently.

    Those two only: to parse numbers as such is much faster.
    """
    if isinstance(structure, dict):
        return {name: _lossless(inner) for name, inner in structure.items()}
    return "VARCHAR" if structure in ("BIGINT", "BOOLEAN") else structure


def _together(columns: Sequence[Column]) -> list[Column]:
    """Those that one struct can hold: its field names, too, ignore case."""
    first: dict[str, Column] = {}
    for column in columns:
        first.setdefault(column.field.lower(), column)
    return list(first.values())


def _doubts(value: str, structure: Any) -> Iterator[str]:
    """Conditions of which one is true where `_losses` looks at the JSON text."""
    yield f"{value} IS NULL"
    if isinstance(structure, dict):
        for name, inner in structure.items():
            yield from _doubts(f"{value}.{quoted(name)}", inner)
    elif isinstance(structure, list):
        yield f"{_missing(value)} > 0"
        if structure[0] == "BIGINT":
            yield f"{value} IS NOT NULL"
        elif structure[0] == "DOUBLE":
            yield _has_suspects(value)
    elif structure == "DOUBLE":
        yield f"{value} IN (0, 1) OR abs({value}) >= {_LARGE}"


def _losses(text: str, pointer: str, raw: str, value: str, structure: Any) -> Iterator[str]:
    """Conditions, each true for one way in which a value is lost."""
    kind = _kind(text, pointer)
    if isinstance(structure, dict):
        yield f"CASE WHEN {_blank(value, structure)} THEN {kind} NOT IN ('OBJECT', 'NULL') END"
        for name, inner in structure.items():
            inner_raw, inner_value = f"{raw}.{quoted(name)}", f"{value}.{quoted(name)}"
            yield from _losses(text, pointer + step(name), inner_raw, inner_value, inner)
    elif isinstance(structure, list):
        yield f"CASE WHEN {value} IS NULL THEN {kind} NOT IN ('ARRAY', 'NULL') END"
        yield from _item_losses(_at(text, pointer), value, structure[0])
    else:
        lost = f"{kind} <> 'NULL'" if pointer else f"{text} IS NOT NULL"
        yield f"CASE WHEN {value} IS NULL THEN {lost} END"
        if structure == "BIGINT":
            # Cheap for nearly all: only where the number reads differently, its value is compared.
            yield (
                f"CASE WHEN CAST({value} AS VARCHAR) <> {raw} "
                f"THEN coalesce(TRY_CAST({raw} AS DOUBLE) <> {value}, true) END"
            )
        elif structure == "DOUBLE":
            digits = f"json_extract_string({text}, {literal(pointer or '$')})"
            yield (
                f"CASE WHEN {value} IN (0, 1) THEN {kind} = 'BOOLEAN' "
                f"WHEN abs({value}) >= {_LARGE} "
                f"THEN NOT isfinite({value}) OR {_rounded(digits)} END"
            )


def _other_losses(text: str, raw: str, value: str, column: Column) -> Iterator[str]:
    """Further ones, of texts that would read as something else."""
    if column.type in ("TIMESTAMP", "DATE"):
        # DuckDB takes these words for times, too.
        yield f"isinf({value}) OR ({value} = '1970-01-01' AND {raw} ILIKE '%epoch%')"
    elif column.exact and column.structure == "VARCHAR":
        yield f"CASE WHEN {_brackets(value)} THEN {_kind(text, '')} IN ('OBJECT', 'ARRAY') END"


def _brackets(value: str) -> str:
    return f"{value}[1] IN ('{{', '[')"


_LARGE = "9007199254740992"
"""From here on, not each whole number is a double."""


def _rounded(text: str) -> str:
    """SQL that is true of a whole number that a double can't hold as it is.

    Of those with a point or an exponent, digits are cut off anyway.
    """
    held = f"TRY_CAST(TRY_CAST({text} AS DOUBLE) AS HUGEINT)"
    differs = f"TRY_CAST({text} AS HUGEINT) IS DISTINCT FROM {held}"
    return f"(regexp_full_match({text}, '-?[0-9]+') AND {differs})"


def _blank(value: str, structure: Any) -> str:
    """SQL that is true where nothing was parsed, as where a text stands for an object."""
    if not isinstance(structure, dict):
        return f"{value} IS NULL"
    inner = [_blank(f"{value}.{quoted(name)}", part) for name, part in structure.items()]
    return f"({' AND '.join(inner)})"


def _kind(text: str, pointer: str) -> str:
    return f"json_type({text}, {literal(pointer)})" if pointer else f"json_type({text})"


def _item_losses(array: str, value: str, item: str) -> Iterator[str]:
    items = f"TRY_CAST({array} AS JSON[])"
    nulls = f"len(list_filter({items}, lambda x: x IS NULL OR json_type(x) = 'NULL'))"
    missing = _missing(value)
    yield f"CASE WHEN {missing} > 0 THEN {missing} <> {nulls} END"
    if item == "BIGINT":
        number = "lambda x: TRY_CAST(json_extract_string(x, '$') AS DOUBLE)"
        yield (
            f"CASE WHEN {value} IS NOT NULL THEN "
            f"list_transform({items}, {number}) IS DISTINCT FROM CAST({value} AS DOUBLE[]) END"
        )
    elif item == "DOUBLE":
        text = "json_extract_string(x, '$')"
        lost = (
            f"lambda x: json_type(x) = 'BOOLEAN' OR NOT isfinite(TRY_CAST({text} AS DOUBLE)) "
            f"OR {_rounded(text)}"
        )
        yield (f"CASE WHEN {_has_suspects(value)} THEN len(list_filter({items}, {lost})) > 0 END")


def _missing(value: str) -> str:
    return f"(len({value}) - list_aggregate({value}, 'count'))"


def _has_suspects(value: str) -> str:
    return f"len(list_filter({value}, lambda x: x IN (0, 1) OR abs(x) >= {_LARGE})) > 0"


def _at(payload: str, pointer: str) -> str:
    return f"json_extract({payload}, {literal(pointer)})" if pointer else payload


def step(name: str) -> str:
    """JSON pointer from a value to its field (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


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
    if kind == "object" and _can_be_struct(spec.get("properties", {})):
        return {name: _structure(inner) for name, inner in spec["properties"].items()}
    if kind == "array" and spec.get("items"):
        item = _structure(spec["items"])
        return [item if isinstance(item, str) else "JSON"]
    return _TYPES.get(str(kind), "JSON")


def _can_be_struct(properties: Mapping[str, Any]) -> bool:
    names = {name.lower() for name in properties}
    return bool(names) and "" not in names and len(names) == len(properties)


def _type(structure: Any) -> str:
    if isinstance(structure, dict):
        fields = ", ".join(f"{quoted(name)} {_type(inner)}" for name, inner in structure.items())
        return f"STRUCT({fields})"
    if isinstance(structure, list):
        return f"{_type(structure[0])}[]"
    return str(structure)
