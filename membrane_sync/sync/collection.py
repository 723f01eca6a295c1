"""Calls that read a collection, described and not sent.

    calls = listing(collection, scope)
    call = next(calls)                  # send it, then
    call = calls.send(answer)           # StopIteration: the app has no more

Formulas see `$.input`, `$.parameters` and `$.cursor`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.elements.request import Request, expand_path
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.records import Answer, Call
from membrane_sync.sync.cursor import CursorOrder
from membrane_sync.sync.paging import Turn, turns

Scope = Mapping[str, Any]


def listing(collection: DataCollection, scope: Scope) -> Generator[Call, Answer, None]:
    """Every call that lists the collection from `$.cursor` on, page by page.

    Numbered pages drift while others write: a record that moves between two pages is lost. So where
    the app sorts by the cursor, the next page is not asked for by number but from the cursor that
    the last page ended with; numbers only turn within records that share one cursor value.
    """
    method = _list_method(collection)
    restart = _restarts_by_cursor(method)
    cursor = scope.get("cursor")
    while True:
        cursor = yield from _window(collection, {**scope, "cursor": cursor}, restart)
        if cursor is None:
            return


def records_in(collection: DataCollection, answer: Answer) -> list[Any]:
    """The records of one page; raises UnexpectedAnswer where the declared place holds no list."""
    method = _list_method(collection)
    found = evaluate({"$var": method.records}, _answer_scope(answer))
    if found is MISSING or not isinstance(found, list):
        kind = "nothing" if found is MISSING else type(found).__name__
        raise UnexpectedAnswer(
            f"collection {collection.key!r}: the answer has {kind} at {method.records}, not a list",
            hint="compare `records` in the collection's YAML with what the app answers",
        )
    return found


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
    )


def _window(
    collection: DataCollection, scope: Scope, restart: bool
) -> Generator[Call, Answer, Any]:
    """Calls from one cursor value on; returns the value to start again from, None at the end."""
    method = _list_method(collection)
    base = render(method, scope)
    pager = turns(method.pagination)
    turn = next(pager)
    while True:
        answer = yield _turned(base, turn)
        records = records_in(collection, answer)
        try:
            turn = pager.send((records, _answer_scope(answer)))
        except StopIteration:
            return None
        if restart:
            newest = _newest(method, records)
            if newest is not None and newest != scope.get("cursor"):
                return newest


def _turned(base: Call, turn: Turn) -> Call:
    if turn.url is not None:
        return Call(base.method, turn.url, {}, base.headers, base.body)
    body = {**(base.body or {}), **turn.body} if turn.body else base.body
    return Call(base.method, base.url, {**base.query, **turn.query}, base.headers, body)


def _restarts_by_cursor(method: ListMethod) -> bool:
    cursor = method.cursor
    return (
        cursor is not None
        and cursor.sorted == "ascending"
        and (cursor.inclusive or cursor.unique)
        and method.pagination.type in ("page", "offset")
    )


def _newest(method: ListMethod, records: list[Any]) -> Any:
    assert method.cursor is not None
    order = CursorOrder(method.cursor)
    values = [value for record in records if (value := order.value(record)) is not None]
    return max(values, key=order.key, default=None)


def _evaluated(template: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    value = evaluate(dict(template), scope)
    return {} if value is MISSING else {k: v for k, v in value.items() if v is not None}


def _answer_scope(answer: Answer) -> dict[str, Any]:
    return {"body": answer.body, "headers": answer.headers, "status": answer.status}


def _list_method(collection: DataCollection) -> ListMethod:
    if collection.list_ is None:
        raise Fatal(
            f"collection {collection.key!r} can't be listed", hint="declare its list method"
        )
    return collection.list_
