"""The plain operators on texts, numbers and dates, each of which does one thing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from membrane_sync.formulas import clock
from membrane_sync.formulas.dates import instant
from membrane_sync.formulas.evaluator import formula
from membrane_sync.formulas.filters import is_empty
from membrane_sync.formulas.javascript import WHITESPACE, is_number, to_string
from membrane_sync.formulas.values import MAX_SIZE, MISSING, TooMuch, Value, is_absent, is_array

TRUE: Final = frozenset({"true", "yes", "on", "1"})
FALSE: Final = frozenset({"false", "no", "off", "0"})
UNITS: Final = {"seconds": 1_000_000, "milliseconds": 1_000}
"""What `$date` takes a number for, in microseconds."""

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def text_or_none(value: Value) -> str | None:
    """The value as text; None for an absent one, ValueError for a list or an object."""
    if is_absent(value):
        return None
    if is_array(value) or isinstance(value, dict):
        raise ValueError(f"needs a text, not {'a list' if is_array(value) else 'an object'}")
    return to_string(value)


def options_of(args: Value, *names: str) -> dict[str, Value]:
    """The arguments by name; ValueError where there are some, but without names."""
    if is_absent(args):
        return {}
    if isinstance(args, dict):
        return args
    raise ValueError(f"needs an object with {' and '.join(names)}")


def _changed(value: Value, change: Callable[[str], str]) -> Value:
    text = text_or_none(value)
    return MISSING if text is None else change(text)


@formula("$lower")
def lower(value: Value) -> Value:
    """The text in lower case."""
    return _changed(value, str.lower)


@formula("$upper")
def upper(value: Value) -> Value:
    """The text in upper case."""
    return _changed(value, str.upper)


@formula("$trim")
def trim(value: Value) -> Value:
    """The text without the blanks around it."""
    return _changed(value, lambda text: text.strip(WHITESPACE))


@formula("$split")
def split(args: Value) -> Value:
    """The parts of a text between the delimiters; none of a blank text."""
    value, delimiter = _with_delimiter(args, "value")
    text = text_or_none(value)
    if text is None:
        return MISSING
    if not delimiter:
        raise ValueError("needs a delimiter that is not blank")
    return text.split(delimiter) if text else []


@formula("$join")
def join(args: Value) -> Value:
    """The items of a list as one text, absent ones apart."""
    values, delimiter = _with_delimiter(args, "values")
    if is_absent(values):
        return MISSING
    if not is_array(values):
        raise ValueError("needs values that are a list")
    texts = [text for item in values if (text := text_or_none(item)) is not None]
    if sum(map(len, texts)) + len(delimiter) * len(texts) > MAX_SIZE:
        raise TooMuch
    return delimiter.join(texts)


@formula("$number")
def number(value: Value) -> Value:
    """The value as a number; MISSING for a blank one."""
    if is_array(value) or isinstance(value, dict):
        raise ValueError("needs a text or a number")
    if isinstance(value, bool):
        return int(value)
    found = value if is_number(value) else _read_number(value)
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError("gives a number that is too large, or none")
    return found


@formula("$boolean")
def boolean(value: Value) -> Value:
    """The value as true or false; MISSING for a blank one."""
    if isinstance(value, bool):
        return value
    text = (text_or_none(value) or "").strip(WHITESPACE).lower()
    if text in TRUE or text in FALSE:
        return text in TRUE
    if text:
        raise ValueError(f"can't read this as true or false; known are {_listed(TRUE | FALSE)}")
    return MISSING


@formula("$date")
def date(args: Value) -> Value:
    """A date or a time as ISO 8601 in UTC; a number counts from 1970."""
    named = isinstance(args, dict) and not args.keys() - {"value", "unit"}
    value = args.get("value") if named else args
    unit = args.get("unit", "milliseconds") if named else "milliseconds"
    if not isinstance(unit, str) or unit not in UNITS:
        raise ValueError(f"needs a unit that is {_listed(UNITS)}")
    moment = _moment(value, UNITS[unit])
    return MISSING if moment is None else clock.text_of(moment)


@formula("$now")
def now(_: Value) -> Value:
    """The time of the evaluation, as ISO 8601 in UTC."""
    return clock.text_of(clock.now())


@formula("$default")
def default(args: Value) -> Value:
    """The value, or the default where the value is empty."""
    options = options_of(args, "value", "default")
    value = options.get("value", MISSING)
    return options.get("default", MISSING) if is_empty(value) else value


def _with_delimiter(args: Value, name: str) -> tuple[Value, str]:
    options = options_of(args, name, "delimiter")
    return options.get(name, MISSING), text_or_none(options.get("delimiter")) or ""


def _read_number(value: Value) -> Value:
    text = "" if is_absent(value) else to_string(value).strip(WHITESPACE)
    if not text:
        return MISSING
    found = _NUMBER.fullmatch(text)
    if found is None or len(text) > 1_000:
        raise ValueError("can't read this as a number; give one such as 1234.5, without separators")
    return float(text) if any(found.groups()) else int(text)


def _moment(value: Value, unit: int) -> datetime | None:
    if is_number(value):
        try:
            return _EPOCH + timedelta(microseconds=value * unit)
        except (OverflowError, ValueError):
            raise ValueError("gives a date beyond the years 1 to 9999") from None
    if isinstance(value, bool):
        raise ValueError("needs a text or a number")
    text = (text_or_none(value) or "").strip(WHITESPACE)
    moment = instant(text)
    if text and moment is None:
        raise ValueError("can't read this as a date; give one such as 2024-05-07T04:00:00Z")
    return moment


def _listed(names: object) -> str:
    return ", ".join(sorted(names))  # type: ignore[call-overload]
