"""The next page, by every style of pagination: what to add to the first call.

A pager is a generator of turns: it gets a page's records and the answer's scope, and yields how to
ask for the next one, or ends. A short page never ends it, since apps clamp page sizes silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.data_collection import Pagination
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate

SAME_PAGES = 5
"""So many equal pages in a row mean that the app doesn't turn them."""

PageRead = tuple[Sequence[Any], Mapping[str, Any]]
"""A page's records, and the scope of its answer: `$.body`, `$.headers`, `$.status`."""


@dataclass(frozen=True)
class Turn:
    """What distinguishes the call for one page: query, body, headers, or a URL the app gave.

    Names in `body` may lead into it: `page.after` is `after` in `page`.
    """

    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None


Pager = Generator[Turn, PageRead, None]


def turns(pagination: Pagination) -> Pager:
    """The turns of a pagination; raises UnexpectedAnswer where the app sends us in a circle."""
    return _PAGERS[pagination.type](pagination)


def _none(pagination: Pagination) -> Pager:
    yield _turn(pagination)


def _cursor(pagination: Pagination) -> Pager:
    """An opaque token out of the last answer."""
    seen: set[int] = set()
    token: Any = None
    read = 0
    while True:
        records, scope = yield _turn(pagination, token)
        read += len(records)
        token = _next(pagination, scope, seen)
        if _says_end(pagination, scope, read):
            return
        if token is None and pagination.has_more is not None:
            raise _no_way_on("there is no token at `pagination.next`")
        if token is None:
            return


def _graphql(pagination: Pagination) -> Pager:
    """A connection of the Relay specification: `endCursor`, as long as `hasNextPage`."""
    seen: set[int] = set()
    token: Any = None
    while True:
        _, scope = yield _turn(pagination, token)
        info = evaluate({"$var": pagination.page_info}, scope)
        if not isinstance(info, Mapping):
            raise UnexpectedAnswer(
                f"GraphQL pagination: the answer has no pageInfo at {pagination.page_info}",
                hint="ask for pageInfo { hasNextPage endCursor } in the query",
            )
        token = info.get("endCursor")
        if not info.get("hasNextPage"):
            return
        if token is None:
            raise _no_way_on("pageInfo has no endCursor")
        _refuse_circle(str(token), seen)


def _next_url(pagination: Pagination) -> Pager:
    """A URL which the app itself gives for the next page."""
    seen: set[int] = set()
    _, scope = yield _turn(pagination)
    while (url := _next(pagination, scope, seen)) is not None:
        _, scope = yield Turn(url=str(url))


def _link_header(pagination: Pagination) -> Pager:
    """The URL of `rel="next"` in the Link header (RFC 8288)."""
    seen: set[int] = set()
    _, scope = yield _turn(pagination)
    while (url := next_link(str(scope["headers"].get("link", "")))) is not None:
        _refuse_circle(url, seen)
        _, scope = yield Turn(url=url)


def _page(pagination: Pagination) -> Pager:
    number = pagination.first_page
    read = 0
    repeats = _Repeats(pagination)
    while True:
        records, scope = yield _turn(pagination, number)
        read += len(records)
        repeats.refuse(records)
        total = _number(pagination.total_pages, scope)
        if total is not None and number - pagination.first_page + 1 >= total:
            return
        if not records or _says_end(pagination, scope, read):
            return
        number += 1


def _offset(pagination: Pagination) -> Pager:
    """The offset moves by what came, not by what was asked for."""
    offset = 0
    repeats = _Repeats(pagination)
    while True:
        records, scope = yield _turn(pagination, offset)
        repeats.refuse(records)
        offset += len(records)
        if not records or _says_end(pagination, scope, offset):
            return


def _keyset(pagination: Pagination) -> Pager:
    """`after the last id`: the parameter takes a value out of the last record (`next`, or id).

    A total says nothing of its end: it may be that of what's left.
    """
    last: Any = None
    repeats = _Repeats(pagination)
    formula = pagination.next if pagination.next is not None else {"$var": "$.id"}
    while True:
        records, scope = yield _turn(pagination, last)
        repeats.refuse(records)
        if not records or _has_no_more(pagination, scope):
            return
        last = evaluate(formula, records[-1])
        if last is MISSING or last is None:
            raise UnexpectedAnswer("keyset pagination: the page's last record has no id")


