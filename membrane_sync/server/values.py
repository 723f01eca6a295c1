"""Which values of a request can be stored and shown again: those that databases and JSON take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from membrane_sync.project.values import DEEPEST, is_storable


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
