"""JavaScript's conversions and comparisons, which Membrane's formulas inherited."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

from membrane_sync.formulas.values import (
    MAX_SIZE,
    MISSING,
    TooMuch,
    Value,
    is_absent,
    is_array,
    size_of,
)

WHITESPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript's `trim` and `\\s` take for blank: not quite what Python does."""

_EXPONENT_FROM: Final = 21
_DECIMAL = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_WHOLE = re.compile(r"[+-]?[0-9]{1,300}")
_BASED = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")


def is_number(value: Value) -> bool:
    """True for an int or a float; a boolean is not a number here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_nan(value: Value) -> bool:
    """True for the number that is none."""
    return isinstance(value, float) and math.isnan(value)


def truthy(value: Value) -> bool:
    """True where `if (value)` would be: an empty list and an empty object count as true."""
    if is_array(value) or isinstance(value, dict):
        return True
    return bool(value) and not is_nan(value)


def to_string(value: Value) -> str:
    """What `String(value)` gives: `1.0` is "1", a list is joined by commas."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if value is MISSING:
        return "undefined"
    if is_number(value):
        return _number_text(value)
    if is_array(value):
        if size_of(value) > MAX_SIZE:
            raise TooMuch
        return ",".join("" if is_absent(item) else to_string(item) for item in value)
    return "[object Object]" if isinstance(value, dict) else str(value)


def to_number(value: Value) -> float:
    """What `Number(value)` gives: blank text is 0, unreadable text is NaN."""
    if isinstance(value, bool) or value is None:
        return int(value or 0)
    if is_number(value):
        return value  # type: ignore[no-any-return]
    if value is MISSING:
        return math.nan
    return _text_number(to_string(value).strip(WHITESPACE))


def parse_float(value: Value) -> float:
    """What `parseFloat(value)` gives: the number that the text starts with, or NaN."""
    if is_number(value):
        return value  # type: ignore[no-any-return]
    found = _DECIMAL.match(to_string(value).strip(WHITESPACE))
    return _written(found[0]) if found else math.nan


def strict_equal(one: Value, other: Value) -> bool:
    """What `===` gives, save that NaN equals itself: lists and objects equal only themselves."""
    if one is other:
        return True
    if is_number(one) and is_number(other):
        return bool(one == other) or (is_nan(one) and is_nan(other))
    return type(one) is type(other) and _is_scalar(one) and bool(one == other)


def loose_equal(one: Value, other: Value) -> bool:
    """What `==` gives: 1 equals "1" and true, null equals MISSING and nothing else."""
    if is_absent(one) or is_absent(other):
        return is_absent(one) and is_absent(other)
    if not _is_scalar(one) and not _is_scalar(other):
        return one is other
    one, other = _primitive(one), _primitive(other)
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    return to_number(one) == to_number(other)


def deep_equal(one: Value, other: Value) -> bool:
    """True where both have the same shape and the same values, without conversion."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(deep_equal(one[key], other[key]) for key in one)
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(deep_equal, one, other))
    return strict_equal(one, other)


def includes(values: Value, wanted: Value) -> bool:
    """What `values.includes(wanted)` gives for an array; false where values is none."""
    return is_array(values) and any(strict_equal(item, wanted) for item in values)


def _is_scalar(value: Value) -> bool:
    return not is_array(value) and not isinstance(value, dict)


def _primitive(value: Value) -> Value:
    return value if isinstance(value, bool) or is_number(value) else to_string(value)


def _text_number(text: str) -> float:
    if text == "":
        return 0
    if _BASED.fullmatch(text):
        return int(text, 0)
    return _written(text) if _DECIMAL.fullmatch(text) else math.nan


def _written(text: str) -> float:
    """The number of a decimal text; a whole one with all its digits, as of a long record id."""
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _number_text(number: float) -> str:
    if isinstance(number, int) and abs(number) < 10**_EXPONENT_FROM:
        return str(number)  # exact, also past 2**53, so that long record ids survive
    try:
        number = float(number)
    except OverflowError:
        number = math.inf if number > 0 else -math.inf
    if math.isnan(number):
        return "NaN"
    sign = "-" if number < 0 else ""
    return sign + ("Infinity" if math.isinf(number) else _digits_text(abs(number)))


def _digits_text(number: float) -> str:
    if number == 0:
        return "0"
    digits = "".join(map(str, Decimal(repr(number)).as_tuple().digits)).rstrip("0")
    point = Decimal(repr(number)).adjusted() + 1  # digits before the decimal point
    if len(digits) <= point <= _EXPONENT_FROM:
        return digits.ljust(point, "0")
    if 0 < point <= _EXPONENT_FROM:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
