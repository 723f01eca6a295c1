"""How often a sync is polled beside what its app tells, and how that's put in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.schedule import Schedule
from membrane_sync.events.polling import timetable, ways
from membrane_sync.events.wanted import covered
from membrane_sync.project.resolved_sync import ResolvedSync
from tests.sync.parts import resolved

HOOK = {"type": "webhook", "subscribe": {"path": "/hooks"}, "handle": {"$var": "$.body"}}
CURSOR = {"field": "$.at", "type": "timestamp", "inclusive": True}


def sync_of(
    events: dict[str, Any] | None = None, source: dict[str, Any] | None = None, **listed: Any
) -> ResolvedSync:
    collection = DataCollection.model_validate(
        {"key": "contacts", "list": {"path": "/contacts", **listed}, "events": events or {}}
    )
    given = {"key": "contacts", "collection_key": "contacts", **(source or {})}
    return replace(resolved(collection), source=DataSource.model_validate(given))


def every(sync: ResolvedSync, told: bool) -> int | None:
    table = timetable(sync, {"contacts"} if told else set())
    return None if table is None else table.every_seconds


def test_without_schedule_interval_and_events_nothing_is_due() -> None:
    assert every(sync_of(), told=False) is None
    assert ways(sync_of(cursor=CURSOR), set()) == "pull latest, when asked to"


def test_a_poll_stays_on_at_a_longer_interval() -> None:
    sync = sync_of({"all": HOOK}, cursor=CURSOR)
    assert (every(sync, told=False), every(sync, told=True)) == (300, 10_800)
    assert ways(sync, set()) == "pull latest every 5 min"
    assert ways(sync, {"contacts"}) == "webhook, poll every 3 h"


def test_intervals_are_the_sources() -> None:
    own = {"pull_updates_interval_seconds": 60, "safety_poll_interval_seconds": 3_600}
    sync = sync_of({"all": HOOK}, own)
    assert (every(sync, told=False), every(sync, told=True)) == (60, 3_600)
    rare = sync_of({"all": HOOK}, {"pull_updates_interval_seconds": 86_400})
    assert every(rare, told=True) == 86_400, "never more often than without webhooks"
    with pytest.raises(ValueError, match="60"):
        sync_of({"all": HOOK}, {"safety_poll_interval_seconds": 59})


def test_a_schedule_of_its_own_is_kept_to() -> None:
    sync = sync_of({"all": HOOK})
    scheduled = sync.sync.model_copy(update={"schedule": Schedule(every_minutes=5)})
    assert every(replace(sync, sync=scheduled), told=True) == 300


def test_words_for_the_other_readings() -> None:
    slow = {"pull_updates_interval_seconds": 90}
    token = {"type": "delta_token", "delta_token": {"$var": "$.body.next"}}
    assert ways(sync_of(source=slow), set()) == "full scan every 90 s"
    assert ways(sync_of(source=slow, cursor=token), set()) == "delta pull every 90 s"


@pytest.mark.parametrize(
    ("changes", "is_covered"),
    [
        (["all"], True),
        (["created", "updated"], True),
        (["created", "updated", "deleted"], True),
        (["updated", "deleted"], False),
        ([], False),
    ],
)
def test_only_what_tells_of_all_that_is_written_covers(
    changes: list[str], is_covered: bool
) -> None:
    configs = [{"kind": "record", "stream": "contacts", "change": change} for change in changes]
    configs.append({"kind": "external", "event": "paid"})
    assert (covered(configs) == {"contacts"}) == is_covered
