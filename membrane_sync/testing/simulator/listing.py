"""Which records a list request gives: its bounds, its order, and a page of it by position."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from membrane_sync.testing.simulator.content import mix, number_of
from membrane_sync.testing.simulator.order import Key
from membrane_sync.testing.simulator.table import Table

ENDLESS = 1 << 62


class BadRequest(ValueError):
    """The app refuses the request as wrong, 400."""


@dataclass(frozen=True)
class Query:
    """What a list request asks for; times in microseconds, `until` is excluded."""

    since: int | None = None
    until: int | None = None
    after_id: str | None = None
    sort: str = "ascending"
    parent: int | None = None
    salt: int = 0
    """Differs at each request, for ties in no order."""


class View:
    """The records that a query finds, in its order: `len(view)`, and `view.page(position, size)`.

    A range of the table's order wherever it can be one; a list of numbers only for a filter in
    order of ids, or below a parent.
    """

    def __init__(self, table: Table, query: Query) -> None:
        self._table = table
        self._query = query
        self._low, self._high = self._bounds()
        self._nulls = self._shown_nulls()
        self._skipped = 0
        """In order of ids, how many come before `after_id`."""
        self._numbers = self._listed()

    def __len__(self) -> int:
        if self._numbers is not None:
            return len(self._numbers)
        if self._query.sort == "id":
            return len(self._table.present) - self._skipped
        return self._high - self._low + len(self._nulls)

    def page(self, position: int, size: int) -> list[int]:
        """The numbers at these positions."""
        size = max(0, min(size, len(self) - position))
        if self._numbers is not None:
            return list(self._numbers[position : position + size])
        if self._query.sort == "id":
            return list(islice(self._table.present.walk(self._skipped + position), size))
        if self._query.sort == "none":
            return [self._in_order(self._shuffled(at)) for at in range(position, position + size)]
        if self._query.sort == "descending":
            last = len(self) - position
            return list(islice(self._walk(last - size), size))[::-1]
        return list(islice(self._walk(position), size))

    def after(self, time: int | None, number: int) -> int:
        """The position after a record's place, whether it's still there or has moved on."""
        if self._query.sort == "descending":
            return len(self) - self._rank(time, number)
        return self._rank(time, number + 1)

    def _rank(self, time: int | None, number: int) -> int:
        """How many records of the view come before a place, ascending."""
        by_id = self._query.sort == "id"
        if self._numbers is not None:
            if by_id:
                return bisect_left(self._numbers, number)
            return sum(self._key(found) < (time or 0, number) for found in self._numbers)
        if by_id:
            return max(0, self._table.present.rank(number) - self._skipped)
        timed = self._high - self._low
        if time is None:
            return bisect_left(self._nulls, number) + (0 if self._null_first else timed)
        rank = min(max(0, self._table.order.rank((time, number)) - self._low), timed)
        return rank + (len(self._nulls) if self._null_first else 0)

    @property
    def _null_first(self) -> bool:
        return self._table.spec.null_order == "first"

    def _bounds(self) -> tuple[int, int]:
        order, query = self._table.order, self._query
        low = 0 if query.since is None else order.rank((query.since, -1))
        high = len(order) if query.until is None else order.rank((query.until, -1))
        return low, max(low, high)

    def _shown_nulls(self) -> Sequence[int]:
        filtered = self._query.since is not None or self._query.until is not None
        absent = self._table.spec.null_order == "absent" and self._query.sort != "id"
        return [] if filtered or absent else self._table.nulls

    def _listed(self) -> list[int] | None:
        query, table = self._query, self._table
        filtered = query.since is not None or query.until is not None
        after = self._after_id()
        if query.parent is not None:
            numbers = [n for n in table.children_of(query.parent) if self._wanted(n)]
        elif not filtered and query.sort == "id":
            self._skipped = table.present.rank(after + 1)
            return None
        elif after >= 0 or query.sort == "id" or (filtered and table.spec.hidden_tombstones):
            numbers = list(islice(table.order.walk(self._low), self._high - self._low))
            numbers += self._nulls
        else:
            return None
        hidden = filtered and table.spec.hidden_tombstones
        numbers = [n for n in numbers if n > after and (table.alive(n) or not hidden)]
        by_id = query.sort == "id"
        numbers.sort(key=None if by_id else self._key, reverse=query.sort == "descending")
        return numbers

    def _after_id(self) -> int:
        if self._query.after_id is None:
            return -1
        after = number_of(self._table.spec.key, self._query.after_id)
        if after is None:
            raise BadRequest("after_id is no id of this collection")
        return after

    def _wanted(self, number: int) -> bool:
        time = self._table.row(number).updated
        query = self._query
        if query.since is not None and (time is None or time < query.since):
            return False
        return query.until is None or (time is not None and time < query.until)

    def _key(self, number: int) -> Key:
        return (self._table.row(number).updated or 0, number)

    def _walk(self, position: int) -> Iterator[int]:
        """Ascending from a position on, those without a time in their place."""
        if self._unstable:
            for at in range(position, len(self)):
                yield self._in_order(at)
            return
        nulls, timed = len(self._nulls), self._high - self._low
        if self._null_first:
            yield from islice(self._nulls, position, None)
            yield from self._timed(max(0, position - nulls))
            return
        if position < timed:
            yield from self._timed(position)
        yield from islice(self._nulls, max(0, position - timed), None)

    def _timed(self, position: int) -> Iterator[int]:
        return islice(
            self._table.order.walk(self._low + position), self._high - self._low - position
        )

    @property
    def _unstable(self) -> bool:
        return self._table.spec.ties == "unstable"

    def _in_order(self, position: int) -> int:
        nulls, timed = len(self._nulls), self._high - self._low
        if self._null_first:
            if position < nulls:
                return self._nulls[position]
            position -= nulls
        elif position >= timed:
            return self._nulls[position - timed]
        if self._unstable:
            position = self._turned(position)
        return self._table.order.select(self._low + position)

    def _turned(self, position: int) -> int:
        """Another position among those of the same time, another one at each request."""
        order = self._table.order
        number = order.select(self._low + position)
        time = self._table.row(number).updated or 0
        first = max(order.rank((time, -1)) - self._low, 0)
        last = min(order.rank((time, ENDLESS)), self._high) - self._low
        turn = mix(self._table.seed, self._query.salt, 3)
        return first + (position - first + turn) % (last - first)

    def _shuffled(self, position: int) -> int:
        """The positions in no order, but the same at each request."""
        count = len(self)
        factor = 2_654_435_761 % count or 1
        while _common(factor, count) != 1:
            factor += 1
        return (position * factor + mix(self._table.seed, 5, 7)) % count


def _common(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one
