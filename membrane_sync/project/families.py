"""What doesn't fit between a collection and those that its lists are below."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from membrane_sync.elements.data_collection import DataCollection, DrillDown
from membrane_sync.elements.request import Request
from membrane_sync.formulas import variables
from membrane_sync.formulas.locators import steps_of
from membrane_sync.project.located import Steps

Lookup = Callable[[str], DataCollection | None]
"""Gives a collection of the same connector by its key."""

PARENT: Steps = ("list", "parent")


def drill_down(collection: DataCollection) -> DrillDown | None:
    """How its list is below a parent; None if it isn't."""
    method = collection.list_
    return None if method is None or method.not_supported else method.parent


def asks_of_parents(request: Request) -> bool:
    """Whether its formulas read a parent, so that it's another request below each.

    Of a function nobody can tell: it's asked once.
    """
    asked = (request.path_parameters, request.query, request.headers, request.body)
    read = {name for formula in (*asked, request.variables) for name in variables(formula)}
    return any(name.startswith(("$.parent", "$.ancestors")) for name in read)


def collections_above(collection: DataCollection, lookup: Lookup) -> list[DataCollection]:
    """The collections above, the nearest first; in a circle, those before it closes."""
    found: list[DataCollection] = []
    seen = {collection.key}
    drill = drill_down(collection)
    while drill is not None and drill.collection not in seen:
        above = lookup(drill.collection)
        if above is None:
            break
        seen.add(above.key)
        found.append(above)
        drill = drill_down(above)
    return found


def family_problems(collection: DataCollection, lookup: Lookup) -> Iterator[tuple[Steps, str]]:
    """Where in the collection, and what; one that isn't there is said where names are checked."""
    drill = drill_down(collection)
    if drill is None:
        return
    above = collections_above(collection, lookup)
    last = drill_down(above[-1]) if above else drill
    if last is not None and lookup(last.collection) is not None:
        keys = " below ".join([collection.key, *(up.key for up in above), last.collection])
        yield (*PARENT, "collection"), f"a circle of parents: {keys}"
        return
    if not above:
        return
    parent = above[0]
    method = parent.list_
    if method is None or method.not_supported:
        yield (*PARENT, "collection"), f"collection {parent.key!r}, the parent, can't be listed"
    elif drill.changed_parents_only and (hidden := _hidden(parent)):
        yield (
            (*PARENT, "changed_parents_only"),
            f"collection {parent.key!r} has {hidden} in its ignored_fields: a parent of which that "
            "alone has changed counts as unchanged, and its children would not be read",
        )


def _hidden(parent: DataCollection) -> str:
    """The field of the parent's cursor, if a change of it alone is no change."""
    cursor = parent.list_.cursor if parent.list_ else None
    field = cursor.field if cursor else None
    steps = steps_of(field) if field else None
    return str(steps[0]) if steps and steps[0] in parent.ignored_fields else ""
