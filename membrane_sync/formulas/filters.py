"""Comparisons: those of `$eval`, and the older filters that `$case` still accepts as a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import ge, gt, le, lt
from typing import Final, TypeAlias

from membrane_sync.formulas.dates import iso_instant
from membrane_sync.formulas.javascript import (
    includes,
    is_nan,
    loose_equal,
    parse_float,
    to_string,
    truthy,
)
from membrane_sync.formulas.locators import parse, property_of
from membrane_sync.formulas.values import MISSING, Step, Value, is_absent, is_array

Comparison: TypeAlias = Callable[[Value, Value], bool]


def matches(conditions: Iterable[Value], scope: Value) -> bool:
    """True where every condition `{field, operator, value}` holds for the scope.

    A field that leads through an array holds where any of its items does; a condition with an
    unknown operator is passed over. ValueError says which condition has no readable field.
    """
    return all(_holds(condition, scope) for condition in conditions)


def is_empty(value: Value) -> bool:
    """True for nothing, null, "", [] and {}; 0 and false are values."""
    if is_array(value) or isinstance(value, dict):
        return len(value) == 0
    return is_absent(value) or (isinstance(value, str) and value == "")


def _holds(condition: Value, scope: Value) -> bool:
    if is_absent(condition):
        raise ValueError("has a condition that is null")
    if not isinstance(condition, dict):
        return True
    compare = FILTERS.get(to_string(condition.get("operator", MISSING)))
    if compare is None:
        return True
    values = _field_values(scope, _field_steps(condition.get("field", MISSING)))
    operand = condition.get("value", MISSING)
    return any(compare(value, operand) for value in values or [MISSING])


def _field_steps(field: Value) -> tuple[Step, ...]:
    if isinstance(field, str):
        return parse(field) if field else ("",)
    raise ValueError("has a condition whose field is not a locator")


def _field_values(value: Value, steps: Sequence[Step]) -> list[Value]:
    """The values of a field, one for each item where the way leads through arrays."""
    for i, step in enumerate(steps):
        if isinstance(step, int):
            value = value[step] if is_array(value) and step < len(value) else MISSING
        elif is_array(value):
            return [found for item in value for found in _field_values(item, steps[i:])]
        else:
            value = _property(value, step)
    return [] if is_absent(value) else [value]


def _property(value: Value, name: str) -> Value:
    return len(value) if isinstance(value, str) and name == "length" else property_of(value, name)


def _ordered(order: Callable[[Value, Value], bool]) -> Comparison:
    """Compare two dates as dates, anything else as the numbers it starts with."""

    def compare(value: Value, operand: Value) -> bool:
        dates = _date(value), _date(operand)
        if None not in dates:
            return order(*dates)
        return order(parse_float(value), parse_float(operand))  # NaN is in no order

    return compare


def _date(value: Value) -> Value:
    return iso_instant(value) if isinstance(value, str) else None


def _is(value: Value, operand: Value) -> bool:
    return loose_equal(value, operand)


def _contains(value: Value, operand: Value) -> bool:
    if is_array(value):
        return includes(value, operand)
    wanted = "undefined" if is_absent(operand) else to_string(operand)
    return truthy(value) and wanted.lower() in to_string(value).lower()


def _text_contains(value: Value, operand: Value) -> bool:
    return truthy(value) and to_string(operand) in to_string(value)


def _text_lacks(value: Value, operand: Value) -> bool:
    return truthy(value) and to_string(operand) not in to_string(value)


def _one_of(value: Value, operand: Value) -> bool:
    return includes(operand, value)


def _array_includes(value: Value, operand: Value) -> bool:
    # indexOf, unlike includes, never finds NaN
    return not is_nan(operand) and includes(value, operand)


def _empty(value: Value, _: Value) -> bool:
    return is_empty(value)


def _not(compare: Comparison) -> Comparison:
    return lambda value, operand: not compare(value, operand)


_ORDERS: Final = {"lt": lt, "lte": le, "gt": gt, "gte": ge}

COMPARISONS: Final[dict[str, Comparison]] = {
    "is": _is,
    "isNot": _not(_is),
    "oneOf": _one_of,
    "noneOf": _not(_one_of),
    "contains": _contains,
    "doesNotContain": _not(_contains),
    **{name: _ordered(order) for name, order in _ORDERS.items()},
    "isEmpty": _empty,
    "isNotEmpty": _not(_empty),
}
"""The comparisons of `$eval`, by the key beside it."""

FILTERS: Final[dict[str, Comparison]] = {
    "is": _is,
    "is_not": _not(_is),
    "is_one_of": _one_of,
    "is_not_one_of": _not(_one_of),
    "is_true": lambda value, _: truthy(value),
    "is_false": lambda value, _: value is False,
    "contains": _text_contains,
    "does_not_contain": _text_lacks,
    "array_includes": _array_includes,
    "array_does_not_include": _not(_array_includes),
    "less_than": COMPARISONS["lt"],
    "less_than_or_equal": COMPARISONS["lte"],
    "more_than": COMPARISONS["gt"],
    "more_than_or_equal": COMPARISONS["gte"],
    "is_empty": _empty,
    "is_not_empty": _not(_empty),
}
"""The operators of a filter written as a list of conditions."""
