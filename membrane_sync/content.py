"""Whether two JSON texts of a record say the same, however they're written."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import msgspec


def same_content(one: str, other: str, ignored: Collection[str] = ()) -> bool:
    """Equal but for the order of keys, the spelling of numbers and texts, and `ignored` fields.

    `1`, `1.0` and `true` are three values.
    """
    return one == other or _canonical(one, ignored) == _canonical(other, ignored)


def _canonical(text: str, ignored: Collection[str]) -> bytes:
    try:
        return msgspec.json.encode(_without(msgspec.json.decode(text), ignored), order="sorted")
    except (ValueError, RecursionError):  # What only a lenient reader takes, as 1e400.
        try:
            value = _without(json.loads(text), ignored)
            return json.dumps(value, sort_keys=True).encode()
        except (ValueError, RecursionError):
            return text.encode()


def _without(value: Any, ignored: Collection[str]) -> Any:
    if not ignored or not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if name not in ignored}
