"""YAML values that know the file, line and layer they came from.

They are plain dicts and lists to everyone else; only messages and `membrane explain` look at marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from membrane_sync.errors import Problem

Steps = tuple[Any, ...]
"""Keys and indexes that lead to a value."""


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


def marked(value: Any, mark: Mark) -> Any:
    """A copy of a plain value in which everything has the one mark."""
    if isinstance(value, dict):
        block = Block(mark)
        for key, item in value.items():
            block.put(key, marked(item, mark), mark)
        return block
    if isinstance(value, list):
        items = Items(mark)
        for item in value:
            items.append(marked(item, mark))
            items.marks.append(mark)
        return items
    return value


def plain(value: Any) -> Any:
    """A copy without marks."""
    # Without comprehensions, each of which is a call by itself up to Python 3.11: formulas are as
    # deep as Python can follow.
    if isinstance(value, dict):
        block = {}
        for key, item in value.items():
            block[key] = plain(item)
        return block
    if isinstance(value, list):
        items = []
        for item in value:
            items.append(plain(item))
        return items
    return value


def mark_at(block: Block, path: Iterable[Any]) -> Mark:
    """The mark of the value at `path`, or of its nearest ancestor that has one."""
    found: Mark = block.mark
    value: Any = block
    for step in path:
        if not leads(value, step):
            break
        found, value = value.marks[step], value[step]
    return found


def leads(value: Any, step: Any) -> bool:
    """Is there something at this key of a mapping, or at this index of a list?"""
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)


def problem_at(
    block: Block, path: Iterable[Any], message: str, element: str, severity: str = "error"
) -> Problem:
    """A problem with the value at `path`, at the line where that value was written."""
    mark = mark_at(block, path)
    return Problem(message, mark.file, mark.line, element, severity)


def leaves(value: Any, path: Steps = ()) -> Iterator[tuple[Steps, Any, Mark]]:
    """Every leaf with its path and mark; a formula is one leaf, as it is one value."""
    if isinstance(value, Block):
        parts = [(key, item, value.marks[key]) for key, item in value.items()]
    else:
        parts = [(i, *pair) for i, pair in enumerate(zip(value, value.marks, strict=True))]
    for step, item, mark in parts:
        if isinstance(item, Block | Items) and item and not is_formula(item):
            yield from leaves(item, (*path, step))
        else:
            yield (*path, step), item, mark


def is_formula(value: Any) -> bool:
    """Is it a mapping whose first key starts with `$`: a formula, a `$ref` or a `$remove`?"""
    if not isinstance(value, dict) or not value:
        return False
    first = next(iter(value))
    return isinstance(first, str) and first.startswith("$")
