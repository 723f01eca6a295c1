"""Do the elements of each sync fit together, for every integration and connection it's meant for?

Messages name no integration where the same is wrong for all, so that each is said once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from membrane_sync.elements import KINDS, LAYERED_KINDS, Element
from membrane_sync.elements.base import RefersTo
from membrane_sync.elements.cycles import cycles
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.nearest import nearest
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import NotFound, Problem
from membrane_sync.formulas.locators import steps_of
from membrane_sync.project import schemas
from membrane_sync.project.families import collections_above, family_problems
from membrane_sync.project.frozen import FROZEN
from membrane_sync.project.loader import CONNECTION
from membrane_sync.project.located import Block, Steps, is_formula, mark_at, problem_at
from membrane_sync.project.project import Project, takes_part
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.project.support import unsupported
from membrane_sync.project.validation import Invalid
from membrane_sync.project.views import View, views
from membrane_sync.project.walk import marked_values


def sync_problems(project: Project) -> Iterator[Problem]:
    """What's wrong between elements that are right by themselves."""
    offers: dict[str, list[_Offer]] = defaultdict(list)
    for view in views(project):
        found = _View(view)
        yield from found.problems
        for offer in found.offers if not view.connection else ():
            offers[offer.key].append(offer)
    for key, asked in offers.items():
        yield from _not_offered(key, asked)


def view_problems(view: View) -> list[Problem]:
    """What's wrong between the elements that one integration or connection sees."""
    return _View(view).problems


class _View:
    """What one integration or connection sees, with its syncs."""

    def __init__(self, view: View) -> None:
        keys = view.keys("sync") if view.integration else []
        self.offers = [_Offer(view, key) for key in keys]
        self.problems = [
            *_schema_cycles(view),
            *_unknown_fields(view),
            *_unknown_frozen(view),
            *(problem for offer in self.offers for problem in offer.problems),
            *(problem for offer in self.offers for problem in _lost(offer)),
            *_shared_links(view, [offer.sync for offer in self.offers if offer.sync]),
        ]


class _Offer:
    """Whether one sync can run for one integration or connection, and what keeps it from that."""

    def __init__(self, view: View, key: str) -> None:
        self.view = view
        self.key = key
        self.problems: list[Problem] = []
        self.refused = False
        self.sync: ResolvedSync | None = None
        if any(view.project.documents.may_hold(*part) for part in _parts(view, key)):
            return  # it can't be judged before its files are read
        try:
            self.sync = view.sync(key)
        except Invalid as error:
            self.problems = error.problems
        except NotFound:
            self.problems = list(_dangling(view, key))
        else:
            if self.sync is None:
                self.refused = self._is_refused()
            else:
                self.problems = list(_misfits(view, self.sync))

    def _is_refused(self) -> bool:
        """Does it take part in the sync, while its app has no such collection?"""
        sync = self.view.find("sync", self.key)
        assert isinstance(sync, Sync)
        return takes_part(sync, self.view.integration)

    @property
    def named(self) -> int | None:
        """Where the sync's own list names the integration."""
        listed = _block(self.view, "sync", self.key).get("integrations")
        return listed.index(self.view.integration) if listed else None


def _not_offered(key: str, asked: list[_Offer]) -> Iterator[Problem]:
    """Integrations that the sync names must offer its collection; otherwise one of them all."""
    taking = [offer for offer in asked if offer.refused]
    for offer in taking:
        if offer.named is not None:
            integration = offer.view.integration
            message = f"integration {integration!r} can't list {_wanted(offer)}"
            block = _block(offer.view, "sync", key)
            yield problem_at(block, ("integrations", offer.named), message, f"sync {key}")
    if taking and taking == asked and all(offer.named is None for offer in asked):
        source = _source(taking[0].view, key)
        name = "collection_key" if source.get("collection_key") else "udm"
        message = (
            f"no integration can list {_wanted(*taking)}; an app counts once it has a "
            "mappings/integrations/APP/integration.yaml"
        )
        yield problem_at(source, (name,), message, f"data_source {source['key']}")


def _shared_links(view: View, syncs: list[ResolvedSync]) -> Iterator[Problem]:
    """Links tell records by their ids alone, so the records of a table must be of one stream."""
    first: dict[str, ResolvedSync] = {}
    for sync in syncs:
        other = first.setdefault(sync.links.key, sync)
        if other.stream != sync.stream:
            message = (
                f"link table {sync.links.key!r} is also that of sync {other.sync.key!r}, which "
                f"reads other records ({other.stream}, here {sync.stream}): two records with one "
                "id would be one row; give each its own data_link_table"
            )
            yield _at(view, "sync", sync.sync.key, ("data_link_table",), message)


def _lost(offer: _Offer) -> Iterator[Problem]:
    """A connection that takes part in a sync with its integration, and not by itself."""
    if not (offer.refused and offer.view.connection):
        return
    if _Offer(View(offer.view.project, offer.view.integration), offer.key).refused:
        return  # said of the integration
    source = _source(offer.view, offer.key)
    name = "collection_key" if source.get("collection_key") else "udm"
    message = f"integration {offer.view.integration!r} can't list {_wanted(offer)}"
    yield problem_at(source, (name,), message, f"data_source {source['key']}")


