"""An app that changes as it likes, read now and then: the lake comes to its truth.

Hypothesis chooses what the app's users do, when a sync runs, what goes wrong in the middle of it,
what changes while its pages are read, and what our clock shows beside the app's. The simulator
answers without a network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import AppUnavailable, UnexpectedAnswer
from membrane_sync.records import Answer, Batch, Call, StoreCounts
from membrane_sync.sync import read, resume
from membrane_sync.sync.notation import EPOCH
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from membrane_sync.testing.memory import lake, page_log
from membrane_sync.testing.simulator import STYLES, Collection, Faults, Simulator
from membrane_sync.testing.simulator.project import CONNECTOR
from membrane_sync.testing.simulator.traffic import Dice
from tests.sync.parts import parties, resolved
from tests.sync.simulated import answered

PAGE = 4

DIFFERENCES = [timedelta(0), *(timedelta(hours=h) for h in (-72, -23, -0.02, 0.02, 23))]
"""By how much our clock may be ahead of the app's; more than a day behind it, too."""

IN_WINDOWS = [timedelta(0), *(timedelta(hours=h) for h in (-72, -23, -0.02, 0.07))]
"""Where windows end now, our clock may be behind, but ahead by no more than CLOCKS_DIFFER."""
SPECS = {spec.key: spec for spec in STYLES}


class OurClock(datetime):
    """What our machine shows."""

    shows: datetime | None = None

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) if cls.shows is None else cls.shows.astimezone(tz)


@pytest.fixture(autouse=True)
def _our_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (read, resume, lake, page_log):
        monkeypatch.setattr(module, "datetime", OurClock)
    yield
    OurClock.shows = None


def declared(key: str, cursor: dict[str, Any], **more: Any) -> DataCollection:
    """The packaged declaration with small pages, and some of its cursor changed."""
    path = CONNECTOR / "data_collections" / f"{key}.yaml"
    text: dict[str, Any] = {**yaml.safe_load(path.read_text(encoding="utf-8")), **more}
    if "page_size" in text["list"].get("pagination", {}):
        text["list"]["pagination"]["page_size"] = PAGE
    text["list"]["cursor"] |= cursor
    if text["deletes"].get("full_scan"):
        text["deletes"]["max_share"] = 1
    return DataCollection.model_validate({"key": "contacts", **text})


