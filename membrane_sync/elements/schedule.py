"""Schedule: when something runs by itself; a part of syncs, and of flows' triggers.

Carried out by `orchestration/due.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from membrane_sync.elements.base import Spec
from membrane_sync.elements.nearest import guess, nearest


class _Range(NamedTuple):
    """The values one of a cron expression's five fields may have, and their names."""

    title: str
    least: int
    greatest: int
    names: Mapping[str, int] = MappingProxyType({})


def _named(names: str, first: int) -> Mapping[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


_MONTHS = _named("jan feb mar apr may jun jul aug sep oct nov dec", 1)
_WEEKDAYS = _named("sun mon tue wed thu fri sat", 0)
_FIELDS = (
    _Range("minute", 0, 59),
    _Range("hour", 0, 23),
    _Range("day of month", 1, 31),
    _Range("month", 1, 12, _MONTHS),
    _Range("day of week", 0, 7, _WEEKDAYS),
)
_SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DAYS = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), 1))


def cron_expression(text: str) -> str:
    """The text, if it's a cron expression of five fields; ValueError says which field isn't right.

    >>> cron_expression("0 6 * * mon-fri")
    '0 6 * * mon-fri'
    """
    if text.startswith("@"):
        if text not in _SHORTHANDS:
            raise ValueError(f"unknown cron shorthand {text!r}; {nearest(text, _SHORTHANDS)}")
        return text
    parts = text.split()
    if len(parts) != len(_FIELDS):
        titles = ", ".join(field.title for field in _FIELDS)
        raise ValueError(f"cron {text!r} has {len(parts)} fields instead of five: {titles}")
    values = [_values(part, field) for part, field in zip(parts, _FIELDS, strict=True)]
    if all(min(values[2]) > _DAYS[month] for month in values[3]):
        raise ValueError(f"cron {text!r} names a day that none of its months has")
    return text


def next_time(cron: str, timezone: str, after: datetime) -> datetime:
    """The first moment after `after` that a cron expression names, in UTC.

    Of an hour that comes twice when the clocks go back, the first counts, but for what is due each
    hour. A time that is skipped when they go forward is due as much later as they were moved.

    >>> next_time("0 6 * * mon-fri", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC))
    datetime.datetime(2026, 3, 30, 4, 0, tzinfo=datetime.timezone.utc)
    """
    zone = ZoneInfo(timezone)
    found = _parsed(cron)
    # A day before: what is skipped at midnight is due on the next day.
    day = after.astimezone(zone).date() - timedelta(days=1)
    for _ in range(_LONGEST_DAYS):
        if found.names(day):
            moments = (moment for moment in found.moments(day, zone) if moment > after)
            if (moment := min(moments, default=None)) is not None:
                return moment
        day += timedelta(days=1)
    raise ValueError(f"cron {cron!r} names no day")


_LONGEST_DAYS = 8 * 366 + 2
"""From one 29th of February to the next, where a century has none."""


@dataclass(frozen=True)
class _Cron:
    """The values of an expression's fields.

    By an old rule, two fields that both restrict the day name the days of `either`.
    """

    minutes: list[int]
    hours: list[int]
    days: set[int]
    months: set[int]
    weekdays: set[int]
    either: bool
    every_hour: bool

    def names(self, day: date) -> bool:
        by_day, by_weekday = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        found = by_day or by_weekday if self.either else by_day and by_weekday
        return found and day.month in self.months

    def moments(self, day: date, zone: ZoneInfo) -> Iterator[datetime]:
        """The day's moments in UTC; those of an hour that comes twice, twice if it's every hour."""
        for hour, minute in product(self.hours, self.minutes):
            for fold in (0, 1) if self.every_hour else (0,):
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone, fold=fold)
                yield local.astimezone(UTC)


@cache
def _parsed(cron: str) -> _Cron:
    parts = _SHORTHANDS.get(cron, cron).split()
    minutes, hours, days, months, weekdays = (
        _values(part, field) for part, field in zip(parts, _FIELDS, strict=True)
    )
    return _Cron(
        sorted(minutes),
        sorted(hours),
        days,
        months,
        {weekday % 7 for weekday in weekdays},
        either=not (parts[2].startswith("*") or parts[4].startswith("*")),
        every_hour=parts[1].startswith("*"),
    )


def _values(part: str, field: _Range) -> set[int]:
    """All that one field allows: `*`, a value, `a-b`, each with `/step`, or a list of them."""
    values: set[int] = set()
    for item in part.split(","):
        match = re.fullmatch(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", item)
        step = int(match[4] or 1) if match else 0
        if match is None or step == 0:
            raise ValueError(f"{item!r} is no {field.title}; write *, 5, 1-5, */5, or a list")
        values.update(_from_to(match[2], match[3], match[4] is not None, field)[::step])
    return values


def _from_to(first: str | None, last: str | None, stepped: bool, field: _Range) -> list[int]:
    if first is None:
        return sorted(_every(field))
    start = _number(first, field)
    if last is None:
        return list(range(start, field.greatest + 1)) if stepped else [start]
    end = _number(last, field)
    if start <= end:
        return list(range(start, end + 1))
    return [*range(start, field.greatest + 1), *range(field.least, end + 1)]


def _number(text: str, field: _Range) -> int:
    value = field.names.get(text.lower())
    if value is None and text.isascii() and text.isdigit():
        value = int(text)
    if value is None or not field.least <= value <= field.greatest:
        names = f", or {'/'.join(field.names)}" if field.names else ""
        raise ValueError(
            f"{text!r} is no {field.title}; it's {field.least}-{field.greatest}{names}"
        )
    return value


def _every(field: _Range) -> set[int]:
    return set(range(field.least, field.greatest + 1))


def timezone_name(text: str) -> str:
    """The text, if it's a time zone of the IANA database, such as `Europe/Berlin`."""
    zones = available_timezones()
    if text not in zones:
        near = guess(text, zones)
        hint = f"did you mean {near!r}?" if near else "write it as Europe/Berlin"
        raise ValueError(f"unknown time zone {text!r}; {hint}")
    return text


Cron = Annotated[str, AfterValidator(cron_expression)]
Timezone = Annotated[str, AfterValidator(timezone_name)]


class Schedule(Spec):
    """When the sync runs: a cron expression, or every so many minutes."""

    cron: Cron | None = Field(default=None, description="Five fields, as `0 6 * * mon-fri`")
    every_minutes: int | None = Field(default=None, ge=1, le=59)
    timezone: Timezone = Field(default="UTC", description="By IANA name, as `Europe/Berlin`")

    @model_validator(mode="after")
    def _one_of(self) -> Schedule:
        if (self.cron is None) == (self.every_minutes is None):
            raise ValueError("a schedule needs either cron or every_minutes")
        return self
