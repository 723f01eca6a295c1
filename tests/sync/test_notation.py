"""Times of a cursor: read in any declared notation, sent in one, nothing skipped by any zone."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from membrane_sync.elements.cursor import Cursor
from membrane_sync.sync.cursor import CursorOrder, asked_from
from membrane_sync.sync.notation import Notation, before_repeated
from membrane_sync.sync.windows import first_moment, slices

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def cursor(**more: Any) -> Cursor:
    base = {"field": "$.at", "type": "timestamp", "inclusive": True}
    return Cursor.model_validate({**base, **more})


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ({}, "2026-03-04T12:00:00Z"),
        ({}, "2026-03-04 13:00:00+01:00"),
        ({}, "2026-03-04T12:00:00,000"),
        ({}, "20260304T120000Z"),
        ({"timezone": "Europe/Berlin"}, "2026-03-04T13:00:00"),
        ({"timezone": "Europe/Berlin"}, "2026-03-04T12:00:00Z"),
        ({"format": "rfc2822"}, "Wed, 04 Mar 2026 12:00:00 GMT"),
        ({"format": "rfc2822"}, "Wed, 04 Mar 2026 13:00:00 +0100"),
        ({"format": "epoch_seconds"}, 1772625600),
        ({"format": "epoch_seconds"}, "1772625600"),
        ({"format": "epoch_milliseconds"}, 1772625600000),
        ({"format": "epoch_microseconds"}, 1772625600000000),
        ({"format": "%d/%m/%Y %H:%M"}, "04/03/2026 12:00"),
        ({"formats": ["epoch_seconds", "%Y%m%d%H", "iso8601"]}, "2026-03-04T12:00:00Z"),
        ({"formats": ["iso8601", "%d.%m.%Y %H Uhr"]}, "04.03.2026 12 Uhr"),
        ({"type": "integer", "granularity": "millisecond"}, 1772625600000),
        ({"type": "number", "granularity": "second"}, 1772625600.0),
    ],
)
def test_every_notation_is_read(declared: dict[str, Any], value: Any) -> None:
    assert Notation(cursor(**declared)).moment(value) == NOON


def test_milliseconds_as_text_are_no_compact_time() -> None:
    both = Notation(cursor(formats=["iso8601", "epoch_milliseconds"]))
    # By the letter of ISO 8601, the 13th of December 1711, 20:00.
    assert both.moment("1711121312000") == datetime(2024, 3, 22, 15, 28, 32, tzinfo=UTC)
    assert both.moment("20260304") == datetime(2026, 3, 4, tzinfo=UTC)
    with pytest.raises(ValueError):
        Notation(cursor()).moment("1711121312000")


@pytest.mark.parametrize(
    ("declared", "value", "sent"),
    [
        ({}, "2026-03-04T12:00:00.5Z", "2026-03-04T12:00:00.5Z"),
        ({"format": "epoch_seconds", "formats": ["iso8601"]}, "2026-03-04T12:00:00Z", 1772625600),
        ({"format": "%Y-%m-%d", "formats": ["iso8601"]}, "2026-03-04T12:00:00Z", "2026-03-04"),
        (
            {"format": "rfc2822", "formats": ["iso8601"], "lag_seconds": 60},
            "2026-03-04T12:01:00Z",
            "Wed, 04 Mar 2026 12:00:00 GMT",
        ),
        ({"format": "epoch_milliseconds", "lag_seconds": 1}, "1772625600000", "1772625599000"),
        (
            {"type": "integer", "granularity": "second", "format": "iso8601"},
            1772625600,
            "2026-03-04T12:00:00Z",
        ),
        ({"granularity": "day"}, "2026-03-04T12:00:00Z", "2026-03-04T00:00:00Z"),
        ({"granularity": "day"}, "2026-03-04T00:30:00+01:00", "2026-03-04T00:00:00+01:00"),
        ({"granularity": "hour"}, "2026-03-04T12:59:59.9Z", "2026-03-04T12:00:00.0Z"),
        # The app answers what is later than the day, so the day before is asked for.
        (
            {"granularity": "day", "inclusive": False},
            "2026-03-04T12:00:00Z",
            "2026-03-03T00:00:00Z",
        ),
        (
            {"granularity": "second", "inclusive": False},
            "2026-03-04T12:00:00Z",
            "2026-03-04T11:59:59Z",
        ),
        (
            {"timezone": "Europe/Berlin", "lag_seconds": 3600},
            "2026-03-04T13:00:00",
            "2026-03-04T12:00:00",
        ),
        # 02:00 to 03:00 comes twice: whatever is of it, all of it is asked for.
        ({"timezone": "Europe/Berlin"}, "2026-10-25T02:59:59", "2026-10-25T02:00:00"),
        (
            {"timezone": "Europe/Berlin", "lag_seconds": 60},
            "2026-10-25T03:00:30",
            "2026-10-25T02:00:00",
        ),
        ({"timezone": "Europe/Berlin"}, "2026-10-25T03:00:00", "2026-10-25T03:00:00"),
        ({"timezone": "Europe/Berlin"}, "2026-10-25T02:59:59+02:00", "2026-10-25T02:59:59+02:00"),
        # 02:00 to 03:00 never was: an hour before 03:30 it was 01:30.
        (
            {"timezone": "Europe/Berlin", "lag_seconds": 3600},
            "2026-03-29T03:30:00",
            "2026-03-29T01:30:00",
        ),
    ],
)
def test_what_is_sent(declared: dict[str, Any], value: Any, sent: Any) -> None:
    assert asked_from(cursor(**declared), value) == sent


def test_a_cursor_can_be_an_expression() -> None:
    newer = {"$firstNotEmpty": [{"$var": "$.updated"}, {"$var": "$.created"}]}
    order = CursorOrder(
        Cursor.model_validate({"value": newer, "type": "integer", "inclusive": True})
    )
    assert [order.value(r) for r in ({"updated": 2, "created": 1}, {"created": 1}, {})] == [
        2,
        1,
        None,
    ]


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"format": "%Y%"}, "can't be read back"),
        ({"format": "iso"}, "'iso' is no format"),
        ({"type": "string", "format": "iso8601"}, "format needs times"),
        ({"type": "integer", "timezone": "UTC"}, "timezone is for a cursor of type timestamp"),
        ({"value": {"$var": "$.x"}}, "either field or value"),
        ({"field": ""}, "either field or value"),
        ({"window": {"seconds": 60}}, "a window needs start"),
        ({"window": {"start": "2026-01-01"}}, "either seconds or days"),
        ({"window": {"days": 1, "start": "2026-01-01", "includes_end": True}}, "granularity"),
        (
            {"inclusive": False, "unique": True, "window": {"days": 1, "start": "2026"}},
            "granularity",
        ),
        (
            {"granularity": "day", "window": {"seconds": 60, "start": "2026-01-01"}},
            "a window shorter than a day",
        ),
        ({"filtered_by": "client", "window_seconds": 60}, "filtered_by is client"),
        ({"settle": {"seconds": 1, "every_seconds": 1}, "window_seconds": 60}, "don't go together"),
        ({"delta_token": {"$var": "$.body.t"}}, "is for a cursor of type delta_token"),
        ({"type": "delta_token", "delta_token": {"$var": "$.body.t"}}, "has no field"),
    ],
)
def test_nonsense_is_refused(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        cursor(**declared)


def test_whether_it_is_inclusive_must_be_said() -> None:
    with pytest.raises(ValidationError, match="inclusive is missing"):
        Cursor.model_validate({"field": "$.at", "type": "timestamp"})


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "UTC"]
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)
CHANGES = st.sampled_from(
    [datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 11, 1, 5, tzinfo=UTC)]
).flatmap(lambda day: st.integers(-9_000, 9_000).map(lambda s: day + timedelta(seconds=s)))


@settings(max_examples=400, deadline=None)
@given(
    stored=st.one_of(MOMENTS, CHANGES),
    later=st.integers(0, 8_000),
    zone=st.sampled_from(ZONES),
    lag=st.sampled_from([0, 90]),
)
def test_local_times_skip_nothing_that_came_later(
    stored: datetime, later: int, zone: str, lag: int
) -> None:
    """An app that compares local times as texts answers every record that's not older."""
    declared = cursor(timezone=zone, lag_seconds=lag)

    def shown(moment: datetime) -> str:
        return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat()

    asked = asked_from(declared, shown(stored))
    assert shown(stored + timedelta(seconds=later)) >= asked
    assert shown(stored) >= asked


