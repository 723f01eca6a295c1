"""Calls that read a collection, described and not sent.

    steps = listing(collection, scope)
    step = next(steps)                  # send step.call, then
    step = steps.send(page)             # of its answer; StopIteration: the app has no more

Formulas see `$.input`, `$.parameters` and `$.cursor`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.elements.request import Request, expand_path
from membrane_sync.errors import AppUnavailable, Fatal
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.records import Call
from membrane_sync.sync.cursor import CursorOrder
from membrane_sync.sync.page import Page
from membrane_sync.sync.paging import Turn, turns

Scope = Mapping[str, Any]

MOST_READINGS = 20
"""How often records that share a cursor value are read, at most, until two readings agree."""


@dataclass(frozen=True)
class Step:
    """The next call; not `settled` if the cursor must not move with the page before it."""

    call: Call
    settled: bool = True


def listing(collection: DataCollection, scope: Scope) -> Generator[Step, Page, None]:
    """Every call that lists the collection from `$.cursor` on, page by page.

    Pages drift while others write: a record that moves between two pages is lost. So where the app
    sorts by the cursor, the next page is not asked for by number, URL or token, which may all be
    numbers in disguise, but from the cursor that the last page ended with. Pages only turn within
    records that the request can't tell apart, as they share one cursor value, and those are read
    until two readings agree: nothing can have left them in between. Raises AppUnavailable if they
    never do.
    """
    method = _list_method(collection)
    restart = _restarts_by_cursor(method)
    cursor = scope.get("cursor")
    before: set[str] = set()
    readings = 0
    settled = True
    while True:
        window = yield from _window(collection, {**scope, "cursor": cursor}, restart, settled)
        settled = window.numbered == before
        if not settled and window.next_cursor is not None:
            before, readings = window.numbered, readings + 1
            _refuse_endless(collection, readings)
        elif window.ended:
            return
        else:
            cursor, before, readings, settled = window.next_cursor, set(), 0, True


def render(request: Request, scope: Scope) -> Call:
    """The call that a declared request makes of `scope`; what formulas leave out isn't sent."""
    if request.path is None:
        raise Fatal("only requests with a path can be sent by this version")
    values = _evaluated(request.path_parameters, scope)
    missing = [name for name in request.path_parameters if values.get(name) in (None, "")]
    if missing:
        raise Fatal(
            f"path {request.path} has no value for {{{missing[0]}}}",
            hint="give it as input of the connection, or as a parameter of the data source",
        )
    body = evaluate(request.body, scope)
    return Call(
        method=request.method,
        url=expand_path(request.path, values),
        query=_evaluated(request.query, scope),
        headers={name: str(value) for name, value in _evaluated(request.headers, scope).items()},
        body=None if body is MISSING else body,
        errors=request.errors,
    )


@dataclass
class _Window:
    """What was read from one cursor value on.

    `next_cursor` is the value that the last page went on to, if it did; `numbered` is what came on
    pages that only numbers told apart, as where records of one value fill a page or more.
    """

    next_cursor: Any = None
    numbered: set[str] = field(default_factory=set)
    ended: bool = False


def _window(
    collection: DataCollection, scope: Scope, restart: bool, settled: bool
) -> Generator[Step, Page, _Window]:
    method = _list_method(collection)
    base = render(method, scope)
    pager = turns(method.pagination)
    turn = next(pager)
    window = _Window()
    while True:
        page = yield Step(_turned(base, turn), settled)
        settled = True
        if restart:
            _note(window, collection, page.heads, scope)
        try:
            turn = _absolute(pager.send((page.heads, page.scope)), page)
        except StopIteration:
            window.ended = True
            return window
        if window.next_cursor is not None:
            return window


def _note(window: _Window, collection: DataCollection, records: list[Any], scope: Scope) -> None:
    newest = _newest(_list_method(collection), records)
    if newest is not None and _leads_on(_list_method(collection), scope, newest):
        window.next_cursor = newest
    if window.numbered or window.next_cursor is None:
        window.numbered |= _states(collection, records)


def _leads_on(method: ListMethod, scope: Scope, newest: Any) -> bool:
    """Whether to ask from `newest` is to ask for something else, and further on.

    It isn't where the request leaves the cursor out or rounds it, or the app doesn't heed it: there
    the reading would begin again for ever.
    """
    assert method.cursor is not None
    key, cursor = CursorOrder(method.cursor).key, scope.get("cursor")
    if cursor is not None and key(newest) <= key(cursor):
        return False
    return render(method, {**scope, "cursor": newest}) != render(method, scope)


def _refuse_endless(collection: DataCollection, readings: int) -> None:
    if readings >= MOST_READINGS:
        raise AppUnavailable(
            f"collection {collection.key!r}: the records that share one cursor value came "
            f"differently {readings} times; to go on would lose some of them",
            hint="make the page larger, or let the app sort by a second field too",
        )


def _states(collection: DataCollection, records: list[Any]) -> set[str]:
    """Which records these are, in which state as far as the cursor tells."""
    method = _list_method(collection)
    assert method.cursor is not None
    order = CursorOrder(method.cursor)
    ids = {"$var": collection.id}
    return {f"{evaluate(ids, record)} at {order.found(record)}" for record in records}


def _absolute(turn: Turn, page: Page) -> Turn:
    """The turn with its URL made whole: apps may give one that is relative to their answer's."""
    return turn if turn.url is None else replace(turn, url=urljoin(page.url, turn.url))


def _turned(base: Call, turn: Turn) -> Call:
    if turn.url is not None:
        return replace(base, url=turn.url, query={})
    body = {**(base.body or {}), **turn.body} if turn.body else base.body
    return replace(base, query={**base.query, **turn.query}, body=body)


_TURNED = ("page", "offset", "link_header", "next_url", "cursor")


def _restarts_by_cursor(method: ListMethod) -> bool:
    cursor = method.cursor
    return (
        cursor is not None
        and cursor.sorted == "ascending"
        and (cursor.inclusive or cursor.unique)
        and method.pagination.type in _TURNED
    )


def _newest(method: ListMethod, records: list[Any]) -> Any:
    assert method.cursor is not None
    order = CursorOrder(method.cursor)
    values = [value for record in records if (value := order.value(record)) is not None]
    return max(values, key=order.key, default=None)


def _evaluated(template: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    value = evaluate(dict(template), scope)
    return {} if value is MISSING else {k: v for k, v in value.items() if v is not None}


def _list_method(collection: DataCollection) -> ListMethod:
    if collection.list_ is None:
        raise Fatal(
            f"collection {collection.key!r} can't be listed", hint="declare its list method"
        )
    return collection.list_
