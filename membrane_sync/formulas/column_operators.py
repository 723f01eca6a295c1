"""The operators that have a column: each is SQL over the columns of its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from membrane_sync.formulas.column_filters import comparison, equality
from membrane_sync.formulas.columns import (
    UNKNOWN,
    Column,
    Formula,
    Unplannable,
    column,
    derived,
    escaped,
    given,
    is_name,
    joined,
    js_text,
    literal,
    truth,
    within,
    wrapped,
)
from membrane_sync.formulas.evaluator import operator_of
from membrane_sync.formulas.filters import COMPARISONS
from membrane_sync.formulas.javascript import to_string, truthy
from membrane_sync.formulas.locators import steps_of
from membrane_sync.formulas.sheet import MAX_ITEM_DEPTH, Item
from membrane_sync.formulas.values import MISSING, Value, is_absent, is_array

MAX_AROUND: Final = 10_000_000
"""Characters of a list, times those that its items read of what is around them."""

MAX_TEMPLATE: Final = 2_000
"""Characters that may be written for each item."""

_UNSURE: Final = r"\u0001"
"""In place of what an item has no exact SQL for: valid in JSON, and in no row that DuckDB reads."""


@column("$var")
def var(formula: Formula) -> Column:
    """What stands at a locator."""
    steps = steps_of(formula.args)
    return given(None) if steps is None else formula.scope.read(steps)


@column("$plain")
def plain(formula: Formula) -> Column:
    """The argument as it is written."""
    return given(formula.args)


@column("$record")
def record(formula: Formula) -> Column:
    """The id of a record that was picked."""
    return given(formula.option("id"))


@column("$concat")
def concat(formula: Formula) -> Column:
    """The texts that are not blank, joined."""
    values = formula.args if is_array(formula.args) else formula.option("values")
    delimiter = literal(_delimiter(formula))
    if not is_array(values):
        return _concat_items(formula, values, delimiter)
    texts = [js_text(formula.bound(value), "shown") for value in values]
    if not texts:
        return given(MISSING)
    certain = any(text.certain for text in texts)
    sql = joined([text.sql for text in texts], delimiter)
    return wrapped(derived(sql, *texts, certain=certain), '"', '"', formula.scope)


@column("$tpl")
def tpl(formula: Formula) -> Column:
    """The template with its names replaced one after the other, as the scalar operator does."""
    template, values = formula.option("template"), formula.option("values")
    if not isinstance(template, str):
        return given(template)
    named = [*values.items()] if isinstance(values, dict) else None
    if named is None:
        named = [*enumerate(values)] if is_array(values) else []
    sql, texts, naming = literal(escaped(template)), [], []
    for number, (name, value) in enumerate(named, 1):
        column = formula.bound(value)
        text = js_text(column)
        texts.append(text)
        sql = f"replace({sql}, {literal(f'{{{escaped(str(name))}}}')}, coalesce({text.sql}, ''))"
        if number < len(named):
            naming += _naming(column, text)
    if naming:
        sql = f"CASE WHEN {' OR '.join(naming)} THEN '' ELSE {sql} END"
    found = derived(sql, *texts, slow=naming, certain=True)
    return wrapped(found, '"', '"', formula.scope)


def _naming(value: Column, text: Column) -> list[str]:
    """Where a value may bring along a name that is replaced after it, which can go on and on."""
    if value.known is UNKNOWN:
        return [f"coalesce(contains({text.sql}, '{{'), false)"]
    if "{" in text.sql:
        raise Unplannable
    return []


@column("$map")
def map_value(formula: Formula) -> Column:
    """The `to` of the first pair that fits."""
    value, pairs = formula.bound(formula.option("value")), formula.option("mapping")
    cases: list[tuple[Column, Column]] = []
    for pair in pairs if is_array(pairs) else ():
        if not isinstance(pair, dict):
            raise Unplannable
        source = formula.build(pair.get("from", MISSING)).known
        test = equality(value, source, formula.scope)
        cases.append((test, formula.again(pair.get("to", MISSING))))
    default = formula.again(formula.option("default"))
    return _choice(formula, cases, default.sql, value, default)


@column("$case")
def case(formula: Formula) -> Column:
    """The value of the first case that applies."""
    listed = is_array(formula.args)
    cases = formula.args if listed else formula.option("cases")
    if not is_array(cases):
        return given(MISSING)
    chosen = [
        (_filter(formula, item.get("filter")), formula.again(item.get("value", MISSING)))
        for item in cases
        if isinstance(item, dict)
    ]
    default = formula.again(MISSING if listed else formula.option("default"))
    return _choice(formula, chosen, f"nullif({default.sql}, 'null')", default)


@column("$eval")
def evaluate_comparison(formula: Formula) -> Column:
    """Whether the comparison holds."""
    value = formula.bound(formula.args)
    name = next(iter([*formula.node][1:]), None)
    if name is None or str(name) not in COMPARISONS:
        return derived("'true'", value, test="true")
    operand = formula.build(formula.node[name])
    test = comparison(str(name), value, operand, formula.scope)
    sql = f"CASE WHEN {test.sql} THEN 'true' ELSE 'false' END"
    return derived(sql, test, operand, test=test.sql)


@column("$and")
def and_(formula: Formula) -> Column:
    """Whether all present values hold."""
    return _joined(formula, " AND ", "absent({0}) OR {1}")


@column("$or")
def or_(formula: Formula) -> Column:
    """Whether any present value holds."""
    return _joined(formula, " OR ", "{1}")


@column("$firstNotEmpty")
def first_not_empty(formula: Formula) -> Column:
    """The first value that is there."""
    items = formula.items()
    values = ", ".join(f"nullif({item.sql}, 'null')" for item in items)
    if not items:
        return given(MISSING)
    return formula.scope.again(derived(f"coalesce({values})", *items))


@column("$iterate")
def iterate(formula: Formula) -> Column:
    """The item formula in a lambda over the items of the source."""
    source = _unread(_source(formula))
    if source.known is not UNKNOWN and not is_array(source.known):
        return given(MISSING)
    name = f"e{formula.depth}"
    deepest = min(formula.scope.deepest, formula.depth + MAX_ITEM_DEPTH)
    scope = Item(formula.scope, name, deepest)
    node = formula.option("item")
    item = formula.build(node, scope)
    within(len(str(node)), MAX_TEMPLATE)
    source = _bounded(source, scope)
    rows = formula.scope.again(derived(scope.rows(source.sql), source))
    odd = scope.odd()
    doubts, slow = item.slow, ""
    if odd and is_name(rows.sql):  # then they are looked at all at once, which takes less
        doubts = tuple(doubt for doubt in doubts if doubt not in odd)
        slow = f"len(list_filter({rows.sql}, lambda o: {' OR '.join(odd.values())})) > 0"
    value = item.sql
    if doubts:
        value = f"""CASE WHEN {" OR ".join(doubts)} THEN '"{_UNSURE}"' ELSE {value} END"""
    values = f"list_transform({rows.sql}, lambda {name}, {name}_i: {value})"
    if not _is_plain(node):
        values = f"list_filter({values}, lambda {name}_v: truthy({name}_v))"
    joined_up = derived(f"array_to_string({values}, ',')", rows, Column("", item.level))
    found = _sure(formula.scope.again(joined_up))
    found = derived(found.sql, found, slow=[f"coalesce({slow}, false)"] if slow else [])
    return wrapped(found, "[", "]", formula.scope)


@column("$domainFromEmail")
def domain_from_email(formula: Formula) -> Column:
    """What stands after the only @."""
    value = formula.bound(formula.args)
    x = value.sql
    only = f"is_text({x}) AND length({x}) - length(replace({x}, '@', '')) = 1"
    return derived(f"""CASE WHEN {only} THEN '"' || split_part({x}, '@', 2) END""", value)


@column("$extractDate")
def extract_date(formula: Formula) -> Column:
    """The day in UTC."""
    return _of_moment(formula, "%Y-%m-%d", "2, 10")


@column("$extractTime")
def extract_time(formula: Formula) -> Column:
    """The time of day in UTC."""
    return _of_moment(formula, "%H:%M:%S", "13, 8")


def _of_moment(formula: Formula, form: str, place: str) -> Column:
    """A part of a moment, by its form and by its place in the text of a time in UTC."""
    value = formula.bound(formula.args)
    x = value.sql
    sql = f"""CASE WHEN is_utc({x}) THEN substr({x}, {place})
        ELSE strftime(instant({x}), '{form}') END"""
    part = formula.scope.again(derived(sql, value))
    unread = f"""({part.sql} IS NULL AND NOT absent({x}) AND {x} <> '""')"""
    return wrapped(derived(part.sql, part, slow=[unread]), '"', '"', formula.scope)


def _source(formula: Formula) -> Column:
    """The list; Unplannable where it would be another one of all around, for each item anew."""
    scope = formula.scope
    if not isinstance(scope, Item):
        return formula.bound(formula.option("source"))
    around, scope.around = scope.around, {}
    source = formula.bound(formula.option("source"))
    if scope.around:
        raise Unplannable
    scope.around = around
    return source


def _bounded(source: Column, scope: Item) -> Column:
    """The list; missing, and slow, where each item may take too much of what is around it."""
    sizes = [f"coalesce(strlen({around.sql}), 0)" for around in scope.around.values()]
    if not sizes or source.known is not UNKNOWN:
        return source
    large = f"coalesce(strlen({source.sql}) * ({' + '.join(sizes)}) > {MAX_AROUND}, false)"
    return derived(f"CASE WHEN NOT {large} THEN {source.sql} END", source, slow=[large])


def _unread(source: Column) -> Column:
    """A list of which only the items are read: it isn't odd if none of them is."""
    return replace(source, slow=tuple(s for s in source.slow if s != f"odd({source.sql})"))


