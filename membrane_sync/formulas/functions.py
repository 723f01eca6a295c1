"""The operators, one small function each; to add one, write it and put its name above it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from membrane_sync.formulas.copies import Copy
from membrane_sync.formulas.dates import instant
from membrane_sync.formulas.evaluator import (
    OPERATORS,
    Call,
    formula,
    lazy_formula,
    operator_of,
)
from membrane_sync.formulas.filters import COMPARISONS, matches
from membrane_sync.formulas.javascript import deep_equal, loose_equal, to_string, truthy
from membrane_sync.formulas.locators import read, steps_of
from membrane_sync.formulas.names import split_name
from membrane_sync.formulas.values import MISSING, Value, is_absent, is_array

ITEM: Final = 50
"""What an item spends of what an evaluation may make."""


@lazy_formula("$var")
def var(call: Call) -> Value:
    """The scope's value at a locator; null where that is not a locator."""
    steps = steps_of(call.args)
    return None if steps is None else read(call.scope, steps)


@lazy_formula("$copy")
def copy(call: Call) -> Value:
    """Another field of the result, filled in when the result is whole."""
    return Copy(call.build(call.args, call.scope, call.at()))


@lazy_formula("$plain")
def plain(call: Call) -> Value:
    """The argument as it is written, formulas and all."""
    return call.args


@lazy_formula("$record")
def record(call: Call) -> Value:
    """The id of a record that was picked in a user interface."""
    return call.option("id")


@lazy_formula("$tpl")
def tpl(call: Call) -> Value:
    """The template text with each `{name}` replaced by its value; absent values are blank."""
    text = call.option("template")
    if not isinstance(text, str):
        return text
    for name, part in _named(call.option("values")):
        value = call.build(part, call.scope, call.at("values", name))
        written, wanted = "" if is_absent(value) else to_string(value), f"{{{name}}}"
        call.spend(len(text) + text.count(wanted) * len(written))
        text = text.replace(wanted, written)
    return text


@lazy_formula("$concat")
def concat(call: Call) -> Value:
    """The values as one text, without the blank ones; MISSING where none is left."""
    written = is_array(call.args)
    values = call.args if written else call.option("values")
    values = call.build(values, call.scope, call.at() if written else call.at("values"))
    texts = [text for value in _present(values) if (text := to_string(value))]
    delimiter = _delimiter(call)
    call.spend(sum(map(len, texts)) + len(delimiter) * len(texts))
    return delimiter.join(texts) if texts else MISSING


@lazy_formula("$map")
def map_value(call: Call) -> Value:
    """The `to` of the first pair whose `from` equals the value, else the default."""
    value = call.build(call.option("value"), call.scope, call.at("value"))
    pairs = call.option("mapping")
    for i, pair in enumerate(pairs if is_array(pairs) else ()):
        if not isinstance(pair, dict):
            raise call.error(pair, "has a mapping that is not a {from, to} pair")
        source = call.build(pair.get("from", MISSING), call.scope, call.at("mapping", i, "from"))
        if deep_equal(value, source) or loose_equal(value, source):
            return call.build(pair.get("to", MISSING), call.scope, call.at("mapping", i, "to"))
    return call.build(call.option("default"), call.scope, call.at("default"))


@lazy_formula("$case")
def case(call: Call) -> Value:
    """The value of the first case whose filter matches, else the default."""
    within = () if is_array(call.args) else ("cases",)
    cases = call.option("cases") if within else call.args
    for i, item in enumerate(cases if is_array(cases) else ()):
        if isinstance(item, dict) and _applies(call, item, *within, i):
            value = item.get("value", MISSING)
            return call.build(value, call.scope, call.at(*within, i, "value"))
    if not is_array(cases):
        return MISSING
    value = call.build(call.option("default"), call.scope, call.at("default"))
    return MISSING if value is None else value


@lazy_formula("$eval")
def evaluate_comparison(call: Call) -> Value:
    """Whether the comparison that the key beside it names holds; true where there is none."""
    value = call.build(call.args, call.scope, call.at())
    name = next(iter([*call.formula][1:]), None)
    compare = COMPARISONS.get(str(name))
    if name is None or compare is None:
        return True
    return compare(value, call.build(call.formula[name], call.scope, call.where.inside(name)))


@formula("$and")
def and_(values: Value) -> Value:
    """Whether all values hold, absent ones apart; MISSING where all are absent."""
    present = _present(values)
    return all(map(truthy, present)) if present else MISSING


@formula("$or")
def or_(values: Value) -> Value:
    """Whether any value holds; MISSING where all are absent."""
    present = _present(values)
    return any(map(truthy, present)) if present else MISSING


@formula("$firstNotEmpty")
def first_not_empty(values: Value) -> Value:
    """The first value that is there; "" is."""
    return next(iter(_present(values)), MISSING)


