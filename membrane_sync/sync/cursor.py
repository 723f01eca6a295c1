"""Values of an incremental cursor: read from a record, compared, and moved without losing ties."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.elements.data_collection import Cursor
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.formulas import MISSING
from membrane_sync.formulas.locators import reader

AHEAD = timedelta(days=1)
"""How far a time may be ahead of our clock, or our clock of the app's, and still be believed."""

_SECONDS_PER_UNIT = {
    "day": 86_400,
    "minute": 60,
    "second": 1,
    "millisecond": 0.001,
    "microsecond": 0.000_001,
}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CursorOrder:
    """How the values of one cursor are found in records and ordered; `now` is when it's made."""

    def __init__(self, cursor: Cursor, now: datetime | None = None) -> None:
        self._cursor = cursor
        self._now = now or datetime.now(UTC)
        self._read = reader(cursor.field)

    def found(self, record: Any) -> Any:
        """What the record has as cursor value; None where it has none, or an empty text."""
        found = self._read(record)
        return None if found is MISSING or found == "" else found

    def value(self, record: Any) -> Any:
        """The value that the cursor may move to; None where it has none, or one with a fault."""
        found = self.found(record)
        return None if found is None or self._fault(found) else found

    def fault(self, record: Any) -> str:
        """Why the cursor can't move to what the record has; empty if it can, or has nothing."""
        found = self.found(record)
        return "" if found is None else self._fault(found)

    def is_old(self, value: Any) -> bool:
        """Whether it's surely a time before now, though clocks differ; never, of no time."""
        moment = self._moment(value)
        return moment is not None and moment <= self._seconds(self._now - AHEAD)

    def key(self, value: Any) -> Any:
        """What to compare values by; raises UnexpectedAnswer for a value of another type."""
        try:
            return _KEYS[self._cursor.type](value)
        except (TypeError, ValueError, OverflowError):
            raise UnexpectedAnswer(
                f"cursor {self._cursor.field} should be a {self._cursor.type}, a record has "
                f"a {type(value).__name__} that isn't one",
                hint="mend `cursor.type` in the collection's YAML",
            ) from None

    def newest(self, values: Sequence[Any]) -> Any:
        """The greatest value, None of none."""
        return max(values, key=self.key, default=None)

    def _fault(self, value: Any) -> str:
        try:
            moment = self._moment(value)
        except UnexpectedAnswer as error:
            return error.message
        if moment is not None and moment > self._seconds(self._now + AHEAD):
            return "it's more than a day ahead of now; the cursor doesn't move to it"
        return ""

    def _moment(self, value: Any) -> float | None:
        """Seconds since 1970, where the declaration makes it a time."""
        key = self.key(value)
        if self._cursor.type == "timestamp":
            return self._seconds(key)
        if self._cursor.granularity is None or self._cursor.type == "string":
            return None
        return float(key * _SECONDS_PER_UNIT[self._cursor.granularity])

    @staticmethod
    def _seconds(moment: datetime) -> float:
        return (moment - _EPOCH).total_seconds()


def asked_from(cursor: Cursor, stored: Any) -> Any:
    """The value to send for a stored one: earlier by the declared lag, in the same notation.

    For numbers, `granularity` says what one stands for; a second, if it doesn't. Raises Fatal where
    the cursor is a text, of which nothing can be subtracted.
    """
    if stored is None or not cursor.lag_seconds:
        return stored
    if cursor.type == "timestamp":
        return _earlier(str(stored), cursor.lag_seconds)
    if cursor.type == "string":
        raise Fatal(
            f"cursor {cursor.field} is a string, so that lag_seconds can't be taken from it",
            hint="take lag_seconds out, or declare the cursor as timestamp, integer or number",
        )
    lag = cursor.lag_seconds / _SECONDS_PER_UNIT[cursor.granularity or "second"]
    if cursor.type == "number":
        return float(stored) - lag
    # To nine places: 0.1 s are 100 ms, and not 101 because of how fractions are kept.
    return int(stored) - math.ceil(round(lag, 9))


def marked(cursor: Cursor, value: Any) -> Any:
    """What to store for a cursor value: it, and which declaration it's a value of."""
    return None if value is None else {"value": value, "of": _declaration(cursor)}


def value_of(stored: Any) -> Any:
    """The value that was `marked`, of whatever declaration."""
    return stored.get("value") if isinstance(stored, dict) else stored


def stored_value(cursor: Cursor, stored: Any) -> Any:
    """The value that was `marked`; None if it's of another declaration, and so says nothing."""
    same = isinstance(stored, dict) and stored.get("of") == _declaration(cursor)
    return value_of(stored) if same else None


def _declaration(cursor: Cursor) -> str:
    text = json.dumps([cursor.field, cursor.type])
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def safe_checkpoint(
    cursor: Cursor, order: CursorOrder, values: Sequence[Any], *, last: bool
) -> Any:
    """The cursor that may be committed with a page of a sorted listing, None to leave it.

    Where the app leaves out records equal to the cursor, records that share the page's greatest
    value may still follow on the next page; so the value before it is committed, unless the page
    is the last.
    """
    newest = order.newest(values)
    if last or cursor.inclusive or cursor.unique:
        return newest
    before = [value for value in values if order.key(value) < order.key(newest)]
    return order.newest(before)


def parse_time(text: str) -> datetime:
    """An ISO 8601 time, with `T` or a space; without an offset it is taken as UTC."""
    moment = datetime.fromisoformat(text.strip())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _earlier(text: str, seconds: float) -> str:
    """The time so many seconds before, written as `text` is: separator, precision and zone."""
    moment = parse_time(text) - timedelta(seconds=seconds)
    date, time = f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S}"
    written = re.fullmatch(r"[^T ]*(?:([T ])[\d:]*(?:[.,](\d+))?(Z|[+-][\d:]+)?)?", text.strip())
    separator, fraction, zone = written.groups() if written else ("T", "000000", "Z")
    if separator is None:
        return date
    if fraction:
        time += f".{moment.microsecond:06d}"[: len(fraction) + 1]
    offset = "" if zone is None else zone if zone == "Z" else moment.isoformat()[-6:]
    return f"{date}{separator}{time}{offset}"


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_KEYS: dict[str, Any] = {
    "integer": _integer,
    "number": _number,
    "timestamp": lambda value: parse_time(_string(value)),
    "string": _string,
}
