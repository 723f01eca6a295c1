"""Comparisons as SQL tests: of a column with a value that is the same for all records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from membrane_sync.formulas.columns import (
    UNKNOWN,
    Column,
    Scope,
    Unplannable,
    derived,
    escaped,
    exact,
    json_text,
    literal,
)
from membrane_sync.formulas.dates import iso_instant
from membrane_sync.formulas.javascript import is_nan, is_number, parse_float, to_number, to_string
from membrane_sync.formulas.values import Value, is_absent, is_array

_ORDERS: Final = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_NEGATED: Final = {"isNot": "is", "noneOf": "oneOf", "doesNotContain": "contains"}


def comparison(name: str, value: Column, operand: Column, scope: Scope) -> Column:
    """The test of an `$eval`: a column that is true or false."""
    x = value.sql
    if name in ("isEmpty", "isNotEmpty"):
        return derived(f"empty({x})" if name == "isEmpty" else f"NOT empty({x})", value, operand)
    if operand.known is UNKNOWN:
        raise Unplannable
    if name in _ORDERS:
        return _order(value, _ORDERS[name], operand.known, scope)
    positive = _NEGATED.get(name, name)
    test = _POSITIVE[positive](value, operand.known, scope)
    return derived(f"NOT ({test.sql})", test) if name in _NEGATED else test


def equality(value: Column, operand: Value, scope: Scope) -> Column:
    """The test of JavaScript's `==`."""
    x = value.sql
    if operand is UNKNOWN or is_array(operand) or isinstance(operand, dict):
        raise Unplannable
    if is_absent(operand):
        return derived(f"absent({x})", value)
    number, read = to_number(operand), value
    tests, slow = [], [f"is_list({x})"]
    if isinstance(operand, str):
        tests.append(f"{x} = {literal(json_text(operand))}")
        tests += [f"is_object({x})"] if operand == "[object Object]" else []
    else:
        read = scope.again(derived(f"text_number({x})", value))
        tests.append(f"{read.sql} = {exact(number)}")
        slow.append(_unread(x, read.sql))
    if not is_nan(number):
        tests.append(f"number({x}) = {exact(number)}")
        slow.append(f"big({x})")
        tests += [f"{x} = '{word}'" for word, n in (("true", 1), ("false", 0)) if number == n]
    return derived(_any(tests), value, read, slow=slow)


def _one_of(value: Column, operand: Value, _: Scope) -> Column:
    scalars = operand if is_array(operand) else ()
    scalars = [item for item in scalars if not is_array(item) and not isinstance(item, dict)]
    numbers = [exact(item) for item in scalars if is_number(item)]
    texts = [literal(json_text(item)) for item in scalars if not is_number(item)]
    x, slow = value.sql, []
    tests = [f"{x} IN ({', '.join(texts)})"] if texts else []
    if numbers:
        tests.append(f"number({x}) IN ({', '.join(numbers)})")
        slow.append(f"big({x})")
    return derived(_any(tests), value, slow=slow)


def _contains(value: Column, operand: Value, _: Scope) -> Column:
    wanted = escaped("undefined" if is_absent(operand) else to_string(operand)).lower()
    if not wanted.isascii() or "\\" in wanted:
        raise Unplannable
    x = value.sql
    test = f"(truthy({x}) AND contains(lower(js_text({x})), {literal(wanted)}))"
    unlike = f"(strlen({x}) <> length({x}) OR contains({x}, '\\'))"
    slow = [f"unspeakable({x})", f"coalesce({unlike}, false)"]
    return derived(f"coalesce({test}, false)", value, slow=slow)


def _order(value: Column, sign: str, operand: Value, scope: Scope) -> Column:
    x, number = value.sql, parse_float(operand)
    if is_nan(number):
        return derived("false", value)
    moment = iso_instant(operand) if isinstance(operand, str) else None
    form, wanted = "prefix_number", exact(number)
    if moment is not None:
        stamp = literal(moment.replace(tzinfo=None).isoformat(" "))
        form, wanted = "instant", f"TIMESTAMP {stamp}"
    read = scope.again(derived(f"{form}({x})", value))
    tests = [f"number({x}) {sign} {exact(number)}", f"{read.sql} {sign} {wanted}"]
    slow = [f"is_list({x})", f"big({x})", _unread(x, read.sql)]
    return derived(_any(tests), read, slow=slow)


def _unread(x: str, read: str) -> str:
    """Where a text isn't plainly what it was to be read as, nor plainly anything else."""
    return f"""(is_text({x}) AND {read} IS NULL AND {x} <> '""' AND NOT wordy({x}))"""


def _any(tests: list[str]) -> str:
    either = " OR ".join(f"coalesce({test}, false)" for test in tests)
    return f"({either})" if either else "false"


_POSITIVE: Final[dict[str, Callable[[Column, Value, Scope], Column]]] = {
    "is": equality,
    "oneOf": _one_of,
    "contains": _contains,
}
