"""Which values of others can be kept: keys of tenants, and JSON that databases take."""

from __future__ import annotations

import math
from typing import Any

LONGEST_KEY = 255
"""Characters of a tenant's key."""

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
    return value is None or isinstance(value, bool | int)


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def is_tenant_key(value: Any) -> bool:
    """Whether it can be the key of a tenant."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_KEY
        and value.isprintable()
        and value == value.strip()
    )
