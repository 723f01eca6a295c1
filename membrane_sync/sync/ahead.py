"""Read on while what was read is stored: the app is asked in a thread of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEPTH = 8
"""So many pages wait at most, so that memory is constant however fast the app is."""

TOGETHER = 4
"""So many are taken at once where the app is fast: to wake a thread for each takes 0.2 ms of CPU,
as much as all else that is done for a page of 100 records once it's there."""

SECONDS = 0.1
"""So long one waits at most for the others."""


def ahead(items: Iterator[Item]) -> Generator[Item]:
    """The items in their order; from the second on, they're made up to `DEPTH` items ahead.

    What making one raises comes in its place. Closing it stops the thread, at the latest when the
    answer that it waits for is there.
    """
    for first in items:
        yield first
        break
    else:
        return
    yield from _threaded(items)


class _End:
    """What comes after the last item: nothing, or what was raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _threaded(items: Iterator[Item]) -> Iterator[Item]:
    made = _Made[Item | _End]()

    def make() -> None:
        end = _End()
        try:
            for item in items:
                if not made.put(item):
                    return
        except BaseException as error:
            end = _End(error)
        made.put(end, last=True)

    maker = Thread(target=make, name="reading ahead", daemon=True)
    maker.start()
    try:
        while True:
            is_at_work = maker.is_alive()
            taken = made.take()
            if not taken and not is_at_work:
                raise RuntimeError("the thread that reads ahead is gone")
            for item in taken:
                if not isinstance(item, _End):
                    yield item
                elif item.error is not None:
                    raise item.error
                else:
                    return
    finally:
        made.stop()
        maker.join(timeout=5)


class _Made(Generic[Item]):
    """The items that one thread has made, and another has yet to take."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._changed = Condition()
        self._whole = False
        self._stopped = False

    def put(self, item: Item, *, last: bool = False) -> bool:
        """Add one as soon as there's room; False once nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < DEPTH)
            self._items.append(item)
            self._whole = last
            if self._is_enough():
                self._changed.notify()
            return not self._stopped

    def take(self) -> list[Item]:
        """All there are, of which one waits a moment for more; nothing if none came meanwhile."""
        with self._changed:
            self._changed.wait_for(self._is_enough, SECONDS)
            taken, self._items = self._items, []
            self._changed.notify()
            return taken

    def stop(self) -> None:
        """Nobody takes any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _is_enough(self) -> bool:
        return self._whole or len(self._items) >= TOGETHER
