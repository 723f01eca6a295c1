"""YAML values that know the file, line and layer they came from.

They are plain dicts and lists to everyone else; only messages and `membrane explain` look at marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mark:
    """Where a value was written: `file` relative to the project, 1-based line, and layer."""

    file: str
    line: int
    layer: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Block(dict[Any, Any]):
    """A mapping whose keys have marks."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marks: dict[Any, Mark] = {}

    def put(self, key: Any, value: Any, mark: Mark) -> None:
        """Set a key together with the place it was written."""
        self[key] = value
        self.marks[key] = mark


class Items(list[Any]):
    """A sequence whose items have marks."""

    def __init__(self, mark: Mark, items: Iterable[tuple[Any, Mark]] = ()) -> None:
        super().__init__()
        self.mark = mark
        self.marks: list[Mark] = []
        for value, place in items:
            self.append(value)
            self.marks.append(place)


def mark_at(value: Any, path: Iterable[Any]) -> Mark | None:
    """The mark of the value at `path`, or of its nearest ancestor that has one."""
    found = getattr(value, "mark", None)
    for step in path:
        if isinstance(value, Block) and step in value:
            found = value.marks.get(step, found)
            value = value[step]
        elif isinstance(value, Items) and isinstance(step, int) and step < len(value):
            found = value.marks[step]
            value = value[step]
        else:
            break
    return found


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[tuple[Any, ...], Any, Mark]]:
    """Every leaf with its path and mark; a formula is one leaf, as it is one value."""
    if isinstance(value, Block) and value and not is_formula(value):
        for key, item in value.items():
            if isinstance(item, Block | Items) and item and not is_formula(item):
                yield from leaves(item, (*path, key))
            else:
                yield (*path, key), item, value.marks[key]
    elif isinstance(value, Items):
        for index, item in enumerate(value):
            if isinstance(item, Block | Items) and item and not is_formula(item):
                yield from leaves(item, (*path, index))
            else:
                yield (*path, index), item, value.marks[index]


def is_formula(value: Any) -> bool:
    """Is it a mapping whose first key starts with `$`: a formula, a `$ref` or a `$remove`?"""
    if not isinstance(value, dict) or not value:
        return False
    first = next(iter(value))
    return isinstance(first, str) and first.startswith("$")
