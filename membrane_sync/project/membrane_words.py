"""Membrane's words for an element turned into ours: types, references, inline parts.

What has no word here is left as it is; `membrane_export.py` then finds it unknown, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from membrane_sync.elements import KINDS
from membrane_sync.elements.base import yaml_keys
from membrane_sync.project.located import Block, Steps, is_formula, marked

KIND_OF = {
    "action": "action",
    "flow": "flow",
    "data-source": "data_source",
    "field-mapping": "field_mapping",
    "data-link-table": "data_link_table",
    "app-data-schema": "data_schema",
    "internal-data-schema": "data_schema",
    "app-event-type": "internal_event",
    "internal-event-type": "internal_event",
    "package": "package",
}
"""Membrane's kinds, in the singular, that have one of ours."""

KEPT_BY_MEMBRANE = re.compile(
    r"id|revision|state|errors|isDeactivated|isReadOnly|isCustomized|customized|isUniversal|outdated"
    r"|isOutdated|(created|updated|archived)At|integration(Id|Uuid|Key)?|connectionId|instanceKey"
    r"|(universal)?[pP]arent(Id|Uuid|Key|Revision|PackageVersion)|workspaceId|externalApp(Id|Uuid|Key)"
    r"|(universal)?(Action|Flow|FieldMapping|DataSource|Package|action|flow|fieldMapping|dataSource)"
    r"(Id|Uuid|Revision)|appDataSchema(Id|Revision)|connector(Id|Uuid)|baseUri|logoUri|has[A-Z]\w*"
    r"|(dataCollections|operations|events)Count|authType|globalWebhookUri|webhookKey|defaultPath|path"
    r"|defaultCollection(Key|Parameters)|collectionSpec|dataSourceSchema|dataSourceInstanceId"
    r"|dependencies|version|ui|testInput|outputExample"
    r"|isPublic|appUuid|defaultConnectionId"
)
"""Keys by which Membrane's service keeps its books; they mean nothing in a file."""

_TYPES = {
    "run-javascript": "run_function",
    "app-event-trigger": "internal_event_trigger",
    "for-each-v2": "for_each",
    "custom-http-request": "http_request",
    "api-request": "api_request_to_external_app",
    "find-data-records": "search_data_records",
}

_REFERENCES = {
    "dataSource": "data_source",
    "fieldMapping": "field_mapping",
    "dataLinkTable": "data_link_table",
    "appEvent": "internal_event",
    "internalEvent": "internal_event",
    "action": "action",
}
"""Keys that hold `{key: …}`, and what they name."""

_IS_WHOLE = {
    "data_source": {"collectionKey", "udm", "path", "defaultPath"},
    "field_mapping": {"importValue", "exportValue", "defaultImportValue", "defaultExportValue"},
}
"""What makes such a part an element of its own; one of these is enough."""


