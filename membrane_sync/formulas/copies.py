"""`$copy`: once a result is whole, put another of its fields where a copy was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from membrane_sync.formulas.locators import read, steps_of
from membrane_sync.formulas.values import MISSING, Step, Value, is_array

MOST_PLACES: Final = 10_000_000
"""How many places are looked at, to see that what is copied holds no copy itself."""


class Copy(dict[str, Value]):
    """The place holder that `$copy` leaves; to other operators it is the object it looks like."""

    def __init__(self, locator: Value) -> None:
        super().__init__({"$copy": locator})


@dataclass(frozen=True, slots=True)
class CopyFailure:
    """A copy that can't be made, and where in the result it stood."""

    steps: tuple[Step, ...]
    locator: Value
    reason: str


class _Place(NamedTuple):
    """A place in the result: the steps to it, what it is in, and what stands there."""

    steps: tuple[Step, ...]
    holder: Any
    value: Value


def resolve_copies(result: Value) -> list[CopyFailure]:
    """Replace every place holder in the result, in order; return those that can't be."""
    places = [place for place in _walk(result) if isinstance(place.value, Copy)]
    looked = _Looked()
    failures = [failure for place in places if (failure := _resolve(result, place, looked))]
    for holder in {id(place.holder): place.holder for place in places}.values():
        _drop_missing(holder)
    return failures


class _Looked:
    """Which values are known to hold no copy, by their ids, and how far it may still be looked."""

    def __init__(self) -> None:
        self.free: set[int] = set()
        self.left = MOST_PLACES

    def holds_copy(self, value: Value) -> bool:
        """Whether it does, or that would take too long to tell."""
        if id(value) in self.free:
            return False
        for place in _walk(value):
            self.left -= 1
            if isinstance(place.value, Copy) or self.left < 0:
                return True
        self.free.add(id(value))
        return False


def _resolve(result: Value, place: _Place, looked: _Looked) -> CopyFailure | None:
    locator = place.value["$copy"]
    if not place.steps:
        return CopyFailure(place.steps, locator, "stands alone: there is no other field to copy")
    source = steps_of(locator)
    value = MISSING if source is None else read(result, source)
    if looked.holds_copy(value):
        # left in place, so that a copy of this one fails too
        return CopyFailure(place.steps, locator, f"copies {locator}, which holds a copy itself")
    place.holder[place.steps[-1]] = value
    return None


def _walk(result: Value) -> Iterator[_Place]:
    """Every place in the result, in document order; each list and object once."""
    waiting = [_Place((), None, result)]
    seen: set[int] = set()
    while waiting:
        place = waiting.pop()
        yield place
        if not isinstance(place.value, Copy) and id(place.value) not in seen:
            seen.add(id(place.value))
            waiting.extend(_places_in(place))


def _places_in(place: _Place) -> list[_Place]:
    """The places one step further in, last first."""
    steps, _, value = place
    if isinstance(value, dict):
        return [_Place((*steps, key), value, item) for key, item in reversed(value.items())]
    if is_array(value):
        places = [_Place((*steps, i), value, item) for i, item in enumerate(value)]
        return places[::-1]
    return []


def _drop_missing(holder: Any) -> None:
    if isinstance(holder, list):
        holder[:] = [item for item in holder if item is not MISSING]
    elif isinstance(holder, dict):
        for key in [key for key, item in holder.items() if item is MISSING]:
            del holder[key]
