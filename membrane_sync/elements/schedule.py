"""Schedule: when something runs by itself; a part of syncs, and of flows' triggers.

Carried out by `orchestration/schedules.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, NamedTuple
from zoneinfo import available_timezones

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
_SHORTHANDS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
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
