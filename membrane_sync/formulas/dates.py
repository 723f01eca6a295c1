"""Reading dates: ISO 8601 as apps send it, and the few other forms that people type."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
_ZONES: Final = {"z": 0, "utc": 0, "gmt": 0, "ut": 0, "edt": -4, "est": -5, "cdt": -5}
_ZONES.update({"cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8})

_ISO: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2})"
    r"(?:[Tt ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"(?P<zone>[Zz])?(?P<offset>[+-]\d{2}:?\d{2})?)?)?)?",
    re.ASCII,
)
_TIME: Final = (
    r"(?:,?\s+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d+))?)?"
    r"(?:\s*(?P<half>[ap]m))?(?:\s*(?P<zone>[a-z]{1,3}))?(?:\s*(?P<offset>[+-]\d{2}:?\d{2}))?"
    r"(?:\s*\([^()]*\))?)?"
)
_WEEKDAY: Final = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
_NAME: Final = r"(?P<name>[a-z]{3,9})\.?"
_TYPED: Final = tuple(
    re.compile(form + _TIME, re.ASCII | re.IGNORECASE)
    for form in (
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})[\s-]+{_NAME}[\s-]+(?P<year>\d{{4}})",
        rf"{_WEEKDAY}{_NAME}\s+(?P<day>\d{{1,2}}),?\s+(?P<year>\d{{4}})",
        r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})",
        r"(?P<year>\d{4})(?P<mark>[/-])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
    )
)


def iso_instant(text: str) -> datetime | None:
    """The instant that an ISO 8601 text names, in UTC; None for other text.

    A text without a zone is UTC, and one without a time is midnight.
    """
    return _read(_ISO, text.strip())


def instant(text: str) -> datetime | None:
    """The instant that a text names, in UTC; None if no date can be read from it.

    Beside ISO 8601: `Tue, 07 May 2024 04:00:00 GMT`, `May 7, 2024`, `05/07/2024 4:00 PM` with
    the month first, and `2024/05/07`.
    """
    found = (_read(form, text.strip()) for form in (_ISO, *_TYPED))
    return next((moment for moment in found if moment is not None), None)


def _read(form: re.Pattern[str], text: str) -> datetime | None:
    found = form.fullmatch(text)
    if found is None:
        return None
    try:
        return _instant({name: part for name, part in found.groupdict().items() if part})
    except (ValueError, OverflowError):  # such as the 30th of February
        return None


def _instant(parts: dict[str, str]) -> datetime:
    day = datetime(int(parts["year"]), _month(parts), int(parts.get("day", 1)), tzinfo=UTC)
    minute, second = int(parts.get("minute", 0)), int(parts.get("second", 0))
    hour = _hour(parts)
    if minute > 59 or second > 59 or hour > 24 or (hour == 24 and minute + second > 0):
        raise ValueError("no such time")
    micros = int(parts.get("fraction", "")[:6].ljust(6, "0"))
    time = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micros)
    return day + time - _offset(parts)


def _month(parts: dict[str, str]) -> int:
    if "name" not in parts:
        return int(parts.get("month", 1))
    return _MONTHS.split().index(parts["name"][:3].lower()) + 1


def _hour(parts: dict[str, str]) -> int:
    hour, half = int(parts.get("hour", 0)), parts.get("half", "").lower()
    if half and not 1 <= hour <= 12:
        raise ValueError("no such hour")
    return hour % 12 + (12 if half == "pm" else 0) if half else hour


def _offset(parts: dict[str, str]) -> timedelta:
    zone, offset = parts.get("zone", "z").lower(), parts.get("offset", "+0000")
    if zone not in _ZONES:
        raise ValueError("no known time zone")
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
    return timedelta(hours=_ZONES[zone]) + (ahead if offset[0] == "+" else -ahead)