def own_key(text: str) -> str:
    """A key of Membrane's as one of ours, which has letters, digits, - and _ alone."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or text


Note = Callable[[Steps, str, str], None]
"""Notes a path of the file, an outcome and a reason."""


class Translation:
    """One element's file in our words; `inline` holds elements that it had inside, by kind, key."""

    def __init__(
        self,
        kind: str,
        key: str,
        keys: Mapping[str, str],
        taken: Callable[[str, str], bool],
        note: Note,
    ) -> None:
        """`keys` are those of all elements by their id; `taken` says if there's one of this kind.

        That is another one than this, or one inside of another.
        """
        self.inline: dict[tuple[str, str], Block] = {}
        self._taken = taken
        self._kind = kind
        self._key = key
        self._keys = keys
        self._note = note

    def of(self, spec: Block) -> Block:
        """A copy in our words, of which some keys may still be unknown to us."""
        if self._kind == "data_source":
            self._collection(spec)
        if self._kind == "field_mapping":
            self._source(spec)
        own = self._without_books(spec, ())
        special = {
            "field_mapping": self._field_mapping,
            "data_schema": self._data_schema,
            "internal_event": self._internal_event,
            "action": self._action,
            "flow": self._flow,
        }
        return special.get(self._kind, lambda block: block)(own)

    def _without_books(self, spec: Block, path: Steps) -> Block:
        known = yaml_keys(KINDS[self._kind]) if not path else {}
        result = Block(spec.mark)
        for key, value in spec.items():
            if key not in known and KEPT_BY_MEMBRANE.fullmatch(key):
                self._note((*path, key), "books", "kept by Membrane's service")
            else:
                result.put(key, value, spec.marks[key])
        return result

    def _collection(self, spec: Block) -> None:
        """An old data source names its collection by a path alone, as `/data/contacts?of=me`."""
        for old in ("path", "defaultPath"):
            if not isinstance(spec.get(old), str):
                continue
            key, parameters = _location(spec[old])
            mark = spec.marks[old]
            if "collectionKey" not in spec:
                self._note((old,), "changed", "its last part is collection_key")
                _replace(spec, old, "collectionKey", key)
                if parameters:
                    spec.put("collectionParameters", marked(parameters, mark), mark)
            elif (key, parameters) != (spec["collectionKey"], spec.get("collectionParameters", {})):
                self._drop(spec, (old,), "collectionKey and collectionParameters say otherwise")

    def _source(self, spec: Block) -> None:
        """A mapping may name its data source by an id alone."""
        for old in ("dataSourceId", "dataSourceUuid"):
            if spec.get(old) is not None and "dataSourceKey" not in spec:
                key = self._keys.get(str(spec[old]))
                if key is None:
                    self._drop(spec, (old,), "no file of the export has this id")
                else:
                    self._note((old,), "changed", f"a reference by its key: data_source {key}")
                    _replace(spec, old, "dataSourceKey", key)

    def _field_mapping(self, spec: Block) -> Block:
        _rename_key(spec, "dataSourceKey", "data_source")
        schema = spec.get("appSchema")
        named = isinstance(schema, Block) and list(schema) == ["$ref"]
        if isinstance(schema, Block) and named and "data_schema" not in spec:
            self._note(("appSchema",), "changed", "a reference to a data schema: data_schema")
            key = own_key(str(schema["$ref"]).removeprefix("schemas/"))
            _replace(spec, "appSchema", "data_schema", key)
        return spec

    def _data_schema(self, spec: Block) -> Block:
        if "code" in spec:
            self._drop(spec, ("code",), "JavaScript isn't run; write a function in hooks.py")
        return spec

    def _internal_event(self, spec: Block) -> Block:
        for old in ("tenantIdFormula", "userIdFormula"):
            if old in spec and "tenant" not in spec:
                self._note((old,), "changed", "is called tenant")
                _rename(spec, old, "tenant")
        if isinstance(spec.get("subscribeRequest"), Block) and "subscribe" not in spec:
            self._request(spec["subscribeRequest"], ("subscribeRequest",))
            _rename(spec, "subscribeRequest", "subscribe")
        return spec

    def _action(self, spec: Block) -> Block:
        self._type(spec, ())
        if isinstance(spec.get("config"), Block):
            self._config(spec["config"], ("config",), self._key)
        return spec

    def _flow(self, spec: Block) -> Block:
        nodes = spec.get("nodes")
        if isinstance(nodes, Block):
            for key, node in list(nodes.items()):
                if isinstance(node, Block):
                    nodes[key] = self._node(node, ("nodes", key), f"{self._key}-{key}")
        return spec

    def _node(self, node: Block, path: Steps, key: str) -> Block:
        own = self._without_books(node, path)
        self._type(own, path)
        if isinstance(own.get("config"), Block):
            self._node_config(own, path, key)
        return own

    def _node_config(self, node: Block, path: Steps, key: str) -> None:
        config = node["config"]
        for name in ("inputSchema", "outputSchema"):
            if name in config and name not in node:
                self._note((*path, "config", name), "changed", "belongs to the node itself")
                node.put(name, config.pop(name), config.marks[name])
        self._config(config, (*path, "config"), key)

    def _type(self, spec: Block, path: Steps) -> None:
        kind = spec.get("type")
        if isinstance(kind, str):
            ours = _TYPES.get(kind, kind.replace("-", "_"))
            if kind in _TYPES:
                self._note((*path, "type"), "changed", f"{kind} is called {ours}")
            spec["type"] = ours

    def _config(self, config: Block, path: Steps, key: str) -> None:
        for name, kind in _REFERENCES.items():
            if isinstance(config.get(name), Block) and kind not in config:
                self._reference(config, name, kind, path, key)
        for old, new in (("appEventKey", "internal_event"), ("eventKey", "event")):
            _rename_key(config, old, new)
        if isinstance(config.get("request"), Block):
            self._request(config["request"], (*path, "request"))
        if "code" in config:
            reason = "JavaScript isn't run; write a function in hooks.py, and name it as function"
            self._drop(config, (*path, "code"), reason)

    def _reference(self, config: Block, name: str, kind: str, path: Steps, key: str) -> None:
        part, mark = config.pop(name), config.marks.pop(name)
        here = (*path, name)
        if kind == "field_mapping" and "input" in part and "input" not in config:
            config.put("input", part.pop("input"), part.marks["input"])
        if "includeRawFields" in part and "key" in part:
            reason = "say include_raw_fields in the field mapping; it holds for all its users"
            self._drop(part, (*here, "includeRawFields"), reason)
        named = part.pop("key", None) or self._named_by_id(part, here)
        if named is not None:
            config.put(kind, own_key(named) if isinstance(named, str) else named, mark)
            for rest in list(part):
                self._drop(part, (*here, rest), f"belongs to the {kind} itself")
        elif part:
            self._inline(config, kind, part, here, key)
        else:
            self._note(here, "changed", "empty, so left out")

    def _named_by_id(self, part: Block, path: Steps) -> str | None:
        """The key of the element that the part names by an id or a uuid, which are taken out."""
        for name in ("id", "uuid"):
            if name not in part:
                continue
            if key := self._keys.get(str(part[name])):
                part.pop(name)
                return key
            self._drop(part, (*path, name), "no file of the export has this id")
        return None

    def _inline(self, config: Block, kind: str, part: Block, path: Steps, key: str) -> None:
        """An element inside another becomes one of its own, which the other names."""
        if kind not in ("data_source", "field_mapping") or not _IS_WHOLE[kind] & set(part):
            for rest in list(part):
                self._drop(part, (*path, rest), f"names no {kind}, and makes none by itself")
            return
        key = own_key(key)
        while self._taken(kind, key) or (kind, key) in self.inline:
            key += "-inline"
        own = Translation(kind, key, self._keys, self._taken, self._below(path))
        body = own.of(part)
        parameters = body.get("collectionParameters")
        if isinstance(parameters, Block):
            for name in [n for n, value in parameters.items() if _has_formula(value)]:
                reason = "a data source's parameters are constant"
                self._drop(parameters, (*path, "collectionParameters", name), reason)
        self.inline[kind, key] = body
        config.put(kind, key, part.mark)
        self._note(path, "changed", f"an element of its own now: {kind} {key}")

    def _below(self, path: Steps) -> Note:
        return lambda inner, outcome, reason: self._note((*path, *inner), outcome, reason)

    def _request(self, request: Block, path: Steps) -> None:
        for old in ("uri", "path"):
            if old in request and "url" not in request:
                self._note((*path, old), "changed", "is called url")
                _rename(request, old, "url")

    def _drop(self, block: Block, path: Steps, reason: str) -> None:
        block.pop(path[-1])
        self._note(path, "left out", reason)