def _wanted(*offers: _Offer) -> str:
    source = _source(offers[0].view, offers[0].key)
    key = source.get("collection_key")
    if key is None:
        return f"a collection for the unified data model {source.get('udm')!r}"
    known = {name for offer in offers for name in offer.view.keys("data_collection")}
    if key in known:
        return f"collection {key!r}, which has no list method"
    return f"a collection {key!r}; {nearest(key, known, 'declared are')}"


def _parts(view: View, key: str) -> Iterator[tuple[str, str]]:
    """Kind and key of all that the sync is made of, as far as names lead."""
    yield "sync", key
    sync = _block(view, "sync", key)
    mapping: Mapping[str, Any] = view.block("field_mapping", sync.get("field_mapping")) or {}
    source_key = sync.get("data_source") or mapping.get("data_source")
    source: Mapping[str, Any] = view.block("data_source", source_key) or {}
    yield "field_mapping", str(sync.get("field_mapping"))
    yield "data_link_table", str(sync.get("data_link_table"))
    yield "data_source", str(source_key)
    yield "data_schema", str(mapping.get("data_schema"))
    yield "data_collection", str(source.get("collection_key"))


def _source(view: View, key: str) -> Block:
    sync = _block(view, "sync", key)
    mapping = _block(view, "field_mapping", sync.get("field_mapping"))
    return _block(view, "data_source", sync.get("data_source") or mapping.get("data_source"))


def _block(view: View, kind: str, key: object) -> Block:
    block = view.block(kind, key)
    assert block is not None, f"{kind} {key} was resolved before"
    return block


def _dangling(view: View, key: str) -> Iterator[Problem]:
    """Names that other integrations know, and this one doesn't; the rest is said elsewhere."""
    sync = _block(view, "sync", key)
    mapping = view.block("field_mapping", sync.get("field_mapping"))
    for kind, block in (("sync", sync), ("field_mapping", mapping)):
        if block is not None:
            yield from _unseen(view, kind, block)
    if mapping is not None and not (sync.get("data_source") or mapping.get("data_source")):
        message = "the sync has no data source: give it, or its field mapping, data_source"
        yield problem_at(sync, ("field_mapping",), message, f"sync {key}")


def _unseen(view: View, kind: str, block: Block) -> Iterator[Problem]:
    everywhere = view.project.documents.blocks
    for marked in marked_values(KINDS[kind], block):
        if isinstance(marked.marker, RefersTo) and marked.marker.kind in LAYERED_KINDS:
            wanted, key = marked.marker.kind, marked.value
            scopes = sorted(a.scope for a in everywhere if (a.kind, a.key) == (wanted, key))
            if scopes and key not in view.keys(wanted):
                message = (
                    f"integration {view.integration!r} has no {wanted} {key!r}; "
                    f"it's declared for: {', '.join(scopes)}"
                )
                yield problem_at(block, marked.path, message, f"{kind} {block['key']}")


def _misfits(view: View, sync: ResolvedSync) -> Iterator[Problem]:
    """What a sync that its app can serve needs of its elements."""
    mapping = sync.mapping
    values = (mapping.import_value, mapping.default_import_value, mapping.unified_import_value)
    if all(value is None for value in values):
        message = f"sync {sync.sync.key!r} needs import_value in this field mapping"
        yield _at(view, "field_mapping", mapping.key, ("import_value",), message)
    if sync.schema is None:
        message = f"sync {sync.sync.key!r} needs data_schema here, with a table to deliver to"
        yield _at(view, "field_mapping", mapping.key, ("data_schema",), message)
    elif sync.schema.table is None:
        message = f"sync {sync.sync.key!r} needs a table in this data schema to deliver to"
        yield _at(view, "data_schema", sync.schema.key, ("table",), message)
    else:
        yield from _table_misfits(view, sync.sync, sync.schema)
        yield from _shared_rows(view, sync, sync.schema)
    if sync.source.contract != "evolve" and not sync.collection.fields_schema.get("properties"):
        message = (
            f"contract {sync.source.contract!r} needs the fields_schema of data collection "
            f"{sync.collection.key!r}, which declares no field"
        )
        yield _at(view, "data_source", sync.source.key, ("contract",), message)
    for path, message in family_problems(sync.collection, sync.names.collection):
        yield _at(view, "data_collection", sync.collection.key, path, message)
    yield from _unsupported(view, sync)


def _table_misfits(view: View, sync: Sync, schema: DataSchema) -> Iterator[Problem]:
    assert schema.table is not None
    if sync.delete == "soft" and schema.table.deleted_column is None:
        message = f"delete: soft needs a deleted_column in the table of data schema {schema.key!r}"
        yield _at(view, "sync", sync.key, ("delete",), message)
    known = schemas.fields(schema.schema_)
    for index, field in enumerate(sync.match if known else ()):
        if field not in known:
            hint = nearest(field, known, "it has")
            message = f"match field {field!r} is not in data schema {schema.key!r}; {hint}"
            yield _at(view, "sync", sync.key, ("match", index), message)


