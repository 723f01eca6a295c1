"""Values of an incremental cursor: read from a record, compared, and moved without losing ties."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from membrane_sync.elements.cursor import SECONDS_PER_UNIT, Cursor
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.formulas.locators import reader
from membrane_sync.sync.heads import Heads, only_name
from membrane_sync.sync.notation import EPOCH, Notation

AHEAD = timedelta(days=1)
"""How far a time may be ahead of our clock, or our clock of the app's, and still be believed."""

MOST_KEYS = 20_000
"""So many keys are remembered, some pages' worth."""


class Values(list[Any]):
    """The values of a page's records and, in the same order, their keys; one is the `newest`."""

    def __init__(self, values: list[Any], keys: list[Any]) -> None:
        super().__init__(values)
        self.keys = keys
        self.newest = values[keys.index(max(keys))]


class CursorOrder:
    """How the values of one cursor are found in records and ordered; `now` is when it's made."""

    def __init__(self, cursor: Cursor, now: datetime | None = None) -> None:
        self._cursor = cursor
        self._now = now or datetime.now(UTC)
        self._latest = self._now + AHEAD
        notation = (
            cursor.type, cursor.format, tuple(cursor.formats), cursor.timezone, cursor.granularity
        )  # fmt: skip
        self._keys = _keys_of(*notation)
        self._name = (cursor.field, *notation)
        self._read = _reader(cursor)
        self.notation = Notation(cursor)

    @property
    def name(self) -> str:
        """The cursor in messages: its field, if it's one."""
        return self._cursor.field or "value"

    def found(self, record: Any) -> Any:
        """What the record has as cursor value; None where it has none, or an empty text."""
        if self._cursor.is_delta:
            return None
        found = self._read(record)
        return None if found is MISSING or found == "" else found

    def value(self, record: Any) -> Any:
        """The value that the cursor may move to; None where it has none, or one with a fault."""
        found = self.found(record)
        return None if found is None or self._fault(found) else found

    def values(self, records: Sequence[Any]) -> list[Any]:
        """The values of the records that the cursor may move to."""
        values = self.all_values(records)
        if values is not None:
            return values
        return [value for record in records if (value := self.value(record)) is not None]

    def all_values(self, records: Sequence[Any]) -> Values | None:
        """The same, if each record has one and they can be read by the field; else None.

        They're read once for all who ask, and most pages are so.
        """
        if not isinstance(records, Heads) or not records or self._cursor.is_delta:
            return None
        if self._name not in records.known:
            records.known[self._name] = self._read_all(records)
        values: Values | None = records.known[self._name]
        return None if values is None or self._fault(values.newest) else values

    def _read_all(self, records: Heads) -> Values | None:
        field = only_name(self._cursor.field) if self._cursor.value is None else None
        found = None if field is None else records.column(field)
        if found is None or "" in found:
            return None
        try:
            return Values(found, self.notation.utc_moments(found) or [*map(self._key, found)])
        except UnexpectedAnswer:
            return None

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
        if type(value) is not str:
            return self._key(value)
        known = self._keys.get(value)
        if known is None:
            if len(self._keys) >= MOST_KEYS:
                self._keys.clear()
            known = self._keys[value] = self._key(value)
        return known

    def _key(self, value: Any) -> Any:
        try:
            if self._cursor.type == "timestamp":
                return self.notation.moment(value)
            if self._cursor.format and isinstance(value, str):
                return self.notation.number(value)
            return _KEYS[self._cursor.type](value)
        except (TypeError, ValueError, OverflowError):
            raise UnexpectedAnswer(
                f"cursor {self.name} should be a {self._cursor.type}, a record has "
                f"a {type(value).__name__} that isn't one",
                hint="mend `cursor.type` in the collection's YAML",
            ) from None

    def newest(self, values: Sequence[Any]) -> Any:
        """The greatest value, None of none."""
        if isinstance(values, Values):
            return values.newest
        return max(values, key=self.key, default=None)

    def _fault(self, value: Any) -> str:
        try:
            if self._cursor.type == "timestamp":
                ahead = self.key(value) > self._latest
            else:
                moment = self._moment(value)
                ahead = moment is not None and moment > self._seconds(self._latest)
        except UnexpectedAnswer as error:
            return error.message
        return "it's more than a day ahead of now; the cursor doesn't move to it" if ahead else ""

    def _moment(self, value: Any) -> float | None:
        """Seconds since 1970, where the declaration makes it a time."""
        return self.seconds(self.key(value))

    def seconds(self, key: Any) -> float | None:
        """Seconds since 1970 of a value's key, where the declaration makes it a time."""
        if self._cursor.type == "timestamp":
            return self._seconds(key)
        if self._cursor.granularity is None or self._cursor.type == "string":
            return None
        return float(key * SECONDS_PER_UNIT[self._cursor.granularity])

    @staticmethod
    def _seconds(moment: datetime) -> float:
        return (moment - EPOCH).total_seconds()


@lru_cache(maxsize=64)
def _keys_of(*_notation: Any) -> dict[str, Any]:
    """The known keys of texts in one notation; a text is asked for many times."""
    return {}


def _reader(cursor: Cursor) -> Callable[[Any], Any]:
    if cursor.value is not None:
        return lambda record: evaluate(cursor.value, record)
    return reader(cursor.field) if cursor.field else lambda _: MISSING


def asked_from(cursor: Cursor, stored: Any) -> Any:
    """The value to send for a stored one: earlier by the declared lag, in the notation declared.

    For numbers, `granularity` says what one stands for; a second, if it doesn't. Raises Fatal where
    the cursor is a text, of which nothing can be subtracted.
    """
    if stored is None or cursor.is_delta:
        return stored
    if cursor.type == "string":
        if cursor.lag_seconds:
            raise Fatal(
                f"cursor {cursor.field} is a string, so that lag_seconds can't be taken from it",
                hint="take lag_seconds out, or declare the cursor as timestamp, integer or number",
            )
        return stored
    return Notation(cursor).sent(stored, lag_seconds=cursor.lag_seconds)


def asked_again_from(cursor: Cursor, value: Any, notation: Notation | None = None) -> Any:
    """The value to send for one that this very reading came to: no lag is needed."""
    if value is None or not (cursor.is_time or cursor.type == "timestamp"):
        return value
    return (notation or Notation(cursor)).sent(value)


def marking(cursor: Cursor | None) -> Callable[[Any], Any]:
    """Makes what is to be stored of a value: it, and which declaration it's a value of."""
    if cursor is None:
        return lambda value: value
    declaration = _declaration(cursor)
    return lambda value: None if value is None else {"value": value, "of": declaration}


def value_of(stored: Any) -> Any:
    """The value that was `marked`, of whatever declaration; of two cursors the one ahead."""
    value = _inner(stored)
    return value["fast"] if isinstance(value, dict) and "fast" in value else value


def stored_value(cursor: Cursor, stored: Any) -> Any:
    """The value that was `marked`; None if it's of another declaration, and so says nothing."""
    same = isinstance(stored, dict) and stored.get("of") == _declaration(cursor)
    return _inner(stored) if same else None


def _inner(stored: Any) -> Any:
    return stored.get("value") if isinstance(stored, dict) else stored


def _declaration(cursor: Cursor) -> str:
    of_records = [cursor.field] if cursor.value is None else [cursor.value]
    text = json.dumps([*of_records, cursor.type], sort_keys=True)
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
    if last or cursor.keeps_ties:
        return newest
    before = [value for value in values if order.key(value) < order.key(newest)]
    return order.newest(before)


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
    "string": _string,
}
