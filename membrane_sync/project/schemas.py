"""Check data schemas, and follow their references to one another.

The dialect is a subset of JSON Schema with a few words of Membrane's (docs/elements.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from membrane_sync.elements.nearest import nearest
from membrane_sync.project.located import Steps

Found = Iterator[tuple[Steps, str]]
"""Where in the schema, and what."""

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")

_TEXT, _SWITCH, _LIST, _MAPPING = (str,), (bool,), (list,), (dict,)
_NUMBER = (int, float)

_KEYWORDS: dict[str, tuple[type, ...]] = {
    "type": (str, list),
    "title": _TEXT,
    "description": _TEXT,
    "format": _TEXT,
    "properties": _MAPPING,
    "items": _MAPPING,
    "additionalProperties": (bool, dict),
    "anyOf": _LIST,
    "enum": _LIST,
    "required": _LIST,
    "default": (object,),
    "examples": (object,),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "minLength": (int,),
    "maxLength": (int,),
    "minItems": (int,),
    "maxItems": (int,),
    "pattern": _TEXT,
    "readOnly": _SWITCH,
    "writeOnly": _SWITCH,
    "$ref": _TEXT,
    "referenceRecords": (object,),
    "referenceCollection": (object,),
    "referenceUdm": _TEXT,
    "allowCustom": _SWITCH,
    "isImplied": _SWITCH,
    "isSensitive": _SWITCH,
    "isRichText": _SWITCH,
}
"""Every word a schema may use, and what may stand there."""

_WORDS = {
    _TEXT: "a text",
    _SWITCH: "true or false",
    _LIST: "a list",
    _MAPPING: "a mapping",
    _NUMBER: "a number",
    (int,): "a whole number",
    (str, list): "a type or a list of types",
    (bool, dict): "true, false or a schema",
}


def problems(schema: Any) -> Found:
    """Path and message of all that's wrong in a schema by itself; references are not followed."""
    if not isinstance(schema, dict):
        yield (), "a schema must be a mapping"
        return
    for key, value in schema.items():
        if key not in _KEYWORDS:
            yield (key,), f"unknown schema keyword {key!r}; {nearest(key, _KEYWORDS)}"
        elif not _fits(value, _KEYWORDS[key]):
            yield (key,), f"{key} must be {_WORDS[_KEYWORDS[key]]}"
    yield from _unknown_types(schema)
    yield from _unknown_required(schema)
    for path, inner in _children(schema):
        yield from (((*path, *below), message) for below, message in problems(inner))


def references(schema: Any) -> Found:
    """Where the schema names other data schemas by `$ref`, and their keys."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield ("$ref",), reference.removeprefix("schemas/")
        for path, inner in _children(schema):
            yield from (((*path, *below), key) for below, key in references(inner))


def fields(schema: Any) -> dict[str, Any]:
    """The schema's properties by name; none where it has none."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types or object in types
    return isinstance(value, types)


def _unknown_types(schema: dict[str, Any]) -> Found:
    declared = schema.get("type")
    names = enumerate(declared) if isinstance(declared, list) else [(None, declared)]
    for index, name in names:
        if name not in TYPES and (index is not None or isinstance(name, str)):
            path = ("type",) if index is None else ("type", index)
            yield path, f"unknown type {name!r}; {nearest(name, TYPES)}"


def _unknown_required(schema: dict[str, Any]) -> Found:
    known, required = fields(schema), schema.get("required")
    for index, name in enumerate(required if known and isinstance(required, list) else ()):
        if not isinstance(name, str) or name not in known:
            hint = nearest(name, known, "they are")
            message = f"required field {name!r} is not among the properties; {hint}"
            yield ("required", index), message


def _children(schema: dict[str, Any]) -> Iterator[tuple[Steps, Any]]:
    yield from ((("properties", name), field) for name, field in fields(schema).items())
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield (keyword,), schema[keyword]
    options = schema.get("anyOf")
    if isinstance(options, list):
        yield from ((("anyOf", index), option) for index, option in enumerate(options))
