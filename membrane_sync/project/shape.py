"""Bring a mapped value into the types of its schema, and say which fields can't be.

Text becomes a number or a boolean only where it's written as one; nothing is cut or rounded. Fields
that the schema doesn't know, or that are read only, are left out and named. A package for JSON
Schema would only say yes or no: here one walk also converts, drops, fills in defaults, keeps
sensitive values out of messages, and searches patterns in bounded time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NoReturn

from membrane_sync.formulas import MISSING
from membrane_sync.formulas.javascript import to_string
from membrane_sync.formulas.patterns import matches
from membrane_sync.formulas.values import Step, path_text
from membrane_sync.project.schemas import fields, is_sensitive, joined

Schema = Mapping[str, Any]
Path = tuple[Step, ...]


class ShapeError(ValueError):
    """A field doesn't fit its schema; `value` is MISSING if it's sensitive."""

    def __init__(self, path: Path, value: Any, reason: str) -> None:
        super().__init__(reason)
        inner = path_text(path[1:])
        self.path = path
        self.field = str(path[0]) if path else ""
        self.value = value
        self.words = reason
        self.reason = f"{inner}: {reason}" if inner else reason


@dataclass(frozen=True)
class Shaped:
    """A value in its schema's shape, without the fields that don't fit and those left out."""

    value: dict[str, Any]
    misfits: Sequence[ShapeError] = ()
    dropped: frozenset[str] = frozenset()
    """Paths of fields the schema doesn't know, or doesn't let anyone write: `emails[].kind`."""


def shaped(value: Mapping[str, Any], schema: Schema) -> Shaped:
    """The value with the schema's fields and types, and all of its fields that don't fit."""
    tried = []
    for option in options(schema):
        misfits: list[ShapeError] = []
        dropped: set[str] = set()
        result = _object(value, option, (), dropped, misfits.append)
        if not misfits and not dropped:
            return Shaped(result)
        tried.append(Shaped(result, misfits, frozenset(dropped)))
    return min(tried, key=lambda found: (len(found.misfits), len(found.dropped)))


def _object(
    value: Mapping[str, Any],
    schema: Schema,
    path: Path,
    dropped: set[str],
    refuse: Callable[[ShapeError], object],
) -> dict[str, Any]:
    known = fields(schema)
    others = schema.get("additionalProperties", not known)
    result, refused = {}, set()
    for name, item in value.items():
        field: Any = known.get(name, others)
        if field is False or (field is not True and field.get("readOnly")):
            dropped.add(_INDEX.sub("[]", path_text((*path, name))))
            continue
        try:
            result[name] = item if field is True else _field(item, field, (*path, name), dropped)
        except ShapeError as error:
            refused.add(name)
            refuse(error)
    _fill(result, known)
    for name in schema.get("required", ()):
        if result.get(name) is None and name not in refused and not _read_only(known, name):
            reason = "the field is required and missing"
            refuse(ShapeError((*path, name), None, reason))
    return result


def _fill(result: dict[str, Any], known: Mapping[str, Any]) -> None:
    for name, field in known.items():
        if name not in result and "default" in field and not field.get("readOnly"):
            result[name] = field["default"]


def _read_only(known: Mapping[str, Any], name: str) -> bool:
    return bool(known.get(name, {}).get("readOnly"))


def _field(value: Any, schema: Schema, path: Path, dropped: set[str]) -> Any:
    if value is None:
        return None
    try:
        if "anyOf" not in schema:
            return _checked(value, schema, path, dropped)
        return _any_of(value, schema, path, dropped)
    except ShapeError as error:
        if is_sensitive(schema):
            raise ShapeError(error.path, MISSING, error.words) from None
        raise


def _any_of(value: Any, schema: Schema, path: Path, dropped: set[str]) -> Any:
    """By the first option that takes the value as it is, else by the first that takes it."""
    fitting: list[tuple[Any, set[str]]] = []
    reasons: dict[str, None] = {}
    for option in options(schema):
        left: set[str] = set()
        try:
            result = _checked(value, option, path, left)
        except ShapeError as error:
            inner = path_text(error.path[len(path) :])
            reasons[f"{inner}: {error.words}" if inner else error.words] = None
            continue
        if not left and _same(result, value):
            return result
        fitting.append((result, left))
    if not fitting:
        raise ShapeError(path, value, f"fits none of anyOf: {_listed(reasons)}")
    result, left = fitting[0]
    dropped |= left
    return result


def refusal(value: Any, schema: Schema) -> str:
    """Why the value doesn't stay as it is in a field of this schema; empty if it does."""
    try:
        result = _field(value, schema, ("field",), set())
    except ShapeError as error:
        return error.reason
    return "" if _same(result, value) else "it is of another type"


def options(schema: Schema) -> Iterator[Schema]:
    """The schemas of `anyOf`, each with what stands beside it; the schema itself without one."""
    if not schema.get("anyOf"):
        yield schema
        return
    base = {name: word for name, word in schema.items() if name != "anyOf"}
    for option in schema["anyOf"]:
        yield from options(joined(base, option))


def _same(result: Any, value: Any) -> bool:
    """Equal in type, too: 1, 1.0 and true are three values."""
    return json.dumps(result) == json.dumps(value)


def _equal(value: Any, option: Any) -> bool:
    """Equal as JSON Schema has it: 1 is 1.0, and not true."""
    return bool(value == option) and isinstance(value, bool) == isinstance(option, bool)


