"""Bring a mapped value into the types of its data schema, or say which field can't be.

Text becomes a number or a boolean only where it's written as one; nothing is cut or rounded. Fields
the schema doesn't know are left out, unless it has no properties at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any


class ShapeError(ValueError):
    """A field doesn't fit its schema."""

    def __init__(self, field: str, value: Any, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


def shaped(value: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The value with the schema's fields and types; raises ShapeError for the first misfit."""
    fields = schema.get("properties", {})
    kept = {name: item for name, item in value.items() if not fields or name in fields}
    result = {name: _field(name, item, fields.get(name, {})) for name, item in kept.items()}
    for name, field in fields.items():
        if name not in result and "default" in field:
            result[name] = field["default"]
    for name in schema.get("required", []):
        if result.get(name) is None:
            raise ShapeError(name, None, "the field is required and the mapping gives none")
    return result


def _field(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    declared = schema.get("type")
    types = declared if isinstance(declared, list) else [declared]
    if value is None or declared is None:
        return value
    result = _first(value, types)
    if result is _MISFIT:
        wanted = " or ".join(str(option) for option in types)
        raise ShapeError(name, value, f"should be {wanted}, is {_kind(value)}")
    if "enum" in schema and result not in schema["enum"]:
        raise ShapeError(name, value, f"is not one of {', '.join(map(str, schema['enum']))}")
    _check_length(name, result, schema)
    return _nested(name, _check_format(name, result, schema), schema)


def _first(value: Any, types: list[Any]) -> Any:
    for name in types:
        result = _COERCIONS[name](value) if name in _COERCIONS else _MISFIT
        if result is not _MISFIT:
            return result
    return _MISFIT


def _nested(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    try:
        if isinstance(value, dict) and schema.get("properties"):
            return shaped(value, schema)
        if isinstance(value, list) and schema.get("items"):
            return [_field(str(i), item, schema["items"]) for i, item in enumerate(value)]
    except ShapeError as error:
        raise ShapeError(name, error.value, f"{error.field}: {error.reason}") from None
    return value


def _check_length(name: str, value: Any, schema: Mapping[str, Any]) -> None:
    if isinstance(value, str):
        longest, shortest = schema.get("maxLength"), schema.get("minLength")
        if longest is not None and len(value) > longest:
            raise ShapeError(name, value, f"is longer than {longest} characters")
        if shortest is not None and len(value) < shortest:
            raise ShapeError(name, value, f"is shorter than {shortest} characters")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        greatest, least = schema.get("maximum"), schema.get("minimum")
        if greatest is not None and value > greatest:
            raise ShapeError(name, value, f"is greater than {greatest}")
        if least is not None and value < least:
            raise ShapeError(name, value, f"is less than {least}")


def _check_format(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    parse = {"date-time": datetime.fromisoformat, "date": date.fromisoformat}.get(
        schema.get("format", "")
    )
    if parse is None or not isinstance(value, str):
        return value
    try:
        parse(value)
    except ValueError:
        raise ShapeError(name, value, f"is not a {schema['format']} (ISO 8601)") from None
    return value


_MISFIT = object()
_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _string(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else _MISFIT


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
    if isinstance(value, bool):
        return _MISFIT
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    return value if isinstance(value, int | float) and math.isfinite(value) else _MISFIT


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
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean"}
    return names.get(type(value), "a number")