def references_to_schemas(schema: Any, path: Steps = ()) -> Iterator[tuple[Steps, Block]]:
    """Every part of a schema that names a data schema in Membrane's other way."""
    if isinstance(schema, Block):
        if isinstance(schema.get("$dataSchemaRef"), str) and "$ref" not in schema:
            yield path, schema
        for key, inner in schema.items():
            yield from references_to_schemas(inner, (*path, key))
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from references_to_schemas(inner, (*path, index))


def _has_formula(value: Any) -> bool:
    if is_formula(value):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_formula(item) for item in inner)


def _location(path: str) -> tuple[str, dict[str, str]]:
    """The collection's key and parameters of a path such as `/data/contacts?of=me`."""
    place, _, query = path.partition("?")
    return place.rsplit("/", 1)[-1], dict(parse_qsl(query, keep_blank_values=True))


def _rename(block: Block, old: str, new: str) -> None:
    """Unless the new name is there, too: then both stay, and one of them is found unknown."""
    if old in block and new not in block:
        _replace(block, old, new, block[old])


def _rename_key(block: Block, old: str, new: str) -> None:
    if isinstance(block.get(old), str) and new not in block:
        block[old] = own_key(block[old])
    _rename(block, old, new)


def _replace(block: Block, old: str, new: str, value: Any) -> None:
    mark = block.marks.pop(old)
    del block[old]
    block.put(new, value, mark)
