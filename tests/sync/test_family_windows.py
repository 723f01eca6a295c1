"""A backfill of a window below parents: each list is read for it, and nothing else moves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import AppUnavailable, Fatal
from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call, Level, Report
from membrane_sync.sync.collection import Bounds
from membrane_sync.sync.family import consumer_of
from membrane_sync.sync.notation import EPOCH
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, answer
from tests.sync.families import FamilyApp, declared, family_sync
from tests.sync.parts import CURSOR, parties

BY_TIME = {**CURSOR, "type": "timestamp"}
SLICED = {**BY_TIME, "window": {"days": 700, "start": "1970-01-01T00:00:00Z"}}


STEP = timedelta(days=1_000)
"""From one of the app's times to the next: more than a window."""


def moment(at: int) -> datetime:
    return EPOCH + at * STEP


class Timed(FamilyApp):
    """The same with times in ISO notation, from `since` on, and before `before`."""

    def respond(self, call: Call) -> Answer:
        asked = {name: call.query.get(name) for name in ("since", "before")}
        numbers = {
            n: (datetime.fromisoformat(v) - EPOCH) / STEP for n, v in asked.items() if v is not None
        }
        query = {n: v for n, v in call.query.items() if n not in asked}
        given = super().respond(replace(call, query={**query, "since": numbers.get("since")}))
        shown = [r for r in given.body["data"] if r["at"] < numbers.get("before", 1e9)]
        return answer({"data": [{**r, "at": moment(r["at"]).isoformat()} for r in shown]})


def sliced(collection: DataCollection) -> DataCollection:
    assert collection.list_ is not None
    query = {"since": {"$var": "$.window.from"}, "before": {"$var": "$.window.to"}}
    method = collection.list_.model_copy(update={"query": query})
    return collection.model_copy(update={"list_": method})


BY_CURSOR = family_sync(declared("accounts", cursor=BY_TIME), declared("projects", cursor=BY_TIME))
BY_CHANGE = family_sync(
    declared("accounts", cursor=BY_TIME),
    declared("projects", cursor=BY_TIME, parent={"changed_parents_only": True}),
)
IN_SLICES = family_sync(
    declared("accounts", cursor=BY_TIME), sliced(declared("projects", cursor=SLICED))
)


def sync(of: ResolvedSync, api: FakeApi, lake: Lake, bounds: Bounds | None = None) -> Report:
    all_ = parties(api, lake, MemoryDestination())
    report = new_report(of, all_)
    pull_and_store(of, all_, report, bounds=bounds)
    return report


def app_of(accounts: str) -> Timed:
    """Projects at 11 to 13, 14 to 16, …; all accounts are older."""
    app = Timed()
    for account in accounts:
        app.put("/accounts", account)
    app.now = 10
    for account in accounts:
        for number in range(3):
            app.put(f"/accounts/{account}/projects", f"{account}{number}")
    return app


def names(lake: Lake) -> dict[str, Any]:
    latest = {c.external_id: c.payload for c in lake.changes("projects", 0, 10_000)}
    return {i: json.loads(payload).get("name") for i, payload in latest.items() if payload}


def state(lake: Lake) -> Any:
    """The cursors of all lists, and how far the parents' feed was read."""
    parents = lake.parents("projects", [Level("accounts", [])], reading="another")
    return {p.id: p.partition for p in parents}, lake.offset(consumer_of("projects"))


@pytest.mark.parametrize(
    "of", [BY_CURSOR, BY_CHANGE, IN_SLICES], ids=["by cursor", "by change", "in slices"]
)
def test_what_has_a_time_in_it_is_read_below_every_parent(of: ResolvedSync, lake: Lake) -> None:
    app = app_of("abc")
    api = FakeApi(app.respond)
    sync(of, api, lake)
    before = state(lake)
    for projects in list(app.lists.values())[1:]:
        for record in projects.values():
            record["name"] = "silently"
    report = sync(of, api, lake, Bounds(moment(13), moment(18)))
    changed = {i for i, name in names(lake).items() if name == "silently"}
    assert changed == {"a2", "b0", "b1", "b2", "c0"}
    assert (report.updated, report.deleted) == (5, 0)
    assert state(lake) == before, "no cursor moves"


def test_what_came_meanwhile_is_left_to_the_next_sync(lake: Lake) -> None:
    app = app_of("ab")
    api = FakeApi(app.respond)
    sync(BY_CURSOR, api, lake)
    app.put("/accounts/b/projects", "new", name="new")
    sync(BY_CURSOR, api, lake, Bounds(moment(11), moment(14)))
    assert "new" not in names(lake)
    assert sync(BY_CURSOR, api, lake).created == 1


def test_one_that_was_cut_off_reads_its_window_to_the_end(lake: Lake) -> None:
    app = app_of("abc")
    sync(BY_CURSOR, FakeApi(app.respond), lake)
    for projects in list(app.lists.values())[1:]:
        for record in projects.values():
            record["name"] = "silently"
    bounds = Bounds(moment(11), None)
    with pytest.raises(AppUnavailable):
        sync(BY_CURSOR, FakeApi(app.respond, fail_at=4), lake, bounds)
    sync(BY_CURSOR, FakeApi(app.respond), lake, bounds)
    assert set(names(lake).values()) == {"silently"}


def test_a_window_of_a_list_without_times_is_refused(lake: Lake) -> None:
    of = family_sync(declared("accounts"), declared("projects"))
    with pytest.raises(Fatal, match="its cursor is no time"):
        sync(of, FakeApi(FamilyApp().respond), lake, Bounds(moment(1), moment(2)))