def _is_plain(node: Value) -> bool:
    """Whether it's written as an object or a list: truthy, if it is there."""
    return is_array(node) or (isinstance(node, dict) and operator_of(node) is None)


def _concat_items(formula: Formula, values: Value, delimiter: str) -> Column:
    """The join of a list that is itself a formula."""
    source = formula.bound(values)
    if source.known is not UNKNOWN or len(delimiter) > MAX_TEMPLATE:
        raise Unplannable
    name = f"e{formula.depth}"
    text = f"CASE WHEN unspeakable({name}) THEN '{_UNSURE}' ELSE js_text({name}) END"
    texts = f"list_transform(items({source.sql}), lambda {name}: {text})"
    kept = f"list_filter({texts}, lambda {name}_v: coalesce({name}_v <> '', false))"
    found = formula.scope.again(derived(f"array_to_string({kept}, {delimiter})", source))
    return wrapped(_sure(found), '"', '"', formula.scope)


def _sure(found: Column) -> Column:
    """A text that has come of items, slow where one of them is."""
    slow = f"coalesce(contains({found.sql}, '{_UNSURE}'), false)"
    return derived(found.sql, found, slow=[slow])


def _delimiter(formula: Formula) -> str:
    delimiter = formula.option("delimiter")
    if is_absent(delimiter):
        return ""
    known = formula.build(delimiter).known
    if known is UNKNOWN:
        raise Unplannable
    return escaped(to_string(known))


