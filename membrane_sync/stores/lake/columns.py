"""Typed columns of a lake table out of a data schema, and the DuckDB SQL that fills them.

The same nested structure serves the column's type and DuckDB's `from_json`, which parses a whole
column of JSON text at once. `from_json` turns what it can't take into NULL or into another value,
in silence; `misfit` finds those values again by comparing with the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}

EXACT = "x-exact"
"""In a field's schema: only values of its very JSON type fit, so that none is read as another's."""

_PARSED_TEXTS = ("BIGINT", "DOUBLE", "BOOLEAN")
"""Types whose values are parsed as texts, and then read as what they are."""

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


def needs_text(raw: str, column: Column) -> str:
    """SQL that is true where only the JSON tells whether the column took the value as it is."""
    if column.type == "JSON":
        return "false"
    brackets = [_brackets(raw)] if _may_be_brackets(column) else []
    return _or([*_doubts(raw, "true", column.structure), *brackets])


def texts_found(payload: str, columns: Sequence[Column]) -> str:
    """SQL of a struct with the JSON text of each field that `needs_text`; NULL where there's none.

    Read once for all columns: a function of JSON for each of them would read the payload again for
    each, and hold it meanwhile.
    """
    structure = {c.field: "JSON" for c in _together(columns) if _is_asked_for(c)}
    return f"from_json({payload}, {literal(json.dumps(structure))})" if structure else "NULL"


def texts_of(payload: str, struct: str, columns: Sequence[Column]) -> list[str]:
    """SQL of each column's value as JSON text, out of `texts_found`; of others, it isn't used."""

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
    """SQL that is true where the JSON is of a value that the column couldn't take as it is.

    Mostly that is seen by what was parsed: of a text, nothing is only what's absent, or null. The
    JSON text may be missing where `needs_text` is false.
    """
    if column.type == "JSON":
        return "false"
    losses = _losses(text, "", raw, value, column.structure)
    return _or(chain(losses, _other_losses(text, raw, value, column)))


def _or(conditions: Iterable[str]) -> str:
    return " OR ".join(f"coalesce({condition}, false)" for condition in conditions) or "false"


def _lossless(structure: Any) -> Any:
    """What it's parsed as: `from_json` rounds fractions, and makes each number true, silently.

    Of a number that it can't take it makes nothing, as of null. A text of it says what there was.
    """
    if isinstance(structure, dict):
        return {name: _lossless(inner) for name, inner in structure.items()}
    if isinstance(structure, list):
        return [_lossless(structure[0])]
    return "VARCHAR" if structure in _PARSED_TEXTS else structure


def _together(columns: Sequence[Column]) -> list[Column]:
    """Those that one struct can hold: its field names, too, ignore case."""
    first: dict[str, Column] = {}
    for column in columns:
        first.setdefault(column.field.lower(), column)
    return list(first.values())


def _is_asked_for(column: Column) -> bool:
    """Whether there are values of which `needs_text` is true."""
    nested = not isinstance(column.structure, str)
    return column.type != "JSON" and (nested or _may_be_brackets(column))


def _may_be_brackets(column: Column) -> bool:
    return column.exact and column.structure == "VARCHAR"


def _doubts(raw: str, there: str, structure: Any) -> Iterator[str]:
    """Conditions of which one is true where `_losses` looks at the JSON text.

    `there` is true where what stands around it isn't missing itself.
    """
    if isinstance(structure, dict):
        yield _hollow(raw, structure)
        for name, inner in structure.items():
            yield from _doubts(f"{raw}.{quoted(name)}", f"{raw} IS NOT NULL", inner)
    elif isinstance(structure, list):
        yield f"{there} AND {raw} IS NULL"


def _losses(text: str, pointer: str, raw: str, value: str, structure: Any) -> Iterator[str]:
    """Conditions, each true for one way in which a value is lost."""
    if isinstance(structure, dict):
        kind = _kind(text, pointer)
        yield f"CASE WHEN {_hollow(raw, structure)} THEN {kind} NOT IN ('OBJECT', 'NULL') END"
        for name, inner in structure.items():
            inner_raw, inner_value = f"{raw}.{quoted(name)}", f"{value}.{quoted(name)}"
            yield from _losses(text, pointer + step(name), inner_raw, inner_value, inner)
    elif isinstance(structure, list):
        kind = _kind(text, pointer)
        yield f"CASE WHEN {raw} IS NULL THEN {kind} NOT IN ('ARRAY', 'NULL') END"
        yield from _item_losses(raw, value, structure[0])
    elif structure in _PARSED_TEXTS:
        yield f"{value} IS NULL AND {raw} IS NOT NULL"
        if structure == "BIGINT":
            # Cheap for nearly all: only where the number reads differently, its value is compared.
            yield (
                f"CASE WHEN CAST({value} AS VARCHAR) <> {raw} "
                f"THEN coalesce(TRY_CAST({raw} AS DOUBLE) <> {value}, true) END"
            )
        elif structure == "DOUBLE":
            yield (
                f"CASE WHEN abs({value}) >= {_LARGE} "
                f"THEN NOT isfinite({value}) OR {_rounded(raw)} END"
            )


def _other_losses(text: str, raw: str, value: str, column: Column) -> Iterator[str]:
    """Further ones, of texts that would read as something else."""
    if column.type in ("TIMESTAMP", "DATE"):
        yield f"{value} IS NULL AND {raw} IS NOT NULL"
        # DuckDB takes these words for times, too.
        yield f"isinf({value}) OR ({value} = '1970-01-01' AND {raw} ILIKE '%epoch%')"
    elif _may_be_brackets(column):
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


def _hollow(raw: str, structure: Mapping[str, Any]) -> str:
    """SQL that is true of an object in which nothing was parsed, as where a text stands for it."""
    return f"({raw} IS NOT NULL AND {_blank(raw, structure)})"


def _blank(raw: str, structure: Any) -> str:
    if not isinstance(structure, dict):
        return f"{raw} IS NULL"
    inner = [_blank(f"{raw}.{quoted(name)}", part) for name, part in structure.items()]
    return f"({' AND '.join(inner)})"


def _kind(text: str, pointer: str) -> str:
    return f"json_type({text}, {literal(pointer)})" if pointer else f"json_type({text})"


def _item_losses(raw: str, value: str, item: str) -> Iterator[str]:
    if item not in _PARSED_TEXTS:
        return
    yield f"{_missing(value)} > {_missing(raw)}"
    if item == "BIGINT":
        number = "lambda x: TRY_CAST(x AS DOUBLE)"
        yield f"list_transform({raw}, {number}) IS DISTINCT FROM CAST({value} AS DOUBLE[])"
    elif item == "DOUBLE":
        lost = f"lambda x: NOT isfinite(TRY_CAST(x AS DOUBLE)) OR {_rounded('x')}"
        large = f"len(list_filter({value}, lambda x: abs(x) >= {_LARGE})) > 0"
        yield f"CASE WHEN {large} THEN len(list_filter({raw}, {lost})) > 0 END"


def _missing(value: str) -> str:
    return f"(len({value}) - list_aggregate({value}, 'count'))"


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
