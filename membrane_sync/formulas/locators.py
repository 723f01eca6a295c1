"""Locators: `$.a.b[0]` names a place in a value; parse it once, read it as often as you like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from membrane_sync.formulas.javascript import to_number
from membrane_sync.formulas.values import MISSING, Step, Value, is_array

_NAME: Final = re.compile(r"(?:\\.|[^.\[\\]|\\\Z)*", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL: Final = re.compile(r"[.\[\]\\]")


@lru_cache(maxsize=4096)
def parse(locator: str) -> tuple[Step, ...]:
    r"""Split a locator into steps; ValueError says what is wrong with it.

    A leading `$.` may be left out; a backslash keeps `.`, `[`, `]` and `\` in a name.

    >>> parse("$.emails[0].value"), parse("a\\.b"), parse("$")
    (('emails', 0, 'value'), ('a.b',), ())
    """
    if not locator:
        raise ValueError("a locator is empty; write $ for the whole value")
    text = locator if locator.startswith("$") else f"$.{locator}"
    steps: list[Step] = []
    position = 1
    while position < len(text):
        step, position = _next_step(text, position)
        steps.append(step)
    return tuple(steps)


def steps_of(locator: Value) -> tuple[Step, ...] | None:
    """The steps of a locator, or None for anything that is not one."""
    try:
        return parse(locator) if isinstance(locator, str) else None
    except ValueError:
        return None


def text_of(steps: Iterable[Step]) -> str:
    """The locator for these steps, in its one normal form.

    >>> text_of(("a.b", 0, "c"))
    '$.a\\\\.b[0].c'
    """
    return "$" + "".join(f"[{s}]" if isinstance(s, int) else f".{_escaped(s)}" for s in steps)


def read(value: Value, steps: Iterable[Step]) -> Value:
    """The value at these steps, or MISSING; null where null is what stands there."""
    for step in steps:
        value = _item(value, step) if isinstance(step, int) else property_of(value, step)
        if value is MISSING:
            return MISSING
    return value


def reader(locator: str) -> Callable[[Value], Value]:
    """What `read` does for this locator, prepared to be done for many values.

    >>> reader("$.id")({"id": 7}), reader("$.a.b")({"a": {"b": 8}})
    (7, 8)
    """
    steps = parse(locator)
    if len(steps) != 1 or not isinstance(steps[0], str):
        return lambda value: read(value, steps)
    name = steps[0]
    return lambda value: (
        value.get(name, MISSING) if isinstance(value, dict) else property_of(value, name)
    )


def property_of(value: Value, name: str) -> Value:
    """A property of an object; of an array its `length` and its items by number."""
    if isinstance(value, dict):
        return value.get(name, MISSING)
    if not is_array(value):
        return MISSING
    if name == "length":
        return len(value)
    is_index = name.isascii() and name.isdigit() and str(int(name[:9])) == name
    return _item(value, int(name)) if is_index else MISSING


def _item(value: Value, index: int) -> Value:
    return value[index] if is_array(value) and index < len(value) else MISSING


def _next_step(text: str, position: int) -> tuple[Step, int]:
    if text[position] == ".":
        name = _NAME.match(text, position + 1)
        assert name is not None  # the pattern also matches nothing
        return _ESCAPE.sub(r"\1", name[0]), name.end()
    if text[position] != "[":
        raise ValueError(f"{text!r} has {text[position]!r} where . or [ should be")
    end = text.find("]", position)
    if end < 0:
        raise ValueError(f"{text!r} has a [ without its ]")
    return _index(text[position + 1 : end]), end + 1


def _index(text: str) -> int:
    number = to_number(text)
    if not 0 <= number < 2**32 or number != int(number):
        raise ValueError(f"[{text}] is not an index; indexes are 0, 1, 2…")
    return int(number)


def _escaped(name: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", name)
