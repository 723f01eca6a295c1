"""The next page, by every style of pagination: what to add to the first call.

A pager is a generator of turns: it gets a page's records and the answer's scope, and yields how to
ask for the next one, or ends. A short page never ends it, since apps clamp page sizes silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from membrane_sync.elements.data_collection import Pagination
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate

SAME_PAGES = 5
"""So many equal pages in a row mean that the app doesn't turn them."""

ALIKE_PAGES = 1_000
"""The same where nothing is read of the records, as if they have no id: all of those look alike."""

EMPTY_PAGES = 20_000
"""So many pages in a row without a record mean that there won't be one."""

PageRead = tuple[Sequence[Any], Mapping[str, Any]]
"""A page's records, and the scope of its answer: `$.body`, `$.headers`, `$.status`."""


@dataclass(frozen=True)
class Turn:
    """What distinguishes the call for one page: query, body, headers, or a URL the app gave.

    Names in `body` may lead into it: `page.after` is `after` in `page`. A page that is `doubtful`
    may lie behind the end, where some apps answer that it isn't found.
    """

    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None
    doubtful: bool = False


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
    count, repeats = _Count(pagination), _Repeats(pagination)
    untold = pagination.has_more is None and pagination.total_records is None
    while True:
        records, scope = yield _turn(pagination, token)
        repeats.refuse(records)
        asked, token = token, _next(pagination, scope)
        if count.says_end(records, scope):
            return
        if token is None and pagination.has_more is not None:
            raise _no_way_on("there is no token at `pagination.next`")
        if token is None or (untold and not records and token == asked):
            return
        _refuse_circle(str(token), seen)


def _graphql(pagination: Pagination) -> Pager:
    """A connection of the Relay specification: `endCursor`, as long as `hasNextPage`."""
    seen: set[int] = set()
    token: Any = None
    repeats = _Repeats(pagination)
    while True:
        records, scope = yield _turn(pagination, token)
        repeats.refuse(records)
        info = evaluate({"$var": pagination.page_info}, scope)
        if not isinstance(info, Mapping):
            raise UnexpectedAnswer(
                f"GraphQL pagination: the answer has no pageInfo at {pagination.page_info}",
                hint="ask for pageInfo { hasNextPage endCursor } in the query",
            )
        token = info.get("endCursor")
        if _is_no(info.get("hasNextPage")):
            return
        if token is None:
            raise _no_way_on("pageInfo has no endCursor")
        _refuse_circle(str(token), seen)


def _next_url(pagination: Pagination) -> Pager:
    """A URL which the app itself gives for the next page."""
    return _by_url(pagination, lambda scope: _next(pagination, scope))


def _link_header(pagination: Pagination) -> Pager:
    """The URL of `rel="next"` in the Link header (RFC 8288)."""
    return _by_url(pagination, lambda scope: next_link(str(scope["headers"].get("link", ""))))


def _by_url(pagination: Pagination, following: Callable[[Mapping[str, Any]], Any]) -> Pager:
    seen: set[int] = set()
    repeats = _Repeats(pagination)
    records, scope = yield _turn(pagination)
    while (url := following(scope)) is not None:
        repeats.refuse(records)
        _refuse_circle(str(url), seen)
        records, scope = yield Turn(url=str(url))


def _page(pagination: Pagination) -> Pager:
    number = pagination.first_page
    count, repeats = _Count(pagination), _Repeats(pagination)
    while True:
        records, scope = yield replace(_turn(pagination, number), doubtful=count.may_be_all)
        repeats.refuse(records)
        page = number - pagination.first_page + 1
        if not records or count.says_end(records, scope, page):
            return
        number += 1


def _offset(pagination: Pagination) -> Pager:
    """The offset moves by what came, not by what was asked for."""
    count, repeats = _Count(pagination), _Repeats(pagination)
    while True:
        turn = _turn(pagination, count.read)
        records, scope = yield replace(turn, doubtful=count.may_be_all)
        repeats.refuse(records)
        if not records or count.says_end(records, scope):
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


