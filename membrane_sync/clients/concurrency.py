"""How many requests may be under way at once: more while it goes well, half when it doesn't."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = 2
MOST = 16


class Concurrency:
    """A semaphore whose limit the app's answers set: additive increase, multiplicative decrease.

    Share one among the threads, and the connections, that an app answers as one.
    """

    def __init__(self, first: int = FIRST, most: int = MOST) -> None:
        self._limit = float(first)
        self._most = most
        self._under_way = 0
        self._cuts = 0
        self._free = threading.Condition()

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return int(self._limit)

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Hold a place among those under way; gives the number to report the outcome with."""
        with self._free:
            while self._under_way >= int(self._limit):
                self._free.wait()
            self._under_way += 1
            began = self._cuts
        try:
            yield began
        finally:
            with self._free:
                self._under_way -= 1
                self._free.notify()

    def went_well(self) -> None:
        """An answer came: after a full round of them there's room for one more."""
        with self._free:
            if self._limit < self._most and self._under_way >= int(self._limit):
                self._limit = min(self._most, self._limit + 1 / self._limit)
                self._free.notify()

    def too_much(self, began: int) -> None:
        """The app was overrun: half as many from now on; once for all that began before the cut."""
        with self._free:
            if began == self._cuts:
                self._cuts += 1
                self._limit = max(1.0, self._limit / 2)
