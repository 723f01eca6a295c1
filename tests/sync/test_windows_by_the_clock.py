"""Windows where clocks change, of apps that know local times alone: none is upside down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.records import Answer, Call
from membrane_sync.sync.pull import Reading, pull
from membrane_sync.testing import FakeApi, answer

BACK = "2026-10-25T01:00"
CHANGES = {
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "Europe/Dublin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "America/St_Johns": ["2026-03-08T05:30", "2026-11-01T04:30"],
    "America/Havana": ["2026-03-08T05:00", "2026-11-01T05:00"],
    "America/Sao_Paulo": ["2018-02-18T02:00", "2018-11-04T03:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],
    "Antarctica/Troll": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "Pacific/Apia": ["2011-12-30T10:00"],
    "Asia/Kathmandu": ["2026-06-01T00:00"],
}
"""When clocks change there, in UTC: by an hour, by half an hour, by two, by a day, and never."""


class App:
    """Its records have local times, which it compares as they are, or as moments."""

    def __init__(self, zone: str, notation: str, fold: int | None) -> None:
        self.zone, self.fold = ZoneInfo(zone), fold
        self.notation = "%Y-%m-%dT%H:%M:%S" if notation == "iso8601" else notation
        self.records: list[dict[str, Any]] = []

    def show(self, moments: list[datetime], until: datetime) -> None:
        """Have a record of each moment that's before this one."""
        self.records = [
            {"id": n, "at": moment.astimezone(self.zone).strftime(self.notation)}
            for n, moment in enumerate(moments)
            if moment < until
        ]

    def respond(self, call: Call) -> Answer:
        low, high = self.key(call.query["from"]), self.key(call.query["to"])
        assert low < high, "from is not before to"
        return answer({"data": [r for r in self.records if low <= self.key(r["at"]) < high]})

    def key(self, text: str) -> Any:
        local = datetime.strptime(text, self.notation)
        if self.fold is None:
            return local
        return local.replace(tzinfo=self.zone, fold=self.fold).astimezone(UTC)


def declared(zone: str, window: dict[str, Any], notation: str) -> DataCollection:
    cursor = {"field": "$.at", "type": "timestamp", "timezone": zone, "inclusive": True}
    cursor |= {"format": notation, "window": window}
    bounds = {"from": {"$var": "$.window.from"}, "to": {"$var": "$.window.to"}}
    method = {"path": "/c", "query": bounds, "records": "$.body.data", "cursor": cursor}
    return DataCollection.model_validate({"key": "c", "list": method})


ZONES = st.sampled_from(sorted(CHANGES)).flatmap(
    lambda zone: st.tuples(st.just(zone), st.sampled_from(CHANGES[zone]))
)
WINDOWS = st.one_of(
    st.sampled_from([600.0, 1500.0, 1800.0, 3600.0, 5400.0, 10_000.0]).map(
        lambda seconds: {"seconds": seconds}
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Pacific/Apia"]).map(
        lambda zone: {"days": 1, "timezone": zone}
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    zone=ZONES,
    window=WINDOWS,
    begins=st.integers(-6 * 3600, 3600),
    minutes=st.lists(st.integers(-240, 240), max_size=12),
    syncs=st.lists(st.integers(60, 3 * 3600), min_size=1, max_size=4),
    fold=st.sampled_from([None, 0]),
    notation=st.sampled_from(["iso8601", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S.%f"]),
)
@example(
    ("America/Havana", "2026-11-01T05:00"), {"seconds": 9000.0}, -1, [0], [3601], None, "iso8601"
)
@example(("Europe/Berlin", BACK), {"seconds": 600.0}, -7200, [-50, -5, 5], [14400], None, "iso8601")
@example(
    ("Europe/Berlin", BACK), {"seconds": 900.0}, -9000, [-40, -9, 9], [8000, 1500], 0, "iso8601"
)
def test_all_is_read_where_clocks_change(
    zone: tuple[str, str],
    window: dict[str, Any],
    begins: int,
    minutes: list[int],
    syncs: list[int],
    fold: int | None,
    notation: str,
) -> None:
    name, change = zone
    at = datetime.fromisoformat(change).replace(tzinfo=UTC)
    start = at + timedelta(seconds=begins)
    moments = [at + timedelta(minutes=minute) for minute in minutes]
    of = declared(name, {**window, "start": start.isoformat()}, notation)
    app, now, cursor, read = App(name, notation, fold), start, None, set[str]()
    for seconds in syncs:
        now += timedelta(seconds=seconds)
        app.show(moments, until=now)
        reading = Reading(of, "c", started_at=now, cursor=cursor)
        for page in pull(reading, FakeApi(app.respond)):
            read |= {record.external_id for record in page.batch.records}
            cursor = cursor if page.batch.cursor is None else page.batch.cursor
    assert read >= {str(n) for n, moment in enumerate(moments) if start <= moment < now}
