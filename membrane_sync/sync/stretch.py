"""Reading from one cursor value to the end: restarts by the cursor, ties, and result caps.

Pages drift while others write: a record that moves between two pages is lost. So where the app
sorts by the cursor, the next page is not asked for by number, URL or token, which may all be
numbers in disguise, but from the cursor that the last page ended with. Pages only turn within
records that the request can't tell apart, as they share one cursor value, and those are read until
two readings agree. What leaves them while they're read moves the rest a place ahead, so that one is
missed; but then the next reading lacks what left. What joins them moves the rest a place behind, so
that one comes twice: hence readings agree only if each record came as often in both. Nothing joins
them later, since the reading ended with a record of a later value. Where a tie_break is declared,
they are read by their ids instead, however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from membrane_sync.errors import AppUnavailable, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.records import Call
from membrane_sync.sync.page import Page
from membrane_sync.sync.paging import Turn, turns
from membrane_sync.sync.rendering import CallSource, Scope, turned
from membrane_sync.sync.source import Source, Step
from membrane_sync.sync.watch import Watch

MOST_READINGS = 20
"""How often records that share a cursor value are read, at most, until two readings agree."""

Stop = Callable[[Sequence[Any]], bool]
"""Says of a page that nothing behind it is wanted."""

Reading = Generator[Step, Page, bool]
"""Steps; gives whether the app's result cap ended it before all was read."""


def from_cursor(
    source: Source, scope: Scope, stop: Stop | None = None, reached: datetime | None = None
) -> Reading:
    """Every step from `$.cursor` on; `reached` goes with the first one.

    Raises AppUnavailable if the records that share a value never come twice alike, and
    UnexpectedAnswer if they are more than the app's result cap and no tie_break is declared.
    """
    made = source.pages_of_function(scope)
    if isinstance(made, Generator):
        return (yield from _by_function(source, made, reached))
    at: Any = None
    before: Counter[str] = Counter()
    readings = 0
    call = source.call(scope)
    first = Step(call, reached=reached)
    while True:
        stretch = yield from _stretch(source, scope, at, first, stop)
        if stretch.tied is not None:
            stretch.next_cursor = yield from _drained(source, scope, stretch.tied)
        elif stretch.capped and stretch.next_cursor is None:
            if not source.restarts:
                return True
            raise _too_many_ties(source)
        settled = stretch.numbered == before or stretch.tied is not None
        if not settled and stretch.next_cursor is not None:
            before, readings = stretch.numbered, readings + 1
            _refuse_endless(source, readings)
        elif stretch.ended or stretch.next_cursor is None:
            return False
        else:
            at, before, readings, settled = stretch.next_cursor, Counter(), 0, True
            scope = source.moved(scope, at)
            call = source.call(scope) if stretch.next_call is None else stretch.next_call
        base = None if before or "window" in scope else scope["cursor"]
        first = Step(call, settled, again=bool(before), base=base)


@dataclass
class _Stretch:
    """What was read from one cursor value on.

    `next_cursor` is the value that the last page went on to, if it did, and `next_call` asks from
    it, if that's known; `numbered` is what came and how often, on pages that only numbers told
    apart, as where records of one value fill a page; `tied` is that value, if they are to be read
    by their ids.
    """

    next_cursor: Any = None
    next_call: Call | None = None
    numbered: Counter[str] = field(default_factory=Counter)
    ended: bool = False
    capped: bool = False
    tied: Any = None


def _stretch(
    source: Source, scope: Scope, at: Any, first: Step, stop: Stop | None
) -> Generator[Step, Page, _Stretch]:
    base = first.call
    pager = turns(source.method.pagination)
    step = replace(first, call=turned(base, next(pager)))
    stretch, cap = _Stretch(), _Cap(source)
    while True:
        page = yield step
        records = page.heads
        if source.restarts:
            _note(stretch, source, records, scope, at, base)
        cap.count(records)
        try:
            turn = _absolute(pager.send((records, page.scope)), page)
        except StopIteration:
            stretch.ended, stretch.capped = not cap.full, cap.full
            return stretch
        if stop is not None and stop(records):
            stretch.ended, stretch.next_cursor = True, None
            return stretch
        if stretch.next_cursor is not None:
            return stretch
        if source.restarts and source.tie_break is not None:
            stretch.tied = source.newest(records)
        stretch.capped = cap.reached
        if stretch.capped or stretch.tied is not None:
            return stretch
        call = turned(base, turn)
        step = Step(source.forgiven(call) if turn.doubtful else call, again=source.restarts)


