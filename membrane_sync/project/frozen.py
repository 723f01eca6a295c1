"""Frozen fields of a field mapping: what a connection may not change, by file or at run time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from membrane_sync.formulas.locators import steps_of
from membrane_sync.project.located import Block, Items, Mark, Steps, is_formula

FROZEN = {
    "frozen_import_fields": ("import_value", "unified_import_value", "default_import_value"),
    "frozen_export_fields": ("export_value", "unified_export_value", "default_export_value"),
    "frozen_unified_export_fields": ("unified_export_value", "default_export_value"),
}
"""The lists of frozen fields, and the values whose fields they name."""

_INSTEAD = {"frozen_unified_export_fields": "export_value"}
"""Values that name other fields, and would be taken instead of those in which fields are frozen."""


def thawed(
    mapping: Block, refined: Block, layer: str, freezing: Iterable[Block]
) -> Iterator[tuple[Steps, str]]:
    """Path and message of each field that `layer` changes in `refined`, and `freezing` freeze.

    `mapping` is what the layer refines. A field counts as changed where the layer says anything of
    it, replaces what it's a part of, or gives a value that would be taken instead of the one it's
    in.
    """
    for listed, values in FROZEN.items():
        instead = _INSTEAD.get(listed, "")
        is_new = mapping.get(instead) is None and refined.get(instead) is not None
        for field, mark in _fields(freezing, listed):
            if is_new:
                message = f"{instead}: would be taken instead of field {field!r}, which is frozen"
                yield (instead,), f"{message} in {mark}; it can't be given for a connection"
            for name in values:
                steps = (name, *(steps_of(field) or (field,)))
                if _is_changed(mapping, refined, steps, layer):
                    message = f"{name}: field {field!r} is frozen in {mark}; it can't be changed"
                    yield steps, f"{message} for a connection"


def _fields(freezing: Iterable[Block], listed: str) -> list[tuple[str, Mark]]:
    found: dict[str, Mark] = {}
    for block in freezing:
        fields = block.get(listed)
        if isinstance(fields, Items):
            for field, mark in zip(fields, fields.marks, strict=True):
                found.setdefault(str(field), mark)
    return list(found.items())


def _is_changed(parent: Any, child: Any, path: Steps, layer: str) -> bool:
    first, *_ = path
    if first not in parent:
        return first in child
    for index, step in enumerate(path):
        if step not in child:
            return step in parent
        if step not in parent:
            return _reaches(child, path[index:])
        before, after = parent[step], child[step]
        if not (_is_mapping(before) and _is_mapping(after)):
            return bool(child.marks[step].layer == layer)
        last, parent, child = child.marks[step], before, after
    return bool(last.layer == layer)


def _reaches(block: Any, path: Steps) -> bool:
    """Does it give something at the path, or a whole that may hold anything?"""
    for step in path:
        if not _is_mapping(block):
            return True
        if step not in block:
            return False
        block = block[step]
    return True


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Block) and not is_formula(value)
