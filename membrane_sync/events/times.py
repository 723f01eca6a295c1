"""Times as apps write them in webhooks and in answers about subscriptions."""

from __future__ import annotations

from typing import Any

from membrane_sync.formulas import MISSING
from membrane_sync.formulas.dates import iso_instant

_MILLISECONDS_FROM = 1e11
"""Seconds since 1970 that are more than this would be 3,000 years off: they're milliseconds."""


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 text, or of seconds or milliseconds; None for no value.

    Raises ValueError for what is no time.

    >>> seconds_of("2026-01-01T00:00:00Z") == seconds_of(1767225600) == seconds_of("1767225600000")
    True
    """
    if value is MISSING or value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        found = iso_instant(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError("there's no time in it") from None
        return found.timestamp()
    if isinstance(value, bool) or not abs(number) < 1e15:
        raise ValueError("there's no time in it")
    return number / 1000 if abs(number) > _MILLISECONDS_FROM else number
