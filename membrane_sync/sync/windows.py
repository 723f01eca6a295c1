"""Time in slices: every moment between two bounds in exactly one of them, also across DST."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from membrane_sync.elements.cursor import Cursor, Window
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import Fatal
from membrane_sync.formulas import evaluate
from membrane_sync.sync.notation import Notation

CLOCKS_DIFFER = timedelta(minutes=5)
"""By how much our clock may be ahead of the app's: so much of the end is read again."""

SMALLEST = timedelta(milliseconds=1)
"""No slice is cut into halves below it."""


@dataclass(frozen=True)
class Bounds:
    """A time to read, given from outside: from `since` on, and before `until`; None is open."""

    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def between(cls, since: str, until: str) -> Bounds:
        """The bounds that a person writes, in ISO 8601 with a zone; an empty one is open.

        Raises Fatal where they make no window.
        """
        bounds = cls(_moment("since", since), _moment("until", until))
        if bounds.since is None and bounds.until is None:
            raise Fatal("a window needs a bound", hint="give since, until, or both")
        if bounds.since and bounds.until and bounds.since >= bounds.until:
            raise Fatal(
                f"the window is empty: since {since} is not before until {until}",
                hint="since belongs to the window, until doesn't",
            )
        return bounds

    def check(self, collection: DataCollection) -> None:
        """Raise Fatal for a collection whose records can't be told apart by their times."""
        cursor = collection.list_.cursor if collection.list_ else None
        if cursor is None or not cursor.is_time:
            raise Fatal(
                f"collection {collection.key!r} has no window to read: its cursor is no time",
                hint="read all of it: --full, or in Dagster mode full",
            )


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    hint = "write it as 2026-01-31T00:00:00Z, or 2026-01-31T00:00:00+01:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Fatal(f"{name} is no time: {text!r}", hint=hint) from None
    if moment.tzinfo is None:
        raise Fatal(f"{name} names no time zone: {text!r}", hint=hint)
    return moment.astimezone(UTC)


@dataclass(frozen=True)
class Slice:
    """Time from `start` on, and before `end`."""

    start: datetime
    end: datetime

    def halves(self, notation: Notation) -> list[Slice]:
        """Two slices that cover the same; none if it's too short to be cut."""
        middle = notation.floored(self.start + (self.end - self.start) / 2)
        if not self.start < middle < self.end or self.end - self.start <= SMALLEST:
            return []
        return [Slice(self.start, middle), Slice(middle, self.end)]


def slices(window: Window, start: datetime, end: datetime, notation: Notation) -> Iterator[Slice]:
    """Slices from `start` to `end`; days begin at midnight of the window's zone."""
    start, end = notation.floored(start), notation.floored(end, up=True)
    while start < end:
        following = min(notation.floored(_following(window, start), up=True), end)
        yield Slice(start, following)
        start = following


def _following(window: Window, start: datetime) -> datetime:
    if window.days is None:
        assert window.seconds is not None
        return start + timedelta(seconds=window.seconds)
    zone = ZoneInfo(window.timezone)
    day = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    following = day + timedelta(days=window.days)
    # Noon of a day is never skipped or repeated, midnight may be.
    return following.replace(tzinfo=zone, fold=0).astimezone(UTC)


def first_moment(cursor: Cursor, window: Window, scope: Any) -> datetime:
    """Where the slices begin: the cursor that is asked from, else the declared start."""
    notation = Notation(cursor)
    asked = scope.get("cursor")
    if asked is not None:
        return notation.moment(asked)
    value = evaluate(window.start, scope)
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=notation.zone)
        return notation.moment(value)
    except (TypeError, ValueError, OverflowError):
        raise Fatal(
            "the window's start gives no time",
            hint="write it as 2020-01-01, or as a formula that gives such a text",
        ) from None


def bounds_sent(cursor: Cursor, window: Window, slice_: Slice) -> dict[str, Any]:
    """`$.window` for one slice: in the app's notation, a granule earlier where its filter is so."""
    notation = Notation(cursor)
    start = notation.asked_at(slice_.start, earlier=not cursor.inclusive)
    end = notation.asked_at(slice_.end, earlier=window.includes_end)
    start, end = notation.upright(start, end)
    return {"from": notation.bound(start), "to": notation.bound(end)}