def _filter(formula: Formula, node: Value) -> Column:
    """Whether a case applies."""
    if is_array(node):
        raise Unplannable
    value = formula.again(node if truthy(node) else True)
    if value.known is not UNKNOWN:
        return Column("true" if is_absent(value.known) or truthy(value.known) else "false")
    return derived(value.test or f"(absent({value.sql}) OR truthy({value.sql}))", value)


def _choice(
    formula: Formula, cases: Sequence[tuple[Column, Column]], other: str, *columns: Column
) -> Column:
    """The value of the first test that holds, else the other; made of all these columns."""
    within(len(cases))
    whens = " ".join(f"WHEN {test.sql} THEN {value.sql}" for test, value in cases)
    sql = f"CASE {whens} ELSE {other} END" if whens else other
    found = derived(sql, *columns, *(column for case in cases for column in case))
    return formula.scope.again(found)


def _joined(formula: Formula, word: str, form: str) -> Column:
    items = formula.items()
    if not items:
        return given(MISSING)
    tests = word.join(f"({form.format(item.sql, truth(item))})" for item in items)
    none = " AND ".join(f"absent({item.sql})" for item in items)
    sql = f"CASE WHEN {none} THEN NULL WHEN {tests} THEN 'true' ELSE 'false' END"
    return derived(sql, *items)