_PAGERS: dict[str, Callable[[Pagination], Pager]] = {
    "none": _none,
    "cursor": _cursor,
    "next_url": _next_url,
    "link_header": _link_header,
    "page": _page,
    "offset": _offset,
    "keyset": _keyset,
    "graphql": _graphql,
}


# Commas and semicolons inside quotes don't end a link or a parameter. Some apps quote as HTML does.
_VALUE = r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"';,][^\s";,]*)|)"""
_LINK = re.compile(rf"<([^>]*)>((?:\s*;\s*(?:[^\s=;,]+\s*(?:=\s*{_VALUE})?)?)*)")
_PARAMETER = re.compile(rf";\s*([^\s=;,]+)\s*(?:=\s*{_VALUE})?")


def next_link(header: str) -> str | None:
    """The target of `rel="next"` in a Link header, None without one."""
    for target, parameters, *_ in _LINK.findall(header):
        given = _PARAMETER.findall(parameters)
        relations = ["".join(value) for name, *value in given if name.lower() == "rel"]
        # A second `rel` says nothing (RFC 8288, 3.3).
        if relations and "next" in relations[0].lower().split():
            return str(target).strip()
    return None


def _turn(pagination: Pagination, value: Any = None) -> Turn:
    extra: dict[str, Any] = {}
    if pagination.page_size_parameter:
        extra[pagination.page_size_parameter] = pagination.page_size
    if value is not None and pagination.parameter:
        extra[pagination.parameter] = value
    if pagination.type == "graphql":
        return Turn(body={f"variables.{name}": value for name, value in extra.items()})
    if pagination.location == "header":
        return Turn(headers=extra)
    return Turn(body=extra) if pagination.location == "body" else Turn(query=extra)


def _next(pagination: Pagination, scope: Mapping[str, Any], seen: set[int]) -> Any:
    token = evaluate(pagination.next, scope)
    if token is MISSING or token is None or token in ("", False):
        return None
    _refuse_circle(str(token), seen)
    return token


def _refuse_circle(token: str, seen: set[int]) -> None:
    name = hash(token)  # tokens may be long, and many
    if name in seen:
        raise UnexpectedAnswer(
            "the app gave the same next page twice; reading on would never end",
            hint="compare `pagination.next` in the collection's YAML with what the app answers",
        )
    seen.add(name)


def _no_way_on(what: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"the app says that there are more pages, and {what}; to end here would lose them",
        hint="compare `pagination` in the collection's YAML with what the app answers",
    )


class _Repeats:
    """Notices an app that ignores the parameter, and so answers the same page for ever.

    Twice the same page can also be a list that grew in front of it while it was read.
    """

    def __init__(self, pagination: Pagination) -> None:
        self._parameter = pagination.parameter
        self._previous: Sequence[Any] = []
        self._times = 1

    def refuse(self, records: Sequence[Any]) -> None:
        """Raise UnexpectedAnswer if this page has come too often."""
        self._times = self._times + 1 if records and records == self._previous else 1
        self._previous = records
        if self._times >= SAME_PAGES:
            raise UnexpectedAnswer(
                f"the app answered the same page {self._times} times; it seems to ignore "
                f"{self._parameter!r}",
                hint="compare `pagination` in the collection's YAML with the app's documentation",
            )


def _says_end(pagination: Pagination, scope: Mapping[str, Any], read: int) -> bool:
    if pagination.has_more is not None:
        return _has_no_more(pagination, scope)
    total = _number(pagination.total_records, scope)
    return total is not None and read >= total


def _has_no_more(pagination: Pagination, scope: Mapping[str, Any]) -> bool:
    if pagination.has_more is None:
        return False
    more = evaluate(pagination.has_more, scope)
    return not more or more == "false"


def _number(formula: Any, scope: Mapping[str, Any]) -> int | None:
    if formula is None:
        return None
    value = evaluate(formula, scope)
    if value is MISSING or value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Fatal(f"a total of the pagination is {value!r}, not a number") from None


def total_records(pagination: Pagination, scope: Mapping[str, Any]) -> int:
    """How many records a page says the list has; 0 where that isn't declared, or not said."""
    return _number(pagination.total_records, scope) or 0
