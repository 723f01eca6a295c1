"""Reading ahead: in order, a few at a time, bounded, and never later than what is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from membrane_sync.sync.ahead import DEPTH, ahead


@pytest.mark.parametrize("count", [*range(12), 1000])
def test_all_come_in_order(count: int) -> None:
    assert list(ahead(iter(range(count)))) == list(range(count))


def test_what_is_raised_comes_after_what_was_made() -> None:
    def items() -> Iterator[int]:
        yield from range(6)
        raise KeyError("broken off")

    seen: list[int] = []
    with pytest.raises(KeyError, match="broken off"):
        seen.extend(ahead(items()))
    assert seen == list(range(6))


def test_one_that_is_there_does_not_wait_for_the_next() -> None:
    """As where the app is slow: what came is to be seen, and stored, meanwhile."""
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield from range(3)
        assert go_on.wait(5), "what was there came too late"
        yield 3

    found = ahead(items())
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    assert not go_on.is_set()
    go_on.set()
    assert list(found) == [3]


def test_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []
    # The first, as many as were taken with the second, those that wait, and one at hand.
    most = 1 + DEPTH + DEPTH + 1
    too_many = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == most:
                too_many.set()
            yield number

    found = ahead(items())
    assert [next(found), next(found)] == [0, 1]
    assert not too_many.wait(0.3)
    found.close()
    assert "reading ahead" not in {thread.name for thread in threading.enumerate()}
