"""Which fields of a form hold secrets, by its JSON schema and by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMES = re.compile(r"secret|passw(or)?d|private_?key|api_?key", re.IGNORECASE)


def sensitive_fields(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that are marked: `isSensitive`, `writeOnly` or of format password, in any part."""
    asked = schema.get("properties") or {}
    return tuple(sorted(name for name, part in asked.items() if _is_marked(part)))


def sensitive_values(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields that are marked, or are secrets by their names."""
    marked = sensitive_fields(schema)
    return {n: value for n, value in values.items() if n in marked or _NAMES.search(n)}


def _is_marked(part: Any) -> bool:
    if isinstance(part, Mapping):
        if part.get("isSensitive") or part.get("writeOnly") or part.get("format") == "password":
            return True
        return any(_is_marked(inner) for inner in part.values())
    return isinstance(part, list) and any(_is_marked(inner) for inner in part)
