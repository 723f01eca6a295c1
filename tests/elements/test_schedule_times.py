"""When a cron expression is due next, also where clocks go forward and back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from membrane_sync.elements.schedule import next_time


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "due"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01T00:00", "2026-01-01T00:15"),
        ("*/15 * * * *", "UTC", "2026-01-01T23:59", "2026-01-02T00:00"),
        ("0 6 * * mon-fri", "UTC", "2026-11-27T06:00", "2026-11-30T06:00"),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "UTC", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 0 13 * fri", "UTC", "2026-11-01T00:00", "2026-11-06T00:00"),
        ("0 0 * * 7", "UTC", "2026-11-24T00:00", "2026-11-29T00:00"),
        ("@daily", "Asia/Kolkata", "2026-01-01T00:00", "2026-01-01T18:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T01:00"),
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:00"),
        ("0 0 1 1 *", "UTC", "2026-11-24T16:00", "2027-01-01T00:00"),
    ],
)
def test_the_next_time(cron: str, zone: str, after: str, due: str) -> None:
    assert next_time(cron, zone, moment(after)) == moment(due)


def test_an_hourly_one_is_due_each_hour_of_a_year() -> None:
    at = moment("2026-01-01T00:00")
    for _ in range(24 * 365):
        due = next_time("0 * * * *", "Europe/Berlin", at)
        assert (due - at).total_seconds() == 3_600
        at = due
