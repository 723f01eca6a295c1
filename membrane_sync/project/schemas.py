"""Check data schemas, and follow their references to one another.

The dialect is a subset of JSON Schema with a few words of Membrane's (docs/elements.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")

KEYWORDS = frozenset(
    ["type", "title", "description", "format", "properties", "items", "additionalProperties", "enum", "required", "default", "minLength", "maxLength", "minimum", "maximum", "maxItems", "minItems", "pattern", "examples", "anyOf", "readOnly", "writeOnly", "$ref", "referenceRecords", "referenceCollection", "referenceUdm", "allowCustom", "isImplied", "isSensitive", "isRichText"]
)

Path = tuple[Any, ...]


def problems(schema: Any, known: list[str], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Path and message of all that's wrong in a schema; `known` are the project's data schemas."""
    if not isinstance(schema, dict):
        yield path, "a schema must be a mapping"
        return
    for key in schema:
        if key not in KEYWORDS:
            near = get_close_matches(str(key), KEYWORDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield (*path, key), f"unknown schema keyword {key!r}{hint}"
    yield from _type_problems(schema, path)
    yield from _reference_problems(schema, known, path)
    yield from _children_problems(schema, known, path)


def references(schema: Any) -> Iterator[str]:
    """Keys of the data schemas this one names by `$ref`."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("schemas/")
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


def _type_problems(schema: dict[Any, Any], path: Path) -> Iterator[tuple[Path, str]]:
    declared = schema.get("type")
    for name in declared if isinstance(declared, list) else [declared]:
        if name is not None and name not in TYPES:
            near = get_close_matches(str(name), TYPES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(TYPES)}"
            yield (*path, "type"), f"unknown type {name!r}; {hint}"
    required = schema.get("required", [])
    fields = schema.get("properties", {})
    if isinstance(required, list) and isinstance(fields, dict):
        for name in required:
            if fields and name not in fields:
                yield (*path, "required"), f"required field {name!r} is not among the properties"


def _reference_problems(
    schema: dict[Any, Any], known: list[str], path: Path
) -> Iterator[tuple[Path, str]]:
    reference = schema.get("$ref")
    if reference is None:
        return
    key = str(reference).removeprefix("schemas/")
    if key not in known:
        near = get_close_matches(key, known, 1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"declared are: {', '.join(known) or 'none'}"
        )
        yield (*path, "$ref"), f"there is no data_schema {key!r}; {hint}"


def _children_problems(
    schema: dict[Any, Any], known: list[str], path: Path
) -> Iterator[tuple[Path, str]]:
    fields = schema.get("properties")
    if isinstance(fields, dict):
        for name, field in fields.items():
            yield from problems(field, known, (*path, "properties", name))
    elif fields is not None:
        yield (*path, "properties"), "properties must be a mapping"
    if "items" in schema:
        yield from problems(schema["items"], known, (*path, "items"))
    for index, option in enumerate(schema.get("anyOf") or []):
        yield from problems(option, known, (*path, "anyOf", index))
