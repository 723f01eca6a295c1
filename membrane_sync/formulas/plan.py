"""Mapping many records at once: a template becomes one query over a column of JSON texts.

The scalar evaluator stays the reference. A field that has no column, and a value that the query
can't treat exactly, are left to it; so is every failure, which is why the errors are its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

import membrane_sync.formulas.column_operators  # noqa: F401  # registers the columns
from membrane_sync.formulas.columns import (
    Column,
    Unplannable,
    build,
    derived,
    enclosed,
    joined,
    property_of,
)
from membrane_sync.formulas.errors import FieldError
from membrane_sync.formulas.evaluator import evaluate_fields, operator_of
from membrane_sync.formulas.frames import Texts, columns, text_column
from membrane_sync.formulas.locators import steps_of
from membrane_sync.formulas.sheet import Sheet
from membrane_sync.formulas.values import MISSING, Missing, Value

__all__ = ["FEW", "UNREADABLE", "Mapped", "Plan", "compile"]

Text: TypeAlias = str | Missing
Record: TypeAlias = str | Mapping[str, Any]
Records: TypeAlias = Sequence[Record] | pa.ChunkedArray

FEW: Final = 300
"""Below so many records, setting up a query takes longer than evaluating one by one."""

_MARK: Final = "\x01"  # in no JSON text, since JSON escapes it
_LEFT: Final = re.compile(f",?{_MARK}([0-9]+)")
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a plan gives for its records, in their order."""

    column: Texts
    """The JSON text of each value, written compactly; null where it is missing."""
    broken: Mapping[int, str]
    """The texts with half of a character, which no column can hold, by the record's number."""
    errors: dict[int, list[FieldError]]
    """The fields that failed, by the record's number; the texts have the others."""
    scalar: int
    """How many fields were left to the scalar evaluator, over all records."""

    @property
    def texts(self) -> list[Text]:
        """The text of each value, or MISSING."""
        texts: list[Text] = [text or MISSING for text in self.column.to_pylist()]
        for number, text in self.broken.items():
            texts[number] = text
        return texts

    def text(self, number: int) -> Text:
        """The text of one value, or MISSING."""
        found: str | None = self.broken.get(number, self.column[number].as_py())
        return MISSING if found is None else found

    def values(self) -> Iterator[Value]:
        """Each value as Python data, or MISSING."""
        return (text if text is MISSING else json.loads(text) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Plan:
    """A template, ready to be run; make one with `compile` and keep it."""

    template: Value
    sql: str
    """The query for each value's text and whether that is in doubt; "" where nothing has one."""
    careful: str
    """The query for what was in doubt: the text, with marks for the fields that still are."""
    unplanned: tuple[str, ...]
    """The fields that the scalar evaluator gives for every record; `$` for a whole template."""

    def run(self, records: Records, few: int = FEW) -> Mapped:
        """Map records, each Python data or valid JSON text without repeated names.

        The same as `evaluate_fields` on each; below `few` records, that is what is done. A batch
        of some 50,000 makes the 10 to 40 ms that setting up the query takes count for little.
        Texts that stand in an Arrow column already are quicker to map.
        """
        if not self.sql or len(records) < few:
            return _one_by_one(self.template, _listed(records))
        try:
            column, doubts = columns(self.sql, _column(records))
        except duckdb.Error:  # such as out of memory; the records aren't lost by it
            return _one_by_one(self.template, _listed(records))
        if not any(chunk.true_count for chunk in doubts.chunks):
            return Mapped(column, {}, {}, 0)
        doubtful = [number for number, doubt in enumerate(doubts.to_pylist()) if doubt]
        again = self._again(_some(records, doubtful), few)
        texts: list[Text] = [text or MISSING for text in column.to_pylist()]
        for number, text in zip(doubtful, again.texts, strict=True):
            texts[number] = text
        errors = {doubtful[number]: failed for number, failed in again.errors.items()}
        return _mapped(texts, errors, again.scalar)

    def _again(self, records: Sequence[Record], few: int) -> Mapped:
        """The records in doubt, field by field; one by one if there are few."""
        if not self.careful or len(records) < few:
            return _one_by_one(self.template, records)
        try:
            (marked,) = columns(self.careful, _column(records))
        except duckdb.Error:
            return _one_by_one(self.template, records)
        return _finished(self.template, records, marked.to_pylist())


def compile(template: Value) -> Plan:
    """Plan a template, once for each mapping; no record is needed for it.

    >>> plan = compile({"name": {"$concat": [{"$var": "$.first"}, {"$var": "$.last"}]}})
    >>> plan.run(['{"first":"Ada","last":"L"}', '{"first":null}'], few=0).texts
    ['{"name":"AdaL"}', MISSING]
    """
    try:
        plan = _plan_fields if _is_object(template) else _plan_whole
        return plan(template)
    except (Unplannable, RecursionError):
        return Plan(template, "", "", ("$",))


def _plan_fields(template: dict[Any, Value]) -> Plan:
    sheet, fields = Sheet(), list[Column | None]()
    copies = _copies(template)
    for key, formula in template.items():
        source = template[copies[key]] if key in copies else formula
        sheet, found = _tried(key, source, sheet)
        fields.append(found)
    unplanned = tuple(str(key) for key, found in zip(template, fields, strict=True) if not found)
    if len(unplanned) == len(fields) or (copies and unplanned):
        return Plan(template, "", "", ("$",) if copies else unplanned)
    sql = _NEVER_SURE if unplanned else _quick(fields, sheet, bool(copies))
    careful = "" if copies else sheet.select(_marked_object(fields, sheet))
    return Plan(template, sql, careful, unplanned)


def _plan_whole(template: Value) -> Plan:
    sheet = Sheet()
    column = build(template, sheet)
    doubts = _any((UNREADABLE, *column.slow))
    return Plan(template, sheet.select(f"({column.sql})::VARCHAR", doubts), "", ())


def _tried(key: Any, formula: Value, sheet: Sheet) -> tuple[Sheet, Column | None]:
    """A field's column with the sheet it needs; None, and the sheet as it was, for none."""
    attempt = sheet.copy()
    try:
        return attempt, property_of(key, build(formula, attempt))
    except (Unplannable, RecursionError):
        return sheet, None


UNREADABLE: Final = r"(j IS NULL OR contains(j, '\u'))"
"""Texts that DuckDB can't read, or would escape in another way."""

_NEVER_SURE: Final = "SELECT NULL::VARCHAR, true FROM input"
"""The query of a template with fields that only the evaluator gives."""


def _quick(fields: Sequence[Column | None], sheet: Sheet, copying: bool) -> str:
    """The query for the object, and for whether any of its fields is in doubt.

    With copies in it, the object is never missing.
    """
    whole = enclosed([found for found in fields if found], "{", "}", sheet)
    text = f"coalesce({whole.sql}, '{{}}')" if copying else whole.sql
    return sheet.select(text, _any((UNREADABLE, *whole.slow)))


def _marked_object(fields: Sequence[Column | None], sheet: Sheet) -> str:
    """SQL for the object, with a mark in place of each field that is left to the evaluator."""
    parts = []
    for number, found in enumerate(fields):
        mark = f"chr(1) || '{number}'"
        if found and found.slow:
            doubts = _any(sheet.bind(Column(slow, found.level)).sql for slow in found.slow)
            parts.append(f"CASE WHEN {doubts} THEN {mark} ELSE {found.sql} END")
        else:
            parts.append(found.sql if found else mark)
    whole = sheet.bind(derived(joined(parts), *(found for found in fields if found)))
    return f"CASE WHEN {UNREADABLE} THEN chr(1) ELSE '{{' || nullif({whole.sql}, '') || '}}' END"


def _any(conditions: Iterable[str]) -> str:
    return " OR ".join(conditions)


def _copies(template: dict[Any, Value]) -> dict[Any, Any]:
    """The fields that only copy another field; Unplannable with any other `$copy`."""
    copies: dict[Any, Any] = {}
    for key, formula in template.items():
        if not _has_copy(formula):
            continue
        steps = steps_of(formula["$copy"]) if [*formula] == ["$copy"] else None
        if not steps or len(steps) > 1 or steps[0] not in template:
            raise Unplannable
        copies[key] = steps[0]
    if set(copies) & set(copies.values()):
        raise Unplannable
    return copies


def _has_copy(template: Value) -> bool:
    waiting = [template]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if next(iter(node), None) == "$copy":
                return True
            waiting.extend(node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)
    return False


def _text(record: Record) -> str | None:
    if isinstance(record, str):
        return record
    try:
        return _encode(record)
    except (TypeError, ValueError, RecursionError):
        return None


def _column(records: Records) -> Texts:
    if isinstance(records, pa.ChunkedArray):
        return records
    return text_column([_text(record) for record in records])


def _listed(records: Records) -> Sequence[Record]:
    return records.to_pylist() if isinstance(records, pa.ChunkedArray) else records


def _some(records: Records, numbers: Sequence[int]) -> list[Record]:
    if isinstance(records, pa.ChunkedArray):
        return [records[number].as_py() for number in numbers]
    return [records[number] for number in numbers]


def _mapped(texts: Sequence[Text], errors: dict[int, list[FieldError]], scalar: int) -> Mapped:
    column = text_column([text if isinstance(text, str) else None for text in texts])
    nulls = column.is_null().to_pylist() if column.null_count else ()
    broken = {i: t for i, t in enumerate(texts) if isinstance(t, str) and nulls and nulls[i]}
    return Mapped(column, broken, errors, scalar)


def _one_by_one(template: Value, records: Sequence[Record]) -> Mapped:
    texts: list[Text] = []
    errors: dict[int, list[FieldError]] = {}
    for number, record in enumerate(records):
        value, failed = evaluate_fields(template, _data(record))
        texts.append(MISSING if value is MISSING else _encode(value))
        if failed:
            errors[number] = failed
    return _mapped(texts, errors, len(records) * _width(template))


def _finished(template: Value, records: Sequence[Record], marked: Sequence[str | None]) -> Mapped:
    """The query's texts, with what they are marked to lack filled in."""
    texts: list[Text] = []
    errors: dict[int, list[FieldError]] = {}
    scalar = 0
    for number, text in enumerate(marked):
        if text is None or _MARK not in text:
            texts.append(MISSING if text is None else text)
            continue
        part = _marked(template, text)
        value, failed = evaluate_fields(part, _data(records[number]))
        if failed:
            errors[number] = failed
        texts.append(_spliced(template, part, text, value))
        scalar += _width(part)
    return _mapped(texts, errors, scalar)


def _marked(template: Value, text: str) -> Value:
    """What is left to the evaluator: the marked fields, or the template itself."""
    if text == _MARK:
        return template
    keys = [*template]
    part = {(key := keys[int(number)]): template[key] for number in _LEFT.findall(text)}
    return template if operator_of(part) else part  # a name that is an operator's, now the first


def _spliced(template: Value, part: Value, text: str, value: Value) -> Text:
    """The text with the fields of the value where their marks are."""
    if part is template:
        return MISSING if value is MISSING else _encode(value)
    keys = [*template]
    fields: dict[str, Value] = {} if value is MISSING else value
    pieces = _LEFT.split(text[1:-1])
    for i in range(1, len(pieces), 2):
        key = keys[int(pieces[i])]
        pieces[i] = _encode({key: fields[key]})[1:-1] if key in fields else ""
    kept = [piece.removeprefix(",") for piece in pieces]
    body = ",".join(piece for piece in kept if piece)
    return f"{{{body}}}" if body else MISSING


def _width(template: Value) -> int:
    return len(template) if _is_object(template) else 1


def _is_object(template: Value) -> bool:
    return isinstance(template, dict) and bool(template) and operator_of(template) is None


def _data(record: Record) -> Value:
    return json.loads(record) if isinstance(record, str) else record
