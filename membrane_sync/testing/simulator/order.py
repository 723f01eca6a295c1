"""Records in the order of their last change, by position, without holding those never changed.

Record i of the untouched ones has a time that grows with i; what was changed is in a sorted list.
The two are merged on the way out, so that a million records cost nothing until they are touched.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

Key = tuple[int, int]
"""Time of change in microseconds, and number: what records are ordered by."""


class Holed:
    """The numbers from `first` to `last`, excluded, without some; by position."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.holes: list[int] = []

    def __len__(self) -> int:
        return self.last - self.first - len(self.holes)

    def __contains__(self, number: int) -> bool:
        if not self.first <= number < self.last:
            return False
        at = bisect_left(self.holes, number)
        return at == len(self.holes) or self.holes[at] != number

    def rank(self, number: int) -> int:
        """How many of the numbers are smaller."""
        limit = min(max(number, self.first), self.last)
        return limit - self.first - bisect_left(self.holes, limit)

    def select(self, position: int) -> int:
        """The number at a position."""
        number = self.first + position
        while (moved := self.first + position + bisect_right(self.holes, number)) != number:
            number = moved
        return number

    def walk(self, position: int) -> Iterator[int]:
        """The numbers from a position on."""
        if position >= len(self):
            return
        number = self.select(position)
        at = bisect_left(self.holes, number)
        holes, count = self.holes, len(self.holes)
        for found in range(number, self.last):
            if at < count and holes[at] == found:
                at += 1
            else:
                yield found

    def drop(self, number: int) -> None:
        """Leave a number out."""
        insort(self.holes, number)

    def restore(self, number: int) -> None:
        """Take a number in again."""
        del self.holes[bisect_left(self.holes, number)]


class ChangeOrder:
    """Untouched numbers with their times, merged with those that were changed."""

    def __init__(self, first: int, last: int, *, start: int, step: int, per_moment: int) -> None:
        self.untouched = Holed(first, last)
        self.touched: list[Key] = []
        self._start = start
        self._step = step
        self._per_moment = per_moment

    def __len__(self) -> int:
        return len(self.untouched) + len(self.touched)

    def time(self, number: int) -> int:
        """When an untouched record was changed last: when it was made."""
        return self._start + (number - self.untouched.first) // self._per_moment * self._step

    def touch(self, number: int, before: int | None, now: int) -> None:
        """Move a record to another time; `before` is its time, None if it had no place."""
        if before is not None:
            self.remove(number, before)
        insort(self.touched, (now, number))

    def remove(self, number: int, time: int) -> None:
        """Take a record out."""
        if number in self.untouched:
            self.untouched.drop(number)
        else:
            del self.touched[bisect_left(self.touched, (time, number))]

    def rank(self, key: Key) -> int:
        """How many records come before the key."""
        return self._untouched_rank(key) + bisect_left(self.touched, key)

    def _untouched_rank(self, key: Key) -> int:
        time, number = key
        if time < self._start:
            return 0
        moment, rest = divmod(time - self._start, self._step)
        low = self.untouched.first + moment * self._per_moment
        high = low + self._per_moment
        return self.untouched.rank(high if rest else min(max(number, low), high))

    def _touched_before(self, position: int) -> int:
        """How many of the touched come before a position."""
        low, high = 0, len(self.touched)
        while low < high:
            middle = (low + high) // 2
            if middle + self._untouched_rank(self.touched[middle]) < position:
                low = middle + 1
            else:
                high = middle
        return low

    def select(self, position: int) -> int:
        """The number at a position."""
        return next(self.walk(position))

    def walk(self, position: int) -> Iterator[int]:
        """The numbers from a position on, in order of (time, number)."""
        at = self._touched_before(position)
        rest = self.untouched.walk(position - at)
        number = next(rest, None)
        while number is not None:
            key = (self.time(number), number)
            while at < len(self.touched) and self.touched[at] < key:
                yield self.touched[at][1]
                at += 1
            if at == len(self.touched):
                yield number
                yield from rest
                return
            yield number
            number = next(rest, None)
        while at < len(self.touched):
            yield self.touched[at][1]
            at += 1
