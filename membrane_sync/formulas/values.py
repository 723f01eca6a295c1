"""What a formula works on: JSON values, and MISSING for a value that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

Value: TypeAlias = Any
"""A JSON value or MISSING: None, bool, int, float, str, list, or dict with text keys."""

Step: TypeAlias = str | int
"""One step into a value: a property name or an array index."""


class Missing(Enum):
    """The type of MISSING; an enum, so that copies and pickles stay the one object."""

    MISSING = "missing"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Literal[Missing.MISSING]] = Missing.MISSING
"""No value at all, which is not the same as null. Test with `value is MISSING`."""


def is_absent(value: Value) -> bool:
    """True for null and for MISSING."""
    return value is None or value is MISSING


def is_array(value: Value) -> bool:
    """True for a list or a tuple, which formulas treat alike."""
    return isinstance(value, (list, tuple))


MAX_SIZE: Final = 50_000_000
"""Characters of text that one evaluation may make or give; an item that is made counts as some."""


class TooMuch(Exception):
    """An evaluation has made all that it may."""


def size_of(value: Value) -> int:
    """About how many characters the value's JSON has; beyond MAX_SIZE, just more than that.

    What stands in several places counts each time, though it's looked at once.
    """
    known: dict[int, int] = {}
    waiting = [value]
    while waiting:
        node = waiting[-1]
        if id(node) in known:
            waiting.pop()
            continue
        inner = _containers_in(node)
        unknown = {id(part): part for part in inner if id(part) not in known}
        if unknown:
            waiting += unknown.values()
            continue
        known[id(node)] = _own_size(node) + sum(known[id(part)] for part in inner)
        if known[id(node)] > MAX_SIZE:
            return MAX_SIZE + 1
    return known[id(value)]


def _containers_in(node: Value) -> list[Value]:
    parts = node.values() if isinstance(node, dict) else node if is_array(node) else ()
    return [part for part in parts if isinstance(part, (dict, list, tuple))]


def _own_size(node: Value) -> int:
    """The size without the lists and objects within."""
    if isinstance(node, dict):
        return sum(len(str(key)) for key in node) + _own_size([*node.values()])
    if is_array(node):
        return 2 * len(node) + sum(len(part) for part in node if isinstance(part, str))
    return len(node) if isinstance(node, str) else 1


def path_text(steps: Iterable[Step]) -> str:
    """Write steps the way people do: `full_name.$concat[0]`."""
    text = ""
    for step in steps:
        dotted = f".{step}" if text else str(step)
        text += f"[{step}]" if isinstance(step, int) else dotted
    return text
