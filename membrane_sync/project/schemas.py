"""Check data schemas, put what they refer to in its place, and say what may be written by them.

The dialect is a subset of JSON Schema with a few words of Membrane's (docs/mappings.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from membrane_sync.elements import Element
from membrane_sync.elements.data_collection import DataCollection, WriteMethod
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import Problem
from membrane_sync.formulas import check as check_formula
from membrane_sync.formulas.lookups import SCHEMA_TYPES
from membrane_sync.formulas.patterns import matches
from membrane_sync.formulas.shapes import problems_of as shape_problems
from membrane_sync.formulas.values import path_text
from membrane_sync.project.located import Steps
from membrane_sync.project.validation import Invalid

Found = Iterator[tuple[Steps, str]]
"""Where in the schema, and what."""

Schema = Mapping[str, Any]
Lookup = Callable[[str], Schema | None]
"""The data schema of a key; None where there is none, or where it can't be known.

`data_collection/KEY` stands for the fields of a collection.
"""

_OF_COLLECTION = "data_collection/"

S = TypeVar("S", DataSchema, FieldMapping)


class Finder(Protocol):
    """Where elements are found by their kind and key: the project."""

    def find(
        self, kind: str, key: str, *, integration: str = "", connection: str = ""
    ) -> Element | None:
        """The element, or None if no layer has it."""
        ...


MAX_NODES = 100_000
"""Schemas within one schema, once all that it refers to stands in its place."""

MAX_DEPTH = 100
"""Levels of objects and lists within one another."""

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
    for path, inner in _children(schema):
        yield from (((*path, *below), message) for below, message in problems(inner))


def references(schema: Any) -> Iterator[tuple[Steps, str, str]]:
    """Where the schema names other schemas by `$ref` or `$dataSchemaRef`; their kinds and keys."""
    if isinstance(schema, dict):
        for word in ("$ref", "$dataSchemaRef"):
            named = _named(schema, word)
            if named is not None:
                kind, _, key = named.rpartition("/")
                yield (word,), kind or "data_schema", key
        for path, inner in _children(schema):
            yield from (((*path, *below), kind, key) for below, kind, key in references(inner))


def fields(schema: Any) -> dict[str, Any]:
    """The schema's properties by name; none where it has none."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def expanded(schema: Schema, lookup: Lookup) -> dict[str, Any]:
    """The schema with what it refers to by `$ref` and the like in its place, at every level.

    Words beside a reference win over those of what it names. What `lookup` doesn't know may be
    anything, and so may a circle, which `membrane check` refuses. Invalid if it gets too large.
    """
    return _Expansion(lookup).of(schema).schema


def lookup_in(project: Finder, integration: str = "", connection: str = "") -> Lookup:
    """The data schemas of a project, as an integration or a connection sees them."""

    def lookup(key: str) -> Schema | None:
        if key.startswith(_OF_COLLECTION):
            collection = key.removeprefix(_OF_COLLECTION)
            found = project.find("data_collection", collection, integration=integration)
            return found.fields_schema if isinstance(found, DataCollection) else None
        found = project.find("data_schema", key, integration=integration, connection=connection)
        return found.schema_ if isinstance(found, DataSchema) else None

    return lookup


def checked(schema: Any, element: str) -> dict[str, Any]:
    """A schema that a function gave; Invalid if it is none."""
    found = [
        f"{path_text(path)}: {message}".removeprefix(": ") for path, message in problems(schema)
    ]
    if found:
        wrong = [Problem(f"{element}: its function gave no schema: {found[0]}", element=element)]
        raise Invalid(wrong, [])
    return dict(schema)


def with_references(element: S, lookup: Lookup) -> S:
    """The element, its schema expanded: a data schema's own, or a field mapping's `app_schema`."""
    name = "schema_" if isinstance(element, DataSchema) else "app_schema"
    return element.model_copy(update={name: expanded(getattr(element, name), lookup)})


