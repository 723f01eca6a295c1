"""What's wrong with a data schema by itself: unknown words, and values that can't be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import Problem
from membrane_sync.formulas import check as check_formula
from membrane_sync.formulas.patterns import matches
from membrane_sync.formulas.shapes import problems_of as shape_problems
from membrane_sync.formulas.values import path_text
from membrane_sync.project.located import Steps
from membrane_sync.project.schemas import Lookup, fields, parts, references
from membrane_sync.project.shape import refusal
from membrane_sync.project.validation import Invalid

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
    "$dataSchemaRef": (str, dict),
    "referenceRecords": (object,),
    "referenceCollection": _MAPPING,
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
    (str, dict): "a key, or a mapping of type and key",
}


def problems(schema: Any) -> Found:
    """Path and message of all that's wrong in a schema by itself; references are not followed."""
    wrong = [*_wrong_words(schema)]
    yield from wrong or _impossible_values(schema)


def _wrong_words(schema: Any) -> Found:
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
    yield from _wrong_references(schema)
    yield from _unreadable_pattern(schema)
    for path, inner in parts(schema):
        yield from (((*path, *below), message) for below, message in _wrong_words(inner))


def checked(
    schema: Any, element: str, file: str = "", line: int = 0, lookup: Lookup | None = None
) -> dict[str, Any]:
    """A schema that a function gave, as JSON has it; Invalid, with this place, if it is none.

    With `lookup`, what it refers to has to be there.
    """
    try:
        given = json.loads(json.dumps(schema, allow_nan=False))
        found = [*problems(given), *(_unknown_references(given, lookup) if lookup else ())]
    except (TypeError, ValueError):
        given, found = {}, [((), "it's no JSON")]
    except RecursionError:
        given, found = {}, [((), "it's nested too deeply")]
    if found:
        said = ": ".join(filter(None, (path_text(found[0][0]), found[0][1])))
        message = f"{element}: its function gave no schema: {said}"
        raise Invalid([Problem(message, file, line, element)], [])
    return dict(given)


def _unknown_references(schema: dict[str, Any], lookup: Lookup) -> Found:
    for path, kind, key in references(schema):
        name = key if kind == "data_schema" else f"{kind}/{key}"
        if lookup(name) is None:
            yield path, f"there is no {kind} {key!r}"


def _wrong_references(schema: dict[str, Any]) -> Found:
    if str(schema.get("$ref", "")).startswith("#"):
        message = "$ref names another data schema, as schemas/people; not a part of this one"
        yield ("$ref",), message
    reference = schema.get("$dataSchemaRef")
    if isinstance(reference, dict):
        yield from shape_problems({"$dataSchemaRef": reference})
    collection = schema.get("referenceCollection")
    if isinstance(collection, dict):
        if not isinstance(collection.get("key"), (str, dict)):
            yield ("referenceCollection",), "referenceCollection needs a key"
        for problem in check_formula(collection):
            yield ("referenceCollection", *problem.path), problem.message


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
    if "$ref" in schema or "$dataSchemaRef" in schema:
        return  # they have fields, too
    for index, name in enumerate(required if known and isinstance(required, list) else ()):
        if not isinstance(name, str) or name not in known:
            hint = nearest(name, known, "they are")
            message = f"required field {name!r} is not among the properties; {hint}"
            yield ("required", index), message


def _unreadable_pattern(schema: dict[str, Any]) -> Found:
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        try:
            matches(pattern, "")
        except ValueError as error:
            yield ("pattern",), str(error)


def _impossible_values(schema: dict[str, Any]) -> Found:
    """Defaults that would be refused, and options that no value of the type can be."""
    if "default" in schema and (reason := refusal(schema["default"], schema)):
        yield ("default",), f"the default doesn't fit: {reason}"
    typed = {"type": schema["type"]} if "type" in schema else {}
    for index, option in enumerate(schema.get("enum", ())):
        if reason := refusal(option, typed):
            yield ("enum", index), f"no value can be this option: {reason}"
    for path, inner in parts(schema):
        yield from (((*path, *below), message) for below, message in _impossible_values(inner))