@formula("$mergeObjects")
def merge_objects(values: Value) -> Value:
    """One object with the properties of all, later ones winning; MISSING where it is empty."""
    merged: dict[str, Value] = {}
    for value in _present(values):
        if isinstance(value, (dict, list, tuple)):
            merged.update(_named(value))
    return merged or MISSING


@lazy_formula("$iterate")
def iterate(call: Call) -> Value:
    """The item formula for each item of the source, without the results that are falsy."""
    source = call.build(call.option("source"), call.scope, call.at("source"))
    where, results = call.at("item"), []
    for index, item in enumerate(source if is_array(source) else ()):
        call.spend(ITEM)
        scope = {"item": item, "parent": call.scope, "index": index}
        value = call.build(call.option("item"), scope, where)
        if truthy(value):
            results.append(value)
    return results or MISSING


@formula("$firstName")
def first_name(value: Value) -> Value:
    """A person's first name; MISSING where the name is one word."""
    name = split_name("" if is_absent(value) else to_string(value))
    return name.first if name.first and name.last else MISSING


@formula("$lastName")
def last_name(value: Value) -> Value:
    """A person's last name, which a name of one word is."""
    name = split_name("" if is_absent(value) else to_string(value))
    return name.last or name.first or MISSING


@formula("$domainFromEmail")
def domain_from_email(value: Value) -> Value:
    """What stands after the only @; MISSING for anything else."""
    parts = value.split("@") if isinstance(value, str) else []
    return parts[1] if len(parts) == 2 else MISSING


@formula("$extractDate")
def extract_date(value: Value) -> Value:
    """The day in UTC, `2024-05-07`."""
    moment = _moment(value)
    return MISSING if moment is None else moment.date().isoformat()


@formula("$extractTime")
def extract_time(value: Value) -> Value:
    """The time of day in UTC, `04:00:00`."""
    moment = _moment(value)
    return MISSING if moment is None else moment.time().isoformat("seconds")


@lazy_formula("$formula")
def deferred(call: Call) -> Value:
    """The formula itself, to be evaluated later, with the values of its variables filled in."""
    if isinstance(call.args, dict) and operator_of(call.args) is OPERATORS["$var"]:
        return dict(call.args)
    return _filled(call, call.args, "$formula")


def _delimiter(call: Call) -> str:
    delimiter = call.option("delimiter")
    if is_absent(delimiter):
        return ""
    return to_string(call.build(delimiter, call.scope, call.at("delimiter")))


def _applies(call: Call, item: dict[str, Value], *steps: str | int) -> bool:
    condition: Value = item.get("filter")
    if is_array(condition):
        try:
            return matches(condition, call.scope)
        except ValueError as error:
            raise call.error(condition, str(error)) from None
    if not truthy(condition):
        return True
    value = call.build(condition, call.scope, call.at(*steps, "filter"))
    return is_absent(value) or truthy(value)


def _present(values: Value) -> list[Value]:
    return [value for value in values if not is_absent(value)] if is_array(values) else []


def _named(values: Value) -> list[tuple[str, Value]]:
    """The entries of an object, or those of an array by number."""
    if isinstance(values, dict):
        return [(str(name), value) for name, value in values.items()]
    return [(str(i), value) for i, value in enumerate(values)] if is_array(values) else []


def _moment(value: Value) -> datetime | None:
    text = "" if is_absent(value) else to_string(value).strip()
    moment = instant(text)
    if text and moment is None:
        raise ValueError("can't read this as a date; give one such as 2024-05-07T04:00:00Z")
    return moment


def _filled(call: Call, node: Value, *steps: str | int) -> Value:
    """A copy of the node in which every `$var` that is not an item's is its value."""
    if is_array(node):
        items = [_filled(call, item, *steps, i) for i, item in enumerate(node)]
        return [item for item in items if item is not MISSING]
    if not isinstance(node, dict):
        return node
    operator = operator_of(node)
    if operator is None:
        fields = {key: _filled(call, item, *steps, key) for key, item in node.items()}
        return {key: item for key, item in fields.items() if item is not MISSING}
    if operator.name == "$var":
        return call.build(node, call.scope, call.where.inside(*steps))
    return _with(node, operator.name, _filled_args(call, operator.name, node, *steps))


def _filled_args(call: Call, name: str, node: dict[str, Value], *steps: str | int) -> Value:
    args, place = node[name], (*steps, name)
    if name == "$iterate" and isinstance(args, dict):  # its item has a scope of its own
        if "source" not in args:
            return args
        return _with(args, "source", _filled(call, args["source"], *place, "source"))
    return _filled(call, args, *place)


def _with(node: dict[str, Value], name: str, value: Value) -> dict[str, Value]:
    """A copy with this value, or without the name where the value is missing."""
    return {
        k: value if k == name else v for k, v in node.items() if k != name or value is not MISSING
    }