def writable(schema: Schema, methods: Sequence[WriteMethod]) -> dict[str, Any]:
    """A collection's schema with `readOnly` where none of these methods takes the field.

    A method takes its `fields`, all if it lists none, and never its `excluded_fields`. Without any
    method the schema stays as it is.
    """
    if not methods:
        return dict(schema)
    known = fields(schema)
    names = dict.fromkeys([*known, *(n for m in methods for n in (*m.fields, *m.excluded_fields))])
    listed = all(method.fields for method in methods)
    return {
        **schema,
        "properties": {
            name: known.get(name, {})
            if any(_takes(method, name) for method in methods)
            else {**known.get(name, {}), "readOnly": True}
            for name in names
        },
        "additionalProperties": not listed and schema.get("additionalProperties", not known),
        "required": [],
    }


def is_sensitive(schema: Any) -> bool:
    """Is the schema, or any part of it, marked `isSensitive`?"""
    if not isinstance(schema, Mapping):
        return False
    return bool(schema.get("isSensitive")) or any(
        is_sensitive(inner) for _, inner in _children(schema)
    )


class _Expanded(NamedTuple):
    schema: dict[str, Any]
    nodes: int
    depth: int


class _Expansion:
    """One expansion: each schema that is named is expanded once, however often it's named."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._known: dict[str, _Expanded] = {}
        self._within: list[str] = []

    def of(self, schema: Schema) -> _Expanded:
        inner: list[_Expanded] = []

        def expanded_part(part: Any) -> Any:
            if not isinstance(part, Mapping):
                return part
            inner.append(self.of(part))
            return inner[-1].schema

        named = self._named(schema)
        own = {**schema, **_changed_children(schema, expanded_part)}
        own.pop("$ref", None)
        own.pop("$dataSchemaRef", None)
        nodes = 1 + named.nodes + sum(part.nodes for part in inner)
        depth = max([named.depth, *(part.depth + 1 for part in inner)])
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_NODES:,} fields, or {MAX_DEPTH} levels of them")
        return _Expanded({**named.schema, **own}, nodes, depth)

    def _named(self, schema: Schema) -> _Expanded:
        key = _named(schema, "$ref") or _named(schema, "$dataSchemaRef")
        if key is None or key in self._within:
            return _Expanded({}, 0, 0)
        if key not in self._known:
            self._within.append(key)
            self._known[key] = self.of(self._lookup(key) or {})
            self._within.pop()
        return self._known[key]

    def _refuse(self, what: str) -> None:
        element = f"data_schema {self._within[-1]}" if self._within else ""
        raise Invalid([Problem(f"{element or 'a schema'} has {what}", element=element)], [])


def _changed_children(schema: Schema, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Those keywords that hold schemas, with each of these schemas changed."""
    changed: dict[str, Any] = {
        keyword: change(schema[keyword])
        for keyword in ("items", "additionalProperties")
        if keyword in schema
    }
    if fields(schema):
        changed["properties"] = {name: change(field) for name, field in fields(schema).items()}
    if isinstance(schema.get("anyOf"), list):
        changed["anyOf"] = [change(option) for option in schema["anyOf"]]
    return changed


def _takes(method: WriteMethod, name: str) -> bool:
    return (not method.fields or name in method.fields) and name not in method.excluded_fields


def _named(schema: Schema, word: str) -> str | None:
    """The schema that this word names, as a lookup knows it."""
    reference = schema.get(word)
    if isinstance(reference, str):
        return reference.removeprefix("schemas/")
    if word == "$ref" or not isinstance(reference, dict):
        return None
    key = reference.get("key")
    if not isinstance(key, str):
        return None
    return _OF_COLLECTION + key if reference.get("type") == SCHEMA_TYPES[0] else key


def _wrong_references(schema: dict[str, Any]) -> Found:
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


def _children(schema: Schema) -> Iterator[tuple[Steps, Any]]:
    yield from ((("properties", name), field) for name, field in fields(schema).items())
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield (keyword,), schema[keyword]
    options = schema.get("anyOf")
    if isinstance(options, list):
        yield from ((("anyOf", index), option) for index, option in enumerate(options))
