"""Times as the simulated app writes and reads them; inside, they are microseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from membrane_sync.testing.simulator.switches import Collection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"microsecond": 1, "millisecond": 1_000, "second": 1_000_000, "day": 86_400_000_000}
_EAST = timezone(timedelta(hours=2))


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment_of(us: int) -> datetime:
    """The time in UTC."""
    return EPOCH + timedelta(microseconds=us)


class Clockface:
    """Writes and reads the times of one collection, in its notation and its unit."""

    def __init__(self, collection: Collection) -> None:
        self._notation = collection.notation
        self._pattern = collection.strftime
        self._precision = {"microsecond": "microseconds", "millisecond": "milliseconds"}.get(
            collection.granularity, "seconds"
        )
        self._only_date = collection.granularity == "day"
        self.unit = UNITS[collection.granularity]
        # By far the most times are written so, a million times in a benchmark.
        known = {"microsecond": ".%06d", "millisecond": ".%03d"}
        self._fraction = known.get(collection.granularity) if self._notation == "iso" else None

    def floor(self, us: int) -> int:
        """The time without what is smaller than the unit."""
        return us - us % self.unit

    def json(self, us: int) -> str:
        """The time as JSON text."""
        us = self.floor(us)
        if self._notation == "epoch_s":
            return f"{us / 1_000_000:.6f}".rstrip("0").rstrip(".")
        if self._notation == "epoch_ms":
            return str(us // 1000)
        if self._fraction is not None:
            second, fraction = divmod(us, 1_000_000)
            return f'"{_second_text(second)}{self._fraction % (fraction // self.unit)}Z"'
        return f'"{self._text(moment_of(us))}"'

    def _text(self, moment: datetime) -> str:
        if self._notation == "strftime":
            return moment.strftime(self._pattern)
        if self._only_date:
            return moment.date().isoformat()
        if self._notation == "iso_offset":
            return moment.astimezone(_EAST).isoformat(timespec=self._precision)
        naive = moment.replace(tzinfo=None)
        if self._notation == "space":
            return naive.isoformat(" ", timespec=self._precision)
        return naive.isoformat(timespec=self._precision) + "Z"

    def read(self, text: str) -> int:
        """The time that a client sent, to the unit; raises ValueError if it's none of ours."""
        return self.floor(self._read(text.strip()))

    def _read(self, text: str) -> int:
        if self._notation == "epoch_s":
            return round(float(text) * 1_000_000)
        if self._notation == "epoch_ms":
            return int(text) * 1000
        if self._notation == "strftime":
            return micros(datetime.strptime(text, self._pattern).replace(tzinfo=UTC))
        # A plus that wasn't encoded arrives as a space.
        mended = re.sub(r" (\d\d:\d\d)$", r"+\1", text) if "T" in text else text
        moment = datetime.fromisoformat(mended)
        return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@lru_cache(maxsize=10_000)
def _second_text(second: int) -> str:
    return moment_of(second * 1_000_000).replace(tzinfo=None).isoformat()
