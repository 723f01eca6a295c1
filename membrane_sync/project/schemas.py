"""Put what data schemas refer to in its place, and say what may be written by them.

The dialect is a subset of JSON Schema with a few words of Membrane's (docs/mappings.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from membrane_sync.elements import Element
from membrane_sync.elements.data_collection import DataCollection, WriteMethod
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.errors import Problem
from membrane_sync.formulas.lookups import SCHEMA_TYPES
from membrane_sync.project.located import Steps
from membrane_sync.project.validation import Invalid

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


def references(schema: Any) -> Iterator[tuple[Steps, str, str]]:
    """Where the schema names other schemas by `$ref` or `$dataSchemaRef`; their kinds and keys."""
    if isinstance(schema, dict):
        for word in ("$ref", "$dataSchemaRef"):
            named = _named(schema, word)
            if named is not None and not named.startswith("#"):
                kind, _, key = named.rpartition("/")
                yield (word,), kind or "data_schema", key
        for path, inner in parts(schema):
            yield from (((*path, *below), kind, key) for below, kind, key in references(inner))


def fields(schema: Any) -> dict[str, Any]:
    """The schema's properties by name; none where it has none."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def expanded(schema: Schema, lookup: Lookup) -> dict[str, Any]:
    """The schema with what it refers to by `$ref` and the like in its place, at every level.

    Words beside a reference win over those of what it names, and fields beside it are added. What
    `lookup` doesn't know may be anything, and so may a circle, which `membrane check` refuses.
    Invalid if it gets too large.
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
    return bool(schema.get("isSensitive")) or any(is_sensitive(inner) for _, inner in parts(schema))


def joined(base: Schema, own: Schema) -> dict[str, Any]:
    """Both in one: the words of `own` win, while fields and what's required are those of both."""
    result = {**base, **own}
    if fields(base) and fields(own):
        result["properties"] = {**fields(base), **fields(own)}
    if base.get("required") and own.get("required"):
        result["required"] = [*dict.fromkeys([*base["required"], *own["required"]])]
    return result


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
        return _Expanded(joined(named.schema, own), nodes, depth)

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


def parts(schema: Schema) -> Iterator[tuple[Steps, Any]]:
    """The schemas of which it's made, with their paths: of fields, of items, and those of anyOf."""
    yield from ((("properties", name), field) for name, field in fields(schema).items())
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield (keyword,), schema[keyword]
    options = schema.get("anyOf")
    if isinstance(options, list):
        yield from ((("anyOf", index), option) for index, option in enumerate(options))
