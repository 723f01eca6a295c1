"""Values of an incremental cursor: read from a record, compared, and moved without losing ties."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.elements.data_collection import Cursor
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate

_UNITS_PER_SECOND = {"second": 1, "millisecond": 1_000, "microsecond": 1_000_000}


class CursorOrder:
    """How the values of one cursor are found in records and ordered."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def value(self, record: Any) -> Any:
        """The record's cursor value; None where it has none."""
        found = evaluate({"$var": self._cursor.field}, record)
        return None if found is MISSING else found

    def key(self, value: Any) -> Any:
        """What to compare values by; raises UnexpectedAnswer for a value of another type."""
        try:
            return _KEYS[self._cursor.type](value)
        except (TypeError, ValueError):
            raise UnexpectedAnswer(
                f"cursor {self._cursor.field} should be a {self._cursor.type}, a record has "
                f"a {type(value).__name__} that isn't one",
                hint="mend `cursor.type` in the collection's YAML",
            ) from None

    def newest(self, values: Sequence[Any]) -> Any:
        """The greatest value, None of none."""
        return max(values, key=self.key, default=None)


def asked_from(cursor: Cursor, stored: Any) -> Any:
    """The value to send for a stored one: earlier by the declared lag, in the same notation."""
    if stored is None or not cursor.lag_seconds:
        return stored
    if cursor.type == "timestamp":
        return _earlier(str(stored), cursor.lag_seconds)
    units = _UNITS_PER_SECOND.get(cursor.granularity or "second", 1)
    lag = cursor.lag_seconds * units
    return int(stored) - int(lag) if cursor.type == "integer" else float(stored) - lag


def safe_checkpoint(
    cursor: Cursor, order: CursorOrder, values: Sequence[Any], *, last: bool
) -> Any:
    """The cursor that may be committed with a page of these values, None to leave it.

    Only a listing sorted by the cursor can be checkpointed before its end. Where the app leaves out
    records equal to the cursor, records that share the page's greatest value may still follow on
    the next page; so the value before it is committed, unless the page is the last.
    """
    if not values or (cursor.sorted != "ascending" and not last):
        return None
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
    digits = len(text.split(".", 1)[1].rstrip("Z").split("+")[0]) if "." in text else 0
    written = moment.strftime("%Y-%m-%d" + ("T" if "T" in text else " ") + "%H:%M:%S")
    if digits:
        written += f".{moment.microsecond:06d}"[: digits + 1]
    if text.endswith("Z"):
        return f"{written}Z"
    zoned = datetime.fromisoformat(text.strip()).tzinfo is not None
    return written + moment.isoformat()[-6:] if zoned else written


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


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