def test_only_repeated_times_are_moved_back() -> None:
    for hour, moved in ((0, True), (1, True), (2, False), (-1, False)):
        moment = datetime(2026, 10, 25, 0, 30, tzinfo=UTC) + timedelta(hours=hour)
        back = before_repeated(moment, BERLIN)
        assert (back == datetime(2026, 10, 25, 0, 0, tzinfo=UTC)) is moved
        assert moved or back == moment


@settings(max_examples=200, deadline=None)
@given(
    start=MOMENTS,
    length=st.integers(0, 30 * 86_400),
    window=st.one_of(
        st.builds(
            lambda n, z: {"days": n, "timezone": z}, st.integers(1, 9), st.sampled_from(ZONES)
        ),
        st.builds(lambda n: {"seconds": float(n)}, st.integers(86_400, 9 * 86_400)),
    ),
    granularity=st.sampled_from([None, "second", "hour", "day"]),
)
def test_windows_cover_each_moment_exactly_once(
    start: datetime, length: int, window: dict[str, Any], granularity: str | None
) -> None:
    declared = cursor(granularity=granularity, window={**window, "start": start.isoformat()})
    assert declared.slices is not None
    end = start + timedelta(seconds=length)
    first = first_moment(declared, declared.slices, {})
    parts = list(slices(declared.slices, first, end, Notation(declared)))
    if length:
        assert parts[0].start <= start and parts[-1].end >= end
    assert all(part.start < part.end for part in parts)
    assert all(a.end == b.start for a, b in itertools.pairwise(parts))
    if "days" in window and granularity is None:
        zone = ZoneInfo(window["timezone"])
        days = [part.start.astimezone(zone) for part in parts[1:]]
        assert all((day - timedelta(seconds=1)).date() < day.date() for day in days)


def test_days_are_as_long_as_they_are() -> None:
    declared = cursor(window={"days": 1, "timezone": "Europe/Berlin", "start": "2026-03-27"})
    assert declared.slices is not None
    end = datetime(2026, 4, 1, tzinfo=UTC)
    parts = list(
        slices(declared.slices, datetime(2026, 3, 27, 23, tzinfo=UTC), end, Notation(declared))
    )
    hours = [(part.end - part.start) / timedelta(hours=1) for part in parts]
    assert hours == [24, 23, 24, 24, 2]