class FeedLake(MemoryLake):
    """A lake that holds each entry of its feed against what it had before."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def store(self, batch: Batch) -> StoreCounts:
        before = self.records(batch.stream)
        counts = super().store(batch)
        self.check(before)
        return counts

    def finish_scan(self, stream: str, *more: Any, **named: Any) -> StoreCounts:
        before = self.records(stream)
        counts = super().finish_scan(stream, *more, **named)
        self.check(before)
        return counts

    def check(self, before: dict[str, str]) -> None:
        new = self.changes("contacts", self.read, 10_000)
        after = self.records("contacts")
        assert max(Counter(change.external_id for change in new).values(), default=1) == 1
        for change in new:
            was, now = before.get(change.external_id), after.get(change.external_id)
            kind = "created" if was is None else "deleted" if now is None else "updated"
            assert change.kind == kind and was != now, change
            self.read = change.seq
        changed = {i for i in {*before, *after} if before.get(i) != after.get(i)}
        assert changed == {change.external_id for change in new}


class Reading(RuleBasedStateMachine):
    """One collection of the app and one lake; each style of reading is a machine of its own."""

    key = "contacts"
    switches: dict[str, Any] = {}  # noqa: RUF012 – each style's own
    declares: dict[str, Any] = {}  # noqa: RUF012
    cursor: dict[str, Any] = {}  # noqa: RUF012
    differences: list[timedelta] = DIFFERENCES
    steps_back = 0.0
    """By how many seconds the app's clock may be set back without anything being lost.

    It isn't again before it shows what it has shown: the lag covers one step.
    """
    behind = 0.0
    drift: tuple[str, ...] = ("edit", "create", "delete")
    rests = 0.0
    """How many seconds pass before a sync that must find everything."""

    @initialize(seed=st.integers(0, 999), records=st.integers(0, 20), ties=st.integers(1, 5))
    def begin(self, seed: int, records: int, ties: int) -> None:
        spec = SPECS[self.key]
        more = {"records": records, "per_moment": ties if spec.per_moment == 1 else spec.per_moment}
        if self.key == "exclusive":
            more["per_moment"] = 1
        spec = Collection.model_validate({**spec.model_dump(), **more, **self.switches})
        self.app = Simulator(seed=seed, collections=[spec])
        self.table = self.app.tables[self.key]
        self.lake, self.api = FeedLake(), FakeApi(self.respond)
        self.sync = resolved(declared(self.key, self.cursor, **self.declares))
        self.ahead = timedelta(0)
        self.scans = self.sync.collection.deletes.full_scan
        self.fail: tuple[int, Exception] | None = None

    def respond(self, call: Call) -> Answer:
        if self.fail is not None:
            left, error = self.fail
            self.fail = None if not left else (left - 1, error)
            if not left:
                raise error
        return answered(self.app, call)

    def read(self, *, full: bool = False) -> None:
        OurClock.shows = EPOCH + timedelta(microseconds=self.app.now) + self.ahead
        all_ = parties(self.api, self.lake, MemoryDestination())
        report = new_report(self.sync, all_)
        pull_and_store(self.sync, all_, report, mode="full" if full else "incremental")

    @rule(count=st.integers(1, 6), together=st.booleans())
    def create(self, count: int, together: bool) -> None:
        self.app.create(self.key, count, together=together and self.key != "exclusive")

    @rule(count=st.integers(1, 6), together=st.booleans())
    def edit(self, count: int, together: bool) -> None:
        self.app.edit(self.key, count, together=together and self.key != "exclusive")

    @rule(count=st.integers(1, 3))
    def delete(self, count: int) -> None:
        self.app.delete(self.key, count)

    @rule()
    def undelete(self) -> None:
        alive = self.app.truth(self.key)
        ids = [f"{self.key}-{n:08d}" for n in range(self.table.count)]
        gone = [i for i in ids if i not in alive]
        self.app.undelete(self.key, gone[:2])

    @rule(seconds=st.sampled_from([0.05, 1, 7]))
    def wait(self, seconds: float) -> None:
        self.app.tick(seconds)
        self.behind = max(0.0, self.behind - seconds)

    @rule(data=st.data())
    def our_clock_jumps(self, data: st.DataObject) -> None:
        self.ahead = data.draw(st.sampled_from(self.differences))

    @rule()
    def the_apps_clock_is_set_back(self) -> None:
        if self.steps_back and not self.behind:
            self.behind = self.steps_back
            self.app.tick(-self.behind)

    @rule(every=st.integers(0, 3))
    def sync_while_it_changes(self, every: int) -> None:
        if every and self.drift:
            faults = Faults(drift_every=every + 1, drift_kinds=self.drift)
            self.app.dice = Dice(faults, self.app.seed)
        self.read()
        self.app.dice = Dice(Faults(), self.app.seed)

    @rule(
        after=st.integers(0, 4),
        error=st.sampled_from([AppUnavailable, UnexpectedAnswer, KeyboardInterrupt]),
        full=st.booleans(),
    )
    def sync_that_fails(self, after: int, error: Any, full: bool) -> None:
        self.fail = (after, error("the app is away"))
        with suppress(AppUnavailable, UnexpectedAnswer, KeyboardInterrupt):
            self.read(full=full)
        self.fail = None

    @rule()
    def full_sync(self) -> None:
        self.read(full=True)

    @rule()
    def quiet_sync(self) -> None:
        self.app.settle()
        self.app.tick(self.rests)
        if self.differences is IN_WINDOWS:
            # What isn't older than our clock comes when that has caught up.
            self.ahead = timedelta(seconds=1)
        self.read(full=self.scans)
        if self.scans:
            # One that a cut-off reading had begun shows what was there then.
            self.read(full=True)
        found = {i: json.loads(text) for i, text in self.lake.records("contacts").items()}
        assert found == self.app.truth(self.key)

    def teardown(self) -> None:
        if hasattr(self, "lake"):
            self.quiet_sync()


TOMBSTONES: dict[str, Any] = {
    "switches": {"deletes": "tombstone"},
    "declares": {"deletes": {"tombstone": {"$var": "$.deleted"}}},
}
MACHINES: dict[str, dict[str, Any]] = {
    "contacts": {},
    "by_page": {},
    "by_offset": {},
    "by_link": {},
    "by_keyset": {},
    "silent": {},
    "exclusive": {},
    "by_millisecond": {},
    "late": {"steps_back": 0.5},
    "descending": {"drift": ()},
    "descending, never scanned": {"key": "descending", **TOMBSTONES},
    "filtered here": {
        "key": "descending",
        "cursor": {"filtered_by": "client", "lag_seconds": 1},
        **TOMBSTONES,
    },
    "unsorted": {"drift": ()},
    "delta": {},
    "delta that expires": {"key": "delta", "switches": {"delta_changes": 3}},
    "delta with scans": {
        "key": "delta",
        "switches": {"delta_changes": 2, "deletes": "silent"},
        "declares": {"deletes": {"full_scan": True, "tombstone": {"$var": "$.deleted"}}},
    },
    "late, settled": {
        "key": "late",
        "cursor": {"lag_seconds": 0, "settle": {"seconds": 6, "every_seconds": 2}},
        "differences": [timedelta(0)],
        "rests": 3.0,
    },
    "deleted_endpoint": {},
    "skewed": {**TOMBSTONES, "steps_back": 0.5},
    "windowed": {**TOMBSTONES, "differences": IN_WINDOWS},
}
"""Styles; of a list in no order that moves while it's read, pages can't be told apart."""


@pytest.mark.parametrize("key", sorted(MACHINES))
def test_it_comes_to_the_truth(key: str) -> None:
    machine = type("Reading_of_a_style", (Reading,), {"key": key, **MACHINES[key]})
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    limits = settings(
        max_examples=30, stateful_step_count=15, deadline=None, suppress_health_check=slow
    )
    state_machine = machine.TestCase
    state_machine.settings = limits
    state_machine("runTest").runTest()
