"""The collections above a collection: how each is pulled, and what requests read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.elements.data_source import DataSource
from membrane_sync.errors import Fatal
from membrane_sync.formulas import variables
from membrane_sync.formulas.locators import steps_of
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.families import drill_down
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.sync.rendering import evaluated


def scope_of(sync: ResolvedSync, connection: ConnectionRecord) -> dict[str, Any]:
    """What formulas of requests see, whatever they ask for."""
    extends = sync.collection.extends
    parameters = {
        **sync.integration.parameters,
        **(extends.parameters if extends else {}),
        **sync.source.collection_parameters,
    }
    return {"input": dict(connection.input), "parameters": parameters}


def parents_sync(sync: ResolvedSync, connection: ConnectionRecord) -> ResolvedSync | None:
    """How the collection above is pulled; None if there's none.

    Its stream is the one that a data source with the same parameters has, so that whoever else
    syncs the parents shares it.
    """
    drill = drill_down(sync.collection)
    if drill is None:
        return None
    collection = sync.names.collection(drill.collection)
    if collection is None:
        raise Fatal(
            f"collection {sync.collection.key!r} is below {drill.collection!r}, which there isn't",
            hint="name one of the connector's collections in list.parent.collection",
        )
    declared = sync.source.model_fields_set & {
        "pull_updates_interval_seconds",
        "full_sync_interval_seconds",
    }
    source = DataSource(
        key=collection.key,
        collection_key=collection.key,
        collection_parameters=evaluated(drill.parameters, scope_of(sync, connection)),
        **{name: getattr(sync.source, name) for name in declared},
    )
    return replace(sync, collection=collection, source=source)


def ancestors(sync: ResolvedSync, connection: ConnectionRecord) -> list[ResolvedSync]:
    """How each collection above is pulled, the nearest first; raises Fatal for a circle."""
    found: list[ResolvedSync] = []
    seen = {sync.collection.key}
    above = parents_sync(sync, connection)
    while above is not None:
        if above.collection.key in seen:
            raise Fatal(
                f"collection {above.collection.key!r} is below itself",
                hint="a list.parent must lead to a collection that has none",
            )
        seen.add(above.collection.key)
        found.append(above)
        above = parents_sync(above, connection)
    return found


def collections_read(
    syncs: Sequence[ResolvedSync], connection: ConnectionRecord
) -> dict[str, DataCollection]:
    """The collections of all streams that these syncs read, parents included."""
    found = {sync.stream: sync.collection for sync in syncs}
    for sync in syncs:
        try:
            above = ancestors(sync, connection)
        except Fatal:
            continue  # that sync alone fails by it
        for up in above:
            found.setdefault(up.stream, up.collection)
    return found


def needed_fields(method: ListMethod, key: str, *, nearest: bool) -> list[str] | None:
    """The fields of the parents of this collection that a request reads; None for whole records."""
    if method.function is not None:
        return None
    found: set[str] = set()
    for locator in variables(method.model_dump()):
        steps = steps_of(locator)
        if steps is None or not steps:
            return None
        if steps[0] == "parent" and nearest:
            rest = steps[1:]
        elif steps[0] == "ancestors" and (len(steps) == 1 or steps[1] == key):
            rest = steps[2:]
        else:
            continue
        if not rest or not isinstance(rest[0], str):
            return None
        found.add(rest[0])
    return sorted(found)
