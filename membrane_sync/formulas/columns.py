"""Formulas as columns: SQL that gives a formula's value for many records at once.

The SQL never fails and never guesses: where it can't give the scalar evaluator's value, one of the
column's `slow` conditions holds, and the row is left to the scalar evaluator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from membrane_sync.formulas.evaluator import operator_of
from membrane_sync.formulas.javascript import to_string, truthy
from membrane_sync.formulas.values import MISSING, Step, Value, is_absent, is_array

_NAME: Final = re.compile(r'[A-Za-z]\w*(\."[^"]+")?', re.ASCII)
"""A column, or a part of an item: what DuckDB looks up and doesn't compute again."""

MAX_PARTS: Final = 300
"""Places that are read, and parts of anything; beyond, setting up the query takes too long."""

UNKNOWN: Final = object()
"""In place of a value that depends on the record."""


class Unplannable(Exception):
    """A formula that only the scalar evaluator can take."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A value as texts to be joined at once, rather than one after the other."""

    start: str
    body: str
    """SQL, which is NULL or blank where the value is missing."""
    end: str = ""
    there: str = ""
    """SQL for whether the value is there; "" where it always is."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """SQL for one value of each row, and what must not hold for it to be right."""

    sql: str
    level: int = 0
    """The first layer of the sheet that has all that the SQL names."""
    slow: tuple[str, ...] = ()
    known: Value = UNKNOWN
    """The value where it is the same for all rows."""
    test: str = ""
    """SQL for whether it holds, where it is always true or false."""
    certain: bool = False
    """Whether it is never missing."""
    frame: Frame | None = None
    """The same in parts, where that spares copies."""


class Scope(Protocol):
    """Where a formula reads, and where it may keep what it uses twice."""

    deepest: int
    """The depth beyond which formulas are unplannable here."""

    def read(self, steps: tuple[Step, ...]) -> Column:
        """The column for what stands at these steps."""

    def bind(self, column: Column) -> Column:
        """The same column by a name, so that it can be repeated at no cost."""

    def again(self, column: Column) -> Column:
        """The same column, to be written twice or so."""


Build: TypeAlias = Callable[["Formula"], Column]
COLUMNS: Final[dict[str, Build]] = {}
"""The operators that have a column, by name; a formula with any other is unplannable."""


def column(name: str) -> Callable[[Build], Build]:
    """Register how an operator becomes a column."""

    def register(build: Build) -> Build:
        COLUMNS[name] = build
        return build

    return register


@dataclass(frozen=True, slots=True)
class Formula:
    """An operator with its arguments, to become a column."""

    args: Value
    node: dict[str, Value]
    scope: Scope
    depth: int

    def option(self, name: str) -> Value:
        """The argument of this name, or MISSING."""
        return self.args.get(name, MISSING) if isinstance(self.args, dict) else MISSING

    def build(self, node: Value, scope: Scope | None = None) -> Column:
        """The column of a part of the arguments."""
        return build(node, scope or self.scope, self.depth + 1)

    def bound(self, node: Value) -> Column:
        """The column of a part of the arguments, to be used more than once."""
        return self.scope.bind(self.build(node))

    def again(self, node: Value) -> Column:
        """The column of a part of the arguments, to be used about twice."""
        return self.scope.again(self.build(node))

    def items(self) -> list[Column]:
        """The columns of arguments that are written as a list."""
        if not is_array(self.args):
            raise Unplannable
        return [self.bound(item) for item in self.args]


def build(node: Value, scope: Scope, depth: int = 0) -> Column:
    """The column of a formula or a literal; Unplannable where there is none."""
    if depth > scope.deepest:
        raise Unplannable
    if isinstance(node, dict):
        operator = operator_of(node)
        if operator is None:
            return object_of({k: build(v, scope, depth + 1) for k, v in node.items()}, scope)
        if operator.name not in COLUMNS:
            raise Unplannable
        return COLUMNS[operator.name](Formula(node[operator.name], node, scope, depth))
    if is_array(node):
        return list_of([build(item, scope, depth + 1) for item in node], scope)
    return given(node)


def given(value: Value) -> Column:
    """A column that has the same value in all rows."""
    if value is MISSING:
        return Column("NULL", known=MISSING)
    return Column(literal(json_text(value)), known=value)


def object_of(fields: dict[Any, Column], scope: Scope) -> Column:
    """An object of these columns, without those that are missing."""
    if all(value.known is not UNKNOWN for value in fields.values()):
        kept = {k: v.known for k, v in fields.items() if v.known is not MISSING}
        return given(kept if kept or not fields else MISSING)
    return enclosed([property_of(*field) for field in fields.items()], "{", "}", scope)


def list_of(items: Sequence[Column], scope: Scope) -> Column:
    """A list of these columns, without those that are missing."""
    if all(item.known is not UNKNOWN for item in items):
        kept = [item.known for item in items if item.known is not MISSING]
        return given(kept if kept or not items else MISSING)
    return enclosed(items, "[", "]", scope)


def property_of(name: Any, value: Column) -> Column:
    """A name and its value, as they stand in an object; NULL where the value is missing."""
    if not isinstance(name, str):
        raise Unplannable
    start = f"{json_text(name)}:"
    if value.known is MISSING:
        return value
    if value.known is not UNKNOWN:
        return Column(literal(start + json_text(value.known)), certain=True)
    found = derived(f"{literal(start)} || {value.sql}", value, certain=value.certain)
    frame = _frame_of(value)
    return replace(found, frame=frame and replace(frame, start=start + frame.start))


def is_name(sql: str) -> bool:
    """Whether the SQL only names something, so that to repeat it costs nothing."""
    return _NAME.fullmatch(sql) is not None


def within(count: int, most: int = MAX_PARTS) -> None:
    """Unplannable beyond so many as can be planned in little time."""
    if count > most:
        raise Unplannable


def joined(parts: Sequence[str], delimiter: str = "','") -> str:
    """SQL for the parts that are not NULL, joined; "" where there are none."""
    within(len(parts))
    return f"concat_ws({', '.join((delimiter, *parts))})"


def listed(parts: Sequence[Column]) -> str:
    """SQL for the parts that are there, with commas between; "" where there are none."""
    within(len(parts))
    parts = [part for part in parts if part.known is not MISSING]
    surely = next((i for i, part in enumerate(parts) if _is_there(part)), None)
    if surely is None:
        pieces = [piece for part in parts for piece in _pieces(part, before=",")]
        return f"ltrim(concat({', '.join(pieces)}), ',')" if pieces else "''"
    # Of what is before the first part that is surely there, each brings the comma after it.
    pieces = [piece for part in parts[:surely] for piece in _pieces(part, after=",")]
    pieces += _pieces(parts[surely])
    pieces += [piece for part in parts[surely + 1 :] for piece in _pieces(part, before=",")]
    return f"concat({', '.join(pieces)})"


def wrapped(column: Column, start: str, end: str, scope: Scope) -> Column:
    """A text between two others; NULL where it is blank."""
    if column.certain:
        sql = f"concat('{start}', {column.sql}, '{end}')"
        found = derived(sql, column, certain=True)
        return replace(found, frame=Frame(start, column.sql, end))
    # DuckDB may compute what is named twice here two times, but a name it looks up.
    column = scope.again(column)
    if not is_name(column.sql):
        return derived(f"'{start}' || nullif({column.sql}, '') || '{end}'", column)
    there = f"{column.sql} <> ''"
    sql = f"CASE WHEN {there} THEN concat('{start}', {column.sql}, '{end}') END"
    return replace(derived(sql, column), frame=Frame(start, column.sql, end, there))


def enclosed(parts: Sequence[Column], start: str, end: str, scope: Scope) -> Column:
    """The parts that are there, with commas between, and two texts around; NULL for none."""
    inside = derived(listed(parts), *parts, certain=any(map(_is_there, parts)))
    return wrapped(inside, start, end, scope)


def _is_there(part: Column) -> bool:
    return part.certain or part.known not in (UNKNOWN, MISSING)


def _frame_of(value: Column) -> Frame | None:
    if value.frame or value.known is not UNKNOWN:
        return value.frame
    if value.certain:
        return Frame("", value.sql)
    there = f"{value.sql} IS NOT NULL"
    return Frame("", value.sql, there=there) if is_name(value.sql) else None


def _pieces(part: Column, before: str = "", after: str = "") -> list[str]:
    """Texts that give the part between two others, all of them blank where it is missing."""
    if (frame := _frame_of(part)) is None:
        parts = (f"'{before}'" if before else "", part.sql, f"'{after}'" if after else "")
        return [" || ".join(filter(None, parts))]
    start, end = before + frame.start, frame.end + after
    first, last = ([literal(text)] if text else [] for text in (start, end))
    if frame.there:
        first = [f"CASE WHEN {frame.there} THEN {text} END" for text in first]
        last = [f"CASE WHEN {frame.there} THEN {text} END" for text in last]
    return [*first, frame.body, *last]


def derived(
    sql: str, *columns: Column, slow: Iterable[str] = (), test: str = "", certain: bool = False
) -> Column:
    """A column made of others: slow where any of them is."""
    conditions = dict.fromkeys(c for column in columns for c in column.slow)
    conditions.update(dict.fromkeys(slow))
    level = max((column.level for column in columns), default=0)
    return Column(sql, level, tuple(conditions), test=test, certain=certain or bool(test))


def literal(text: str) -> str:
    """A text as an SQL literal."""
    if "\0" in text:
        raise Unplannable
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unplannable from None
    return "'" + text.replace("'", "''") + "'"


def json_text(value: Value) -> str:
    """The canonical JSON text of a value that has one which DuckDB would write alike."""
    for scalar in _scalars(value):
        if isinstance(scalar, float) and not (scalar == 0 or 1e-4 <= abs(scalar) < 1e15):
            raise Unplannable
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):
        raise Unplannable from None


def js_text(value: Column, form: str = "js_text") -> Column:
    """A column as JavaScript's text, escaped; NULL where absent, or blank with `shown`."""
    if value.known is UNKNOWN:
        slow = (f"unspeakable({value.sql})",)
        return derived(f"{form}({value.sql})", value, slow=slow)
    text = "" if is_absent(value.known) else to_string(value.known)
    return Column(literal(escaped(text)), certain=True) if text else Column("NULL")


def escaped(text: str) -> str:
    """A text as it stands between the quotes of JSON."""
    return json_text(text)[1:-1]


def truth(value: Column) -> str:
    """SQL for whether a column is truthy."""
    if value.known is not UNKNOWN:
        return "true" if truthy(value.known) else "false"
    return value.test or f"truthy({value.sql})"


def exact(number: float) -> str:
    """A number as an SQL literal that equals it."""
    if not -(2**53) <= number <= 2**53:  # NaN is in no order
        raise Unplannable
    return f"{float(number)!r}::DOUBLE"


def _scalars(value: Value) -> Iterable[Value]:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Unplannable
        for item in value.values():
            yield from _scalars(item)
    elif is_array(value):
        for item in value:
            yield from _scalars(item)
    else:
        yield value