def _checked(value: Any, schema: Schema, path: Path, dropped: set[str]) -> Any:
    result = _typed(value, schema.get("type"))
    if result is _MISFIT:
        declared = schema["type"]
        wanted = " or ".join(declared if isinstance(declared, list) else [declared])
        raise ShapeError(path, value, f"should be {wanted}, is {_kind(value)}")
    if not _CHECKS.isdisjoint(schema):
        for reason in objections(result, schema):
            raise ShapeError(path, value, reason)
    if isinstance(result, dict):
        return _object(result, schema, path, dropped, _raise)
    if isinstance(result, list) and schema.get("items"):
        return [_field(v, schema["items"], (*path, i), dropped) for i, v in enumerate(result)]
    return result


def _raise(error: ShapeError) -> NoReturn:
    raise error


# --- types ---------------------------------------------------------------------------------------


def _typed(value: Any, declared: Any) -> Any:
    """The value as one of the types: as it is if that's one of them, else converted."""
    if declared is None:
        return value
    types = declared if isinstance(declared, list) else [declared]
    if len(types) > 1 and _JSON_TYPE.get(type(value)) in types:
        return value
    for name in types:
        result = _COERCIONS[name](value) if name in _COERCIONS else _MISFIT
        if result is not _MISFIT:
            return result
    return _MISFIT


_MISFIT = object()
_INDEX = re.compile(r"\[\d+\]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_JSON_TYPE: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    str: "string",
    dict: "object",
    list: "array",
}
"""Not of a float, which may yet be infinite, or an integer."""


def _string(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return to_string(value) if math.isfinite(value) else _MISFIT
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _MISFIT


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        return _MISFIT
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    written = isinstance(value, str) and _INTEGER.fullmatch(value.strip())
    return int(value) if written else _MISFIT


def _number(value: Any) -> Any:
    whole = _integer(value) if isinstance(value, str) else _MISFIT
    if whole is not _MISFIT:
        return whole  # with all its digits, as an id in a text has
    if isinstance(value, bool):
        return _MISFIT
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    return value if isinstance(value, float) and math.isfinite(value) else _MISFIT


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value, _MISFIT) if isinstance(value, str) else _MISFIT


_COERCIONS: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "object": lambda value: value if isinstance(value, dict) else _MISFIT,
    "array": lambda value: value if isinstance(value, list) else _MISFIT,
}


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "an infinite number"
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean"}
    return names.get(type(value), "a number")


# --- what else a schema may ask for --------------------------------------------------------------


_CHECKS = frozenset(
    {
        *("enum", "pattern", "format", "minLength", "maxLength"),
        *("minItems", "maxItems", "minimum", "maximum"),
    }
)
"""Words that look at the value itself; most fields have none of them."""


def objections(value: Any, schema: Schema) -> Iterator[str]:
    """Why the value, which is of the right type, doesn't fit; no value stands in the words."""
    options = None if schema.get("allowCustom") else schema.get("enum")
    if options is not None and not any(_equal(value, option) for option in options):
        yield f"is not one of {_listed(options)}"
    if isinstance(value, str):
        yield from _outside(len(value), schema, "Length", "is longer", "is shorter", " characters")
        yield from _unmatched(value, schema)
        yield from _unformatted(value, schema.get("format"))
    elif isinstance(value, list):
        yield from _outside(len(value), schema, "Items", "has more", "has less", " items")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        bounds = {"maxValue": schema.get("maximum"), "minValue": schema.get("minimum")}
        yield from _outside(value, bounds, "Value", "is greater", "is less", "")


def _outside(
    size: float, schema: Schema, what: str, above: str, below: str, unit: str
) -> Iterator[str]:
    greatest, least = schema.get(f"max{what}"), schema.get(f"min{what}")
    if greatest is not None and size > greatest:
        yield f"{above} than {greatest}{unit}"
    if least is not None and size < least:
        yield f"{below} than {least}{unit}"


def _unmatched(value: str, schema: Schema) -> Iterator[str]:
    pattern = schema.get("pattern")
    if pattern is None:
        return
    try:
        found = matches(pattern, value)
    except ValueError as error:
        yield str(error)
    else:
        if not found:
            yield f"doesn't match the pattern {pattern}"


def _unformatted(value: str, name: Any) -> Iterator[str]:
    if isinstance(name, str) and name in _FORMATS:
        parse, words = _FORMATS[name]
        try:
            parse(value)
        except ValueError:
            yield f"is not {words}"


def _full(pattern: str) -> Callable[[str], object]:
    compiled = re.compile(pattern)

    def parse(value: str) -> None:
        if not compiled.fullmatch(value):
            raise ValueError

    return parse


_FORMATS: dict[str, tuple[Callable[[str], object], str]] = {
    "date": (date.fromisoformat, "a date (ISO 8601)"),
    "date-time": (datetime.fromisoformat, "a date-time (ISO 8601)"),
    "time": (time.fromisoformat, "a time (ISO 8601)"),
    "email": (_full(r"[^@\s]+@[^@\s]+"), "an email address"),
    "uri": (_full(r"[A-Za-z][A-Za-z0-9+.-]*:\S+"), "a URI"),
    "uuid": (_full(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"), "a UUID"),
    "ipv4": (IPv4Address, "an IPv4 address"),
    "ipv6": (IPv6Address, "an IPv6 address"),
}
"""Formats that are checked; all others say something to people."""


def _listed(words: Any) -> str:
    shown = [str(word) for word in words]
    return ", ".join(shown[:SHOWN] + ["…"] * (len(shown) > SHOWN))


SHOWN = 20
"""How many options a message lists."""
