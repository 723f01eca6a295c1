"""What a field mapping says in one direction: its template, and what each field of it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.formulas import OPERATORS, variables
from membrane_sync.formulas.inference import lineage
from membrane_sync.formulas.locators import parse, steps_of
from membrane_sync.formulas.values import path_text

Direction = Literal["import", "export"]


@dataclass(frozen=True)
class LineageRow:
    """A field of the result, the locators it's computed from, and its formula.

    `path` leads to the field; it's empty where one formula gives the whole record.
    """

    path: tuple[str, ...]
    reads: tuple[str, ...]
    formula: Any

    @property
    def field(self) -> str:
        """The path as people write it: `address.city`; `$` for the whole record."""
        return path_text(self.path) or "$"

    @property
    def columns(self) -> list[str]:
        """The fields of the record that are read, each once; "" is the record itself."""
        steps = [steps_of(locator) or () for locator in self.reads]
        return list(dict.fromkeys(str(found[0]) if found else "" for found in steps))


def template_of(mapping: FieldMapping, direction: Direction = "import") -> Any:
    """The mapping's own formulas, else its default ones; None if it has none in this direction."""
    if direction == "import":
        own, default = mapping.import_value, mapping.default_import_value
    else:
        own, default = mapping.export_value, mapping.default_export_value
    return default if own is None else own


def sorted_template(template: Any) -> Any:
    """The template with the fields of its objects in order of their names, as canonical JSON is.

    Its values are equal to the template's own. What an operator takes stays as it is written, save
    `$iterate`'s item: order may have a meaning there.
    """
    try:
        plain = isinstance(template, dict) and not _is_formula(template)
        return _in_order(template) if plain and not _copies(template) else template
    except RecursionError:
        return template


def _in_order(node: Any) -> Any:
    if isinstance(node, list):
        return [_in_order(item) for item in node]
    if not isinstance(node, dict) or not node:
        return node
    if _is_formula(node):
        options = node.get("$iterate")
        if isinstance(options, dict) and not _is_formula(options) and "item" in options:
            return {**node, "$iterate": {**options, "item": _in_order(options["item"])}}
        return node
    names = [*node]
    if any(not isinstance(name, str) or name in OPERATORS for name in names):
        return node  # in front, an operator's name would make it a formula
    return {name: _in_order(node[name]) for name in sorted(names)}


def _is_formula(node: dict[Any, Any]) -> bool:
    return next(iter(node), None) in OPERATORS


def _copies(node: Any) -> bool:
    """Whether anything is a `$copy`, which depends on what was computed before."""
    if isinstance(node, dict):
        return "$copy" in node or any(map(_copies, node.values()))
    return isinstance(node, list) and any(map(_copies, node))


def lineage_rows(mapping: FieldMapping, direction: Direction = "import") -> list[LineageRow]:
    """Where each field of the mapping's result comes from, in the order they're written.

    What an operator reads of an item of `$iterate` counts as read of its source. A field that is
    copied reads what the other one does. One that reads nothing, as a fixed text, has no locators.
    """
    template = template_of(mapping, direction)
    rows = [] if template is None else list(_rows((), template))
    return _with_copies(rows, template) if _copies(template) else rows


def _with_copies(rows: Sequence[LineageRow], template: Any) -> list[LineageRow]:
    reads: dict[tuple[Any, ...], set[str]] = {row.path: set() for row in rows}
    for text, read in lineage(template).items():
        steps = parse(text)
        within = next(n for n in range(len(steps) + 1) if steps[:n] in reads)
        reads[steps[:within]] |= read
    return [replace(row, reads=tuple(sorted(reads[row.path]))) for row in rows]


def _rows(path: tuple[str, ...], node: Any) -> Iterator[LineageRow]:
    if isinstance(node, dict) and node and next(iter(node)) not in OPERATORS:
        for name, inner in node.items():
            yield from _rows((*path, str(name)), inner)
    else:
        yield LineageRow(path, tuple(sorted(variables(node))), node)
