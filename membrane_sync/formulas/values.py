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


def path_text(steps: Iterable[Step]) -> str:
    """Write steps the way people do: `full_name.$concat[0]`."""
    text = ""
    for step in steps:
        dotted = f".{step}" if text else str(step)
        text += f"[{step}]" if isinstance(step, int) else dotted
    return text
