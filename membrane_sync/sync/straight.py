"""Formulas and schema in one query, for the records that give no trouble with either.

The plan and the fit stay what decides: whatever isn't plainly mapped and fit here is left to them,
and what is has the very text that they would give. It spares writing a text between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from membrane_sync.formulas.columns import (
    Column,
    Unplannable,
    build,
    derived,
    enclosed,
    literal,
    property_of,
)
from membrane_sync.formulas.evaluator import operator_of
from membrane_sync.formulas.frames import Texts, columns
from membrane_sync.formulas.plan import FEW, UNREADABLE
from membrane_sync.formulas.sheet import Sheet
from membrane_sync.project.schemas import fields
from membrane_sync.project.shape import Schema
from membrane_sync.sync.fit import CASTS, MOST, SIMPLE, Element, kinds_of

_LEAVES = "\0"


@dataclass(frozen=True, slots=True)
class Straight:
    """A template and its schema, ready for many records; make one with `compile_straight`."""

    sql: str

    def run(self, texts: Texts, few: int = FEW) -> Texts:
        """The canonical text of each record, mapped and in its shape; null for what is left.

        All are left where they are fewer than `few`, and where there's no such query.
        """
        if self.sql and len(texts) >= few:
            try:
                return columns(self.sql, texts)[0]
            except duckdb.Error:  # such as out of memory
                pass
        return pa.chunked_array([pa.nulls(len(texts), pa.string())])


def compile_straight(template: Any, schema: Schema) -> Straight:
    """Plan both together, once for each mapping; its fields have to be in order of their names.

    Nothing is planned for a mapping of which the schema takes only a part, or any field.
    """
    try:
        maker = _Maker(Sheet())
        text = maker.sheet.bind(maker.object(template, schema))
        doubts = " OR ".join((UNREADABLE, *text.slow))
        sure = [f"({doubts}) IS NOT TRUE", rf"NOT contains({text.sql}, '\u')", *maker.sure]
        return Straight(maker.sheet.select(f"CASE WHEN {' AND '.join(sure)} THEN {text.sql} END"))
    except (Unplannable, RecursionError):
        return Straight("")


@dataclass(slots=True)
class _Maker:
    sheet: Sheet
    sure: list[str] = field(default_factory=list)
    """What has to hold; NULL at worst where it doesn't."""
    spent: list[int] = field(default_factory=lambda: [0])

    def object(self, template: Any, schema: Schema, depth: int = 1) -> Column:
        """An object whose fields the mapping names, and the schema knows."""
        known = fields(schema)
        if not _is_object(template) or schema.get("additionalProperties", not known) is not False:
            raise Unplannable
        if not template.keys() <= known.keys() or [*template] != sorted(template):
            raise Unplannable
        values = {name: self._field(template[name], known[name], depth) for name in template}
        if any(_is_filled(part) for name, part in known.items() if name not in template):
            raise Unplannable
        found = enclosed([property_of(*item) for item in values.items()], "{", "}", self.sheet)
        for name in schema.get("required", ()):
            if name not in values:
                raise Unplannable
            there = f"NOT absent({self.sheet.bind(values[name]).sql})"
            # An object that isn't there at all needs no fields; the record is, or it isn't sure.
            if depth > 1:
                found = self.sheet.bind(found)
                there = f"({found.sql} IS NULL OR {there})"
            self.sure.append(there)
        return found

    def _field(self, template: Any, part: Any, depth: int) -> Column:
        if not isinstance(part, Mapping) or part.get("readOnly") or _is_filled(part):
            raise Unplannable
        kinds = [] if "anyOf" in part else kinds_of(part.get("type"))
        if kinds == ["object"] and fields(part):
            return self.object(template, part, depth + 1)
        value = build(template, self.sheet, depth)
        if kinds == ["string"] and part.keys() <= SIMPLE and _is_text(value):
            return value
        value = self._cast(value, kinds)
        element = Element(f"{_LEAVES}[{{}}]", value.sql, spent=self.spent)
        condition = element.value(part, "")
        if element.asked or self.spent[0] > MOST:
            raise Unplannable
        if element.leaves:
            paths = ", ".join(map(literal, element.leaves))
            leaves = derived(f"leaves({value.sql}, [{paths}])", value)
            condition = condition.replace(_LEAVES, self.sheet.bind(leaves).sql)
        self.sure.append(condition)
        return value

    def _cast(self, value: Column, kinds: list[str]) -> Column:
        """The value in its field's type, by a name."""
        value = self.sheet.bind(value)
        if len(kinds) != 1 or kinds[0] not in CASTS:
            return value
        sql = CASTS[kinds[0]].format(value.sql)
        return self.sheet.bind(derived(sql, value, certain=value.certain))


def _is_text(value: Column) -> bool:
    """Whether it's a text wherever it is there."""
    return value.frame is not None and value.frame.start.startswith('"')


def _is_object(template: Any) -> bool:
    return isinstance(template, dict) and bool(template) and operator_of(template) is None


def _is_filled(part: Any) -> bool:
    """Whether the schema gives a field a value that the mapping doesn't."""
    return not isinstance(part, Mapping) or "default" in part
