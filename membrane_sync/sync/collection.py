"""Calls that read a collection, described and not sent.

    steps = listing(collection, scope)
    step = next(steps)                  # send step.call, then
    step = steps.send(page)             # StopIteration: the app has no more

Formulas see `$.input`, `$.parameters` and `$.cursor`; of windows `$.window.from` and `$.window.to`;
`$.delta_token` instead of a cursor that is one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from membrane_sync.elements.cursor import Cursor, Window
from membrane_sync.elements.data_collection import DataCollection, Deletes, ListMethod
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.project.families import asks_of_parents, drill_down
from membrane_sync.records import Call
from membrane_sync.sync.page import Page
from membrane_sync.sync.rendering import Functions, Scope, render
from membrane_sync.sync.source import End, Source, Step, with_rule
from membrane_sync.sync.stretch import Stop, from_cursor
from membrane_sync.sync.windows import (
    CLOCKS_DIFFER,
    Bounds,
    Slice,
    bounds_sent,
    first_moment,
    slices,
)

__all__ = [
    "Bounds",
    "End",
    "Scope",
    "Step",
    "TokenExpired",
    "deleted_collection",
    "deleted_listing",
    "listing",
    "render",
]

Listing = Generator[Step, Page, End]


class TokenExpired(Exception):
    """The app no longer knows the delta token: only a full reading finds what has changed since."""


def listing(
    collection: DataCollection,
    scope: Scope,
    bounds: Bounds | None = None,
    functions: Functions | None = None,
    now: datetime | None = None,
) -> Listing:
    """Every call that lists the collection from `$.cursor` on, page by page.

    With `bounds`, what has a time between them, if the app can be asked so; it may answer more.
    Raises TokenExpired where a delta token isn't known any more, AppUnavailable if records that
    share a cursor value never come twice alike.
    """
    source = Source(collection, functions or {})
    cursor = source.method.cursor
    if cursor is not None and cursor.is_delta:
        return (yield from _by_token(source, cursor, scope))
    if cursor is not None and cursor.slices is not None:
        now = now or datetime.now(UTC)
        return (yield from _by_windows(source, cursor, cursor.slices, scope, bounds, now))
    if bounds is not None:
        scope = {**scope, "cursor": _since(source, bounds)}
    if (yield from from_cursor(source, scope, _stop(source, scope, bounds))):
        raise _beyond_the_cap(source)
    return End()


def deleted_listing(collection: DataCollection, scope: Scope) -> Listing:
    """Every call that lists what was deleted, by `deletes.endpoint`."""
    return listing(deleted_collection(collection), scope)


def deleted_collection(collection: DataCollection) -> DataCollection:
    """The app's list of deleted records, as a collection of which every record is a tombstone.

    It has the same key, and a cursor of its own, to be stored apart. If its request reads a parent,
    it's a list below each of the parents.
    """
    endpoint = collection.deletes.endpoint
    if endpoint is None:
        raise Fatal(
            f"collection {collection.key!r} has no list of deleted records",
            hint="declare deletes.endpoint",
        )
    shared = {name: value for name, value in dict(endpoint).items() if name != "id"}
    shared["parent"] = drill_down(collection) if asks_of_parents(endpoint) else None
    return collection.model_copy(
        update={
            "id": endpoint.id,
            "list_": ListMethod.model_construct(endpoint.model_fields_set - {"id"}, **shared),
            "deletes": Deletes(tombstone=True),
        }
    )


def _by_token(source: Source, cursor: Cursor, scope: Scope) -> Listing:
    """From a delta token on; its end has the next one. A token that is a URL is followed."""
    token = scope.get("cursor")
    expired = ErrorRule(**dict(cursor.delta_expired), action="ignore")
    steps = from_cursor(source, {**scope, "cursor": None, "delta_token": token})
    step: Step | None = _first_by_token(next(steps), token, expired)
    given: Any = None
    while step is not None:
        page = yield step
        if token is not None and source.is_expired(page.answer):
            raise TokenExpired
        found = evaluate(cursor.delta_token, page.scope)
        given = given if found is MISSING or found is None else found
        try:
            step = steps.send(page)
            step = replace(step, call=with_rule(step.call, expired)) if token else step
        except StopIteration:
            step = None
    if given is None:
        raise UnexpectedAnswer(
            f"collection {source.collection.key!r}: no page had a delta token for the next sync",
            hint="compare `delta_token` in the collection's YAML with what the app answers",
        )
    return End(token=given)


def _first_by_token(step: Step, token: Any, expired: ErrorRule) -> Step:
    if token is None:
        return step
    call: Call = with_rule(step.call, expired)
    if isinstance(token, str) and token.startswith(("http://", "https://")):
        call = replace(call, url=token, query={})
    return replace(step, call=call)


def _by_windows(
    source: Source,
    cursor: Cursor,
    window: Window,
    scope: Scope,
    bounds: Bounds | None,
    now: datetime,
) -> Listing:
    """Slice by slice; one that holds more than the result cap is cut into halves."""
    assert source.order is not None
    notation = source.order.notation
    start, end = first_moment(cursor, window, scope), now
    if bounds is not None:
        start, end = bounds.since or start, bounds.until or end
    reached: datetime | None = None
    for slice_ in slices(window, start, end, notation):
        waiting = [slice_]
        while waiting:
            part = waiting.pop(0)
            sent = bounds_sent(cursor, window, part)
            seen = {**scope, "cursor": sent["from"], "window": sent}
            if (yield from from_cursor(source, seen, None, reached)):
                halves = part.halves(notation)
                if not halves:
                    raise _beyond_the_cap(source)
                reached, waiting = None, [*halves, *waiting]
            else:
                reached = _safe_end(part, now)
    return End(reached=reached)


def _safe_end(part: Slice, now: datetime) -> datetime:
    """Up to when nothing new can come into the slice, though our clock may be ahead."""
    return min(part.end, now - CLOCKS_DIFFER)


def _since(source: Source, bounds: Bounds) -> Any:
    cursor = source.method.cursor
    asked = cursor is not None and cursor.is_time and cursor.filtered_by == "app"
    if not asked or bounds.since is None or source.order is None:
        return None
    assert cursor is not None
    return source.order.notation.bound(bounds.since, earlier=cursor.steps_back)


def _stop(source: Source, scope: Scope, bounds: Bounds | None) -> Stop | None:
    """When to stop a sorted list: below the cursor if it descends, past `until` if it ascends.

    A page without a single value says nothing, since apps put those first or last.
    """
    cursor, order = source.method.cursor, source.order
    if cursor is None or order is None:
        return None
    bounds = bounds if bounds is not None and cursor.is_time else Bounds()
    if cursor.sorted == "descending":
        asked = scope.get("filter_from") if scope.get("cursor") is None else scope["cursor"]
        if asked is None and bounds.since is not None:
            asked = order.notation.bound(bounds.since)
        if asked is None:
            return None
        low = order.key(asked)
        return _all(source, lambda key: bool(key < low))
    if cursor.sorted == "ascending" and bounds.until is not None:
        high = order.key(order.notation.bound(bounds.until))
        return _all(source, lambda key: bool(key >= high))
    return None


def _all(source: Source, holds: Callable[[Any], bool]) -> Stop:
    assert source.order is not None
    key = source.order.key

    def stop(records: Sequence[Any]) -> bool:
        values = source.values(records)
        return bool(values) and all(holds(key(value)) for value in values)

    return stop


def _beyond_the_cap(source: Source) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"collection {source.collection.key!r}: the app answers no more than "
        f"{source.method.pagination.result_cap} records to one query, and it has more",
        hint="declare a smaller window, or a cursor by which the list is sorted ascending",
    )
