"""How a cursor's times are written: read in any of the declared notations, sent in one.

Times without an offset are local to the cursor's `timezone`. When its clocks go back, an hour of
them comes twice; what is sent is then the beginning of that hour, so that nothing of it is skipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import format_datetime, parsedate_to_datetime
from operator import attrgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from membrane_sync.elements.cursor import FORMATS, SECONDS_PER_UNIT, Cursor

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LONGEST_DATE = len("20260131")
"""ISO 8601 without any sign is a day at most."""


class Notation:
    """The notation of one cursor's times; of other cursors' values it knows nothing."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.zone: tzinfo = ZoneInfo(cursor.timezone) if cursor.timezone else UTC
        own = [cursor.format] if cursor.format and cursor.type == "timestamp" else []
        self._read = [*(cursor.formats or own or ["iso8601"]), *own]

    def moment(self, value: Any) -> datetime:
        """The moment in UTC; raises ValueError or TypeError where the value is none.

        What is sent can be read too: a number's cursor may be sent as a text.
        """
        if self._cursor.type == "timestamp":
            return self._parsed(value)[0]
        if isinstance(value, str) and self._cursor.format and not _reads_as_number(value):
            return self._in(value, self._cursor.format)
        return EPOCH + timedelta(seconds=float(value) * self._unit)

    def utc_moments(self, values: Sequence[Any]) -> list[datetime] | None:
        """The moments of values that are all written in ISO 8601 and in UTC; None if any isn't."""
        if self._cursor.type != "timestamp" or self._read[0] != "iso8601":
            return None
        try:
            moments = [*map(datetime.fromisoformat, values)]
        except (TypeError, ValueError):
            return None
        zones = [*map(attrgetter("tzinfo"), moments)]
        return moments if zones.count(UTC) == len(moments) else None

    def number(self, value: Any) -> float:
        """How many units since 1970 a value of a number's cursor stands for, also as it's sent."""
        return round((self.moment(value) - EPOCH).total_seconds() / self._unit, 6)

    def sent(self, value: Any, *, lag_seconds: float = 0, steps_back: bool = True) -> Any:
        """What to ask the app with for a value; as it is, if nothing says otherwise.

        Less the lag, rounded down to the granularity of the app's filter, one granule before if the
        filter is exclusive and `steps_back`, and in the declared format, else in the value's own.
        """
        if self._is_number and not self._cursor.format:
            return self._number_less(value, lag_seconds)
        moment, notation = self._read_in(value)
        lagged = moment - timedelta(seconds=lag_seconds)
        asked = self._floored(lagged, value, plain=not steps_back)
        same = self._cursor.format in (None, notation)
        if self._cursor.timezone is not None and not (same and _has_offset(value, notation)):
            asked = before_repeated(asked, self.zone)
        if asked == moment and same:
            return value
        return self._written(asked, self._cursor.format or notation, like=value if same else None)

    def bound(self, moment: datetime, *, earlier: bool = False) -> Any:
        """A window's bound as it is sent; a granule `earlier`, if the app takes bounds so."""
        moment = self.asked_at(moment, earlier=earlier)
        return self._written(moment, self._cursor.format or self._default)

    def asked_at(self, moment: datetime, *, earlier: bool) -> datetime:
        """A window's bound, or the one a granule `earlier`."""
        return self._granule_before(moment, self.zone) if earlier else moment

    def upright(self, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Bounds whose local times have all times between them; wider ones, if need be.

        Where clocks are set back between them, the end would be shown as before the beginning.
        """
        notation = self._cursor.format or self._default
        local = notation == "iso8601" or not (notation in FORMATS or "%z" in notation)
        if self._cursor.timezone is None or not local:
            return start, end
        ahead, behind = repeated(start, self.zone), repeated(end, self.zone)
        wider = ahead.begin if ahead and start < ahead.set_back <= end else start
        return wider, behind.end if behind and start < behind.set_back <= end else end

    def stored(self, moment: datetime) -> Any:
        """A moment as records have it, to be stored as a cursor."""
        return self._written(moment, self._default)

    def after(self, value: Any) -> Any:
        """The next value that a record can have, in the value's own notation."""
        if self._is_number:
            return int(value) + 1 if self._cursor.type == "integer" else float(value) + 1
        moment, notation = self._read_in(value)
        unit = timedelta(seconds=SECONDS_PER_UNIT[self._cursor.granularity or "microsecond"])
        return self._written(moment + unit, notation, like=value)

    def floored(self, moment: datetime, *, up: bool = False) -> datetime:
        """The moment at which its granule begins, or `up` the one at which it ends."""
        down = self._floored(moment, None, plain=True)
        return down if not up or down == moment else self._granule_after(down)

    @property
    def _is_number(self) -> bool:
        return self._cursor.type in ("integer", "number")

    @property
    def _unit(self) -> float:
        return SECONDS_PER_UNIT[self._cursor.granularity or "second"]

    @property
    def _default(self) -> str:
        return "" if self._is_number else self._read[0]

    def _number_less(self, value: Any, lag_seconds: float) -> Any:
        if not lag_seconds:
            return value
        lag = lag_seconds / self._unit
        if self._cursor.type == "number":
            return float(value) - lag
        # To nine places: 0.1 s are 100 ms, and not 101 because of how fractions are kept.
        return int(value) - math.ceil(round(lag, 9))

    def _read_in(self, value: Any) -> tuple[datetime, str]:
        return (self.moment(value), "") if self._is_number else self._parsed(value)

    def _parsed(self, value: Any) -> tuple[datetime, str]:
        problem: Exception = ValueError()
        for notation in self._read:
            try:
                return self._in(value, notation), notation
            except (TypeError, ValueError, OverflowError) as error:
                problem = error
        raise problem

    def _in(self, value: Any, notation: str) -> datetime:
        if notation.startswith("epoch_"):
            if isinstance(value, bool):
                raise TypeError
            return EPOCH + timedelta(seconds=float(value) * _epoch_unit(notation))
        if not isinstance(value, str):
            raise TypeError
        if notation == "rfc2822":
            moment = parsedate_to_datetime(value)
        elif notation == "iso8601":
            moment = datetime.fromisoformat(value.strip())
            if value.strip().isdigit() and len(value.strip()) > _LONGEST_DATE:
                raise ValueError  # a number of milliseconds, which reads as a time of 1711
        else:
            moment = datetime.strptime(value.strip(), notation)
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)

    def _written(self, moment: datetime, notation: str, like: Any = None) -> Any:
        if notation == "":
            number = (moment - EPOCH).total_seconds() / self._unit
            return math.floor(round(number, 9)) if self._cursor.type == "integer" else number
        if notation.startswith("epoch_"):
            number = math.floor(round((moment - EPOCH).total_seconds() / _epoch_unit(notation), 9))
            return str(number) if isinstance(like, str) else number
        if notation == "iso8601":
            return self._iso(moment, like)
        if notation == "rfc2822":
            return format_datetime(moment, usegmt=True)
        local = moment.astimezone(self._zone_of(like, notation))
        return local.strftime(notation)

    def _iso(self, moment: datetime, like: Any) -> str:
        if isinstance(like, str):
            return iso_like(like, moment, self.zone)
        if self._cursor.timezone:
            return moment.astimezone(self.zone).replace(tzinfo=None).isoformat()
        return moment.replace(tzinfo=None).isoformat() + "Z"

    def _zone_of(self, like: Any, notation: str) -> tzinfo:
        if "%z" in notation and isinstance(like, str):
            written = datetime.strptime(like.strip(), notation).tzinfo
            return written or self.zone
        return self.zone

    def _floored(self, moment: datetime, value: Any, *, plain: bool = False) -> datetime:
        granularity = self._cursor.granularity
        if granularity is None:
            return moment
        zone = self._own_zone(value)
        if granularity == "day":
            local = moment.astimezone(zone)
            floor = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            floor = floor.astimezone(UTC)
        else:
            unit = timedelta(seconds=SECONDS_PER_UNIT[granularity])
            floor = moment - (moment - EPOCH) % unit
        if plain or not self._cursor.steps_back:
            return floor
        return self._granule_before(floor, zone)

    def _own_zone(self, value: Any) -> tzinfo:
        if self._cursor.timezone is None and isinstance(value, str):
            try:
                return datetime.fromisoformat(value.strip()).tzinfo or self.zone
            except ValueError:
                return self.zone
        return self.zone

    def _granule_before(self, moment: datetime, zone: tzinfo) -> datetime:
        return self._granule(moment, zone, -1)

    def _granule_after(self, moment: datetime) -> datetime:
        return self._granule(moment, self.zone, 1)

    def _granule(self, moment: datetime, zone: tzinfo, steps: int) -> datetime:
        granularity = self._cursor.granularity or "microsecond"
        unit = timedelta(seconds=SECONDS_PER_UNIT[granularity])
        if granularity != "day":
            return moment + steps * unit
        # Wall clock: a day of a zone may have 23 or 25 hours.
        return (moment.astimezone(zone) + steps * unit).astimezone(UTC)


