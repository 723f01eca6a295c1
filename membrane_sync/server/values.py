"""Which values of a request can be stored and shown again: those that databases and JSON take."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator

DEEPEST = 50


def is_storable(value: Any, depth: int = 0) -> bool:
    """Whether it's JSON without NUL, lone surrogates, NaN, infinity, and without an end to it."""
    if depth > DEEPEST:
        return False
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(is_storable(part, depth + 1) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(is_storable(item, depth + 1) for item in value)
    return True


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    if not is_storable(value):
        raise ValueError(
            f"holds a text with NUL or half a character, a number that is none, or more than "
            f"{DEEPEST} levels"
        )
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable characters on one line")
    return value


Values = Annotated[dict[str, Any], AfterValidator(_storable)]
"""An object of JSON that can be stored."""

Line = Annotated[str, AfterValidator(_printable)]
"""A text for people, on one line."""