class _Cap:
    """Counts what came of one query, so as never to ask for what lies beyond the app's cap.

    Apps answer an error there, or stop in silence, as if there were no more.
    """

    def __init__(self, source: Source) -> None:
        pagination = source.method.pagination
        self._cap = pagination.result_cap
        self._size = pagination.page_size or 1
        self._read = 0

    def count(self, records: Sequence[Any]) -> None:
        self._read += len(records)
        self._size = max(self._size, len(records))

    @property
    def reached(self) -> bool:
        """Whether the next page would go beyond it."""
        return self._cap is not None and self._read + self._size > self._cap

    @property
    def full(self) -> bool:
        """Whether as many came as can, so that an end doesn't mean the end."""
        return self._cap is not None and self._read >= self._cap


def _note(
    stretch: _Stretch, source: Source, records: Sequence[Any], scope: Scope, at: Any, base: Call
) -> None:
    newest = source.newest(records)
    call = None if newest is None else _leads_on(source, scope, at, newest, base)
    if call is not None:
        stretch.next_cursor, stretch.next_call = newest, call
    if stretch.numbered or stretch.next_cursor is None:
        stretch.numbered.update(source.states(records))


def _leads_on(source: Source, scope: Scope, at: Any, newest: Any, base: Call) -> Call | None:
    """The call that asks from `newest`, if it asks for something else than `base`, and further on.

    It doesn't where the request leaves the cursor out or rounds it, or the app doesn't heed it:
    there the reading would begin again for ever.
    """
    assert source.order is not None
    key, cursor = source.order.key, scope.get("cursor")
    known = cursor if at is None else at
    if known is not None and key(newest) <= key(known):
        return None
    call = source.call(source.moved(scope, newest))
    return None if call == base else call


def _drained(source: Source, scope: Scope, value: Any) -> Generator[Step, Page, Any]:
    """The records of one value in the order of their ids; gives the value to go on from."""
    assert source.order is not None and source.tie_break is not None
    formula = source.tie_break.after
    formula = {"$var": source.collection.id} if formula is None else formula
    pager = source.method.pagination
    after: Any = None
    while True:
        call = turned(source.tie_call(scope, value, after), next(turns(pager)))
        records = (yield Step(call, again=True)).heads
        if not records:
            return source.order.notation.after(value)
        newest = source.newest(records)
        if newest is not None and source.order.key(newest) > source.order.key(value):
            return newest
        last = evaluate(formula, records[-1])
        if last is MISSING or last is None or last == after:
            raise UnexpectedAnswer(
                f"collection {source.collection.key!r}: the records of one cursor value don't go "
                "on after the last id",
                hint="compare `tie_break` in the collection's YAML with the app's documentation",
            )
        after = last


def _by_function(source: Source, made: CallSource, reached: datetime | None) -> Reading:
    """The calls of a function's generator, each answer a page."""
    watch = Watch(str(source.method.function))
    try:
        call = next(made)
        while True:
            page = yield Step(source.as_call(call), reached=reached)
            reached = None
            watch.saw(page.heads)
            call = made.send(page.answer)
    except StopIteration:
        return False


def _refuse_endless(source: Source, readings: int) -> None:
    if readings >= MOST_READINGS:
        raise AppUnavailable(
            f"collection {source.collection.key!r}: the records that share one cursor value came "
            f"differently {readings} times; to go on would lose some of them",
            hint="make the page larger, or let the app sort by a second field too",
        )


def _too_many_ties(source: Source) -> UnexpectedAnswer:
    cap = source.method.pagination.result_cap
    return UnexpectedAnswer(
        f"collection {source.collection.key!r}: {cap} records or more share one cursor value, and "
        "the app answers no more to one query; to go on would lose some of them",
        hint="declare how to ask for them by their ids: `tie_break` of the pagination",
    )


def _absolute(turn: Turn, page: Page) -> Turn:
    """The turn with its URL made whole: apps may give one that is relative to their answer's."""
    return turn if turn.url is None else replace(turn, url=urljoin(page.answer.url, turn.url))