def before_repeated(moment: datetime, zone: tzinfo) -> datetime:
    """The moment; within local times that come twice, the first moment of the first of them."""
    twice = repeated(moment, zone)
    return moment if twice is None else twice.begin


class Repeated(NamedTuple):
    """When the same local times come twice: the clock is `set_back` to those at the `begin`."""

    begin: datetime
    set_back: datetime
    end: datetime


def repeated(moment: datetime, zone: tzinfo) -> Repeated | None:
    """The time around a moment whose local time comes twice; None of any other."""
    local = moment.astimezone(zone)
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    assert first is not None and second is not None
    if first <= second:
        return None
    low = local.replace(fold=0).astimezone(UTC)
    high = local.replace(fold=1).astimezone(UTC)
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) / 2
        low, high = (
            (middle, high) if middle.astimezone(zone).utcoffset() == first else (low, middle)
        )
    return Repeated(high - (first - second), high, high + (first - second))


def _has_offset(value: Any, notation: str) -> bool:
    """Whether the value says which of two equal local times it means."""
    if notation == "iso8601":
        return datetime.fromisoformat(value.strip()).tzinfo is not None
    return notation in FORMATS or "%z" in notation


def iso_like(text: str, moment: datetime, zone: tzinfo = UTC) -> str:
    """The moment, written as `text` is: separator, precision and zone."""
    written = re.fullmatch(r"[^T ]*(?:([T ])[\d:]*(?:[.,](\d+))?(Z|[+-][\d:]+)?)?", text.strip())
    separator, fraction, offset = written.groups() if written else ("T", "000000", "Z")
    own = datetime.fromisoformat(text.strip()).tzinfo or zone
    local = moment.astimezone(own)
    if separator is None:
        return f"{local:%Y-%m-%d}"
    time = f"{local:%H:%M:%S}"
    if fraction:
        time += f".{local.microsecond:06d}"[: len(fraction) + 1]
    suffix = "" if offset is None else offset if offset == "Z" else local.isoformat()[-6:]
    return f"{local:%Y-%m-%d}{separator}{time}{suffix}"


def _epoch_unit(notation: str) -> float:
    return SECONDS_PER_UNIT[notation.removeprefix("epoch_").removesuffix("s")]


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
