"""Read on while what was read is stored: the app is asked in a thread of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 8
"""So many pages wait at most, so that memory is constant however fast the app is."""


def ahead(items: Iterator[Item], depth: int = DEPTH) -> Generator[Item]:
    """The items in their order; from the second on, they're made up to `depth` items ahead.

    What making one raises comes in its place. Closing it stops the thread, at the latest when the
    answer that it waits for is there.
    """
    for first in items:
        yield first
        break
    else:
        return
    yield from _threaded(items, depth)


class _End:
    """What comes after the last item: nothing, or what was raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _threaded(items: Iterator[Item], depth: int) -> Iterator[Item]:
    queue: Queue[Item | _End] = Queue(depth)
    stopped = Event()

    def make() -> None:
        end = _End()
        try:
            for item in items:
                if not _put(queue, item, stopped):
                    return
        except BaseException as error:
            end = _End(error)
        _put(queue, end, stopped)

    maker = Thread(target=make, name="reading ahead", daemon=True)
    maker.start()
    try:
        while not isinstance(item := _get(queue, maker), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        maker.join(timeout=5)


def _put(queue: Queue[Item | _End], item: Item | _End, stopped: Event) -> bool:
    while not stopped.is_set():
        try:
            queue.put(item, timeout=0.1)
        except Full:
            continue
        return True
    return False


def _get(queue: Queue[Item | _End], maker: Thread) -> Item | _End:
    while True:
        try:
            return queue.get(timeout=1)
        except Empty:
            if not maker.is_alive() and queue.empty():
                return _End(RuntimeError("the thread that reads ahead is gone"))