def _next(pagination: Pagination, scope: Mapping[str, Any]) -> Any:
    token = evaluate(pagination.next, scope)
    return None if token is MISSING or token is None or token in ("", False) else token


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
    """Notices an app that doesn't turn its pages: it answers the same one for ever, or none.

    Twice the same page can also be a list that grew in front of it while it was read.
    """

    def __init__(self, pagination: Pagination) -> None:
        self._parameter = pagination.parameter
        self._previous: Sequence[Any] = []
        self._times = 1
        self._empty = 0

    def refuse(self, records: Sequence[Any]) -> None:
        """Raise UnexpectedAnswer if this page has come too often."""
        self._empty = 0 if records else self._empty + 1
        if self._empty >= EMPTY_PAGES:
            raise UnexpectedAnswer(
                f"{EMPTY_PAGES:,} pages in a row had no record, and the app names a next one still",
                hint="compare `pagination` in the collection's YAML with the app's documentation",
            )
        self._times = self._times + 1 if records and records == self._previous else 1
        self._previous = records
        if self._times >= (SAME_PAGES if any(records) else ALIKE_PAGES):
            ignored = repr(self._parameter) if self._parameter else "its own next URLs"
            raise UnexpectedAnswer(
                f"the app answered the same page {self._times} times; it seems to ignore {ignored}",
                hint="compare `pagination` in the collection's YAML with the app's documentation",
            )


_ROUND = re.compile(r"[1-9]0{3,}")
"""Totals at which many apps stop to count, as 10,000."""


class _Count:
    """How many records came, held against what the app says of more."""

    def __init__(self, pagination: Pagination) -> None:
        self.read = 0
        self.may_be_all = False
        """Whether a round total was reached, at which apps stop to count."""
        self._pagination = pagination
        self._largest = 0

    def says_end(self, records: Sequence[Any], scope: Mapping[str, Any], page: int = 0) -> bool:
        """Count the page in, the so many'th of numbered ones; whether the app says it's the last.

        A total is believed only where it's what came: one that was passed is wrong. A round one
        after a full page may be as far as the app counts.
        """
        self.read += len(records)
        full = len(records) >= self._largest
        self._largest = max(self._largest, len(records))
        if self._pagination.has_more is not None:
            return _has_no_more(self._pagination, scope)
        if page and page == _number(self._pagination, "total_pages", scope):
            return True
        total = _number(self._pagination, "total_records", scope)
        self.may_be_all = full and total == self.read and bool(_ROUND.fullmatch(str(total)))
        return total == self.read and not self.may_be_all


def _has_no_more(pagination: Pagination, scope: Mapping[str, Any]) -> bool:
    return pagination.has_more is not None and _is_no(evaluate(pagination.has_more, scope))


def _is_no(value: Any) -> bool:
    return not value or (isinstance(value, str) and value.strip().lower() in _NO)


_NO = ("", "false", "no", "0")


def _number(
    pagination: Pagination, name: Literal["total_pages", "total_records"], scope: Mapping[str, Any]
) -> int | None:
    """A total; None where none is declared, or the app doesn't know it: nothing, or below zero."""
    formula = getattr(pagination, name)
    value = None if formula is None else evaluate(formula, scope)
    if value is MISSING or value is None or value == "":
        return None
    number = _whole(value)
    if number is None:
        said = repr(value)
        raise UnexpectedAnswer(
            f"`pagination.{name}` is {said if len(said) <= 60 else said[:60] + '…'}, "
            "not a whole number",
            hint="compare it with what the app answers, or leave it out",
        )
    return None if number < 0 else number


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}(\.0*)?\s*", value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def total_records(pagination: Pagination, scope: Mapping[str, Any]) -> int:
    """How many records a page says the list has; 0 where that isn't declared, or not said."""
    return _number(pagination, "total_records", scope) or 0