def _shared_rows(view: View, sync: ResolvedSync, schema: DataSchema) -> Iterator[Problem]:
    """What is right by itself, and may overwrite or delete rows that others count on."""
    assert schema.table is not None
    table, mapping = schema.table, sync.mapping
    for name in ("import_value", "default_import_value"):
        value = getattr(mapping, name)
        given = isinstance(value, dict) and not is_formula(value) and table.key in value
        if given and not table.tenant_column:
            message = (
                f"the mapping gives the key {table.key!r}, and table {table.name!r} has no "
                "tenant_column: records of two tenants with one id would be one row"
            )
            path = (name, table.key)
            yield _at(view, "field_mapping", mapping.key, path, message, "warning")
    if sync.sync.match and "delete" not in sync.sync.model_fields_set:
        message = (
            "a row found by match is deleted with its record, as delete is `hard` by default; "
            "say which you mean: hard, soft or ignore"
        )
        yield _at(view, "sync", sync.sync.key, ("match",), message, "warning")


def _unsupported(view: View, sync: ResolvedSync) -> Iterator[Problem]:
    """What the sync relies on and this version doesn't do."""
    for above in collections_above(sync.collection, sync.names.collection):
        for path, message in unsupported(above):
            yield _at(view, "data_collection", above.key, path, message)
    parts: dict[str, Element | None] = {
        "connector": sync.connector,
        "data_collection": sync.collection,
        "data_source": sync.source,
        "field_mapping": sync.mapping,
        "data_schema": sync.schema,
        "sync": sync.sync,
    }
    for kind, element in parts.items():
        if element is not None:
            for path, message in unsupported(element):
                yield _at(view, kind, element.key, path, message)


def _at(
    view: View, kind: str, key: str, path: Steps, message: str, severity: str = "error"
) -> Problem:
    return problem_at(_block(view, kind, key), path, message, f"{kind} {key}", severity)


def _unknown_fields(view: View) -> Iterator[Problem]:
    """Fields that a mapping gives and its schema doesn't have: they'd be left out in silence."""
    for key in view.keys("field_mapping"):
        try:
            mapping = view.find("field_mapping", key)
            assert isinstance(mapping, FieldMapping)
            schema = view.find("data_schema", mapping.data_schema) if mapping.data_schema else None
        except Invalid:
            continue  # said where the element is checked by itself
        shape = schema.schema_ if isinstance(schema, DataSchema) else mapping.app_schema
        name = f"data schema {schema.key!r}" if schema is not None else "app_schema"
        for value in ("import_value", "default_import_value"):
            for path, hint in _surplus(getattr(mapping, value), shape):
                message = f"field {'.'.join(path)!r} is not in {name}; {hint}"
                yield _at(view, "field_mapping", key, (value, *path), message)


def _surplus(value: Any, schema: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths of the fields that the schema doesn't know; formulas may give anything."""
    known = schemas.fields(schema)
    if not known or not isinstance(value, dict) or is_formula(value):
        return
    more = schema.get("additionalProperties", False)
    for name, inner in value.items():
        if name not in known and more is False:
            yield (name,), nearest(name, known, "it has")
        elif name in known:
            yield from (((name, *path), hint) for path, hint in _surplus(inner, known[name]))


def _unknown_frozen(view: View) -> Iterator[Problem]:
    """Frozen fields that the mapping doesn't have: a slip of the pen would freeze nothing."""
    for key in view.keys("field_mapping"):
        block = _block(view, "field_mapping", key)
        for listed, values in FROZEN.items():
            fields = block.get(listed)
            if view.connection and mark_at(block, (listed,)).layer != CONNECTION:
                continue  # a connection that removes a field doesn't make its name wrong
            known = _mapped_fields(block, values)
            for index, field in enumerate(fields if known and isinstance(fields, list) else ()):
                first = (steps_of(field) or (field,))[0]
                if first not in known:
                    message = f"{listed}: the mapping has no field {field!r}; "
                    message += nearest(field, known, "it has")
                    yield _at(view, "field_mapping", key, (listed, index), message)


def _mapped_fields(block: Block, values: tuple[str, ...]) -> set[str]:
    """The fields that these values of a mapping give; none where a formula may give any."""
    given = [block[name] for name in values if block.get(name) is not None]
    if any(not isinstance(value, dict) or is_formula(value) for value in given):
        return set()
    return {str(field) for value in given for field in value}


def _schema_cycles(view: View) -> Iterator[Problem]:
    graph: dict[str, dict[str, Steps]] = {}
    for key in view.keys("data_schema"):
        block = _block(view, "data_schema", key)
        named = schemas.references(block.get("schema"))
        graph[key] = {name: path for path, kind, name in named if kind == "data_schema"}
    for cycle in cycles({key: list(named) for key, named in graph.items()}):
        path = ("schema", *graph[cycle[0]][cycle[1]])
        message = f"data schemas refer to each other in a cycle: {' → '.join(cycle)}"
        yield _at(view, "data_schema", cycle[0], path, message)
