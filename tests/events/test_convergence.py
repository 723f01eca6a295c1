"""Edits, polls that are cut off, and events in any order: the lake comes to the truth, never back.

Events come twice, late and out of order. Whatever is committed of a record is never followed by an
earlier state of it.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from membrane_sync.errors import AppUnavailable
from membrane_sync.events.apply import Applying
from membrane_sync.ports import Lake
from membrane_sync.ports.events import Event
from membrane_sync.records import Answer, Batch, Call, StoreCounts
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake, answer
from tests.sync.parts import PAGES, collection, parties, resolved

IDS = [f"r{n}" for n in range(7)]
PAGE = 2
FIND = {"find_by_id": {"path": "/contacts/{id}", "path_parameters": {"id": {"$var": "$.id"}}}}


def die(_: Batch) -> StoreCounts:
    """Instead of a commit."""
    raise AppUnavailable("it was killed")


class Convergence(RuleBasedStateMachine):
    """One collection; each way in which an app tells of order is a machine of its own."""

    cursor = False
    tells_when = False
    id_only = False
    in_memory = False

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "acme.duckdb"
        self.lake: Lake = MemoryLake() if self.in_memory else DuckDbLake(path)
        self.api = FakeApi(self.respond)
        self.records: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[int | None]] = {i: [None] for i in IDS}
        """The versions of each record in their order, None where it's deleted."""
        self.place = dict.fromkeys(IDS, 0)
        """Which of them the lake has."""
        self.version = 0
        self.sent: list[Event] = []
        self.arrived: list[Event] = []
        self.numbers = 0
        declared: dict[str, Any] = {**FIND, "deletes": {"full_scan": True, "max_share": 1}}
        pages: dict[str, Any] = {**PAGES, "total_pages": {"$var": "$.body.pages"}}
        if self.cursor:
            declared["deletes"] = {"tombstone": {"$var": "$.deleted"}}
        if self.id_only:
            declared["events"] = {"all": {"type": "webhook", "id_only": True}}
        self.sync = resolved(collection(pages, {} if self.cursor else None, **declared))

    def respond(self, call: Call) -> Answer:
        if call.url != "/contacts":
            found = self.records.get(call.url.rpartition("/")[2])
            gone = found is None or found.get("deleted")
            return Answer(404, {}, None) if gone else answer(found)
        page, since = int(call.query.get("page", 1)), call.query.get("since") or 0
        if self.cursor:
            shown = [r for r in self.records.values() if r["at"] >= since]
            shown.sort(key=lambda record: int(record["at"]))
            slots: list[dict[str, Any] | None] = [*shown]
        else:  # Each record has its place, so that no page drifts.
            slots = [self.records.get(name) for name in IDS]
            slots = [r if r and not r.get("deleted") else None for r in slots]
        pages = max(1, -(-len(slots) // PAGE))
        data = [r for r in slots[(page - 1) * PAGE : page * PAGE] if r]
        if not self.cursor:  # A page without a record would be the last one.
            data.append({"id": f"page{page}", "n": 0})
        return answer({"data": data, "pages": pages})

    @rule(name=st.sampled_from(IDS), delete=st.booleans())
    def edit(self, name: str, delete: bool) -> None:
        there = name in self.records and not self.records[name].get("deleted")
        if delete and not there:
            return
        self.version += 1
        self.records[name] = {"id": name, "at": self.version, "n": self.version}
        if delete:
            self.records[name]["deleted"] = True
        self.history[name].append(None if delete else self.version)
        change: Any = "deleted" if delete else "updated" if there else "created"
        payload = "" if delete or self.id_only else json.dumps(self.records[name])
        told = Event("webhook", "record", "contacts", "acme", "acme_app", change=change)
        happened = time.time() if self.tells_when else None
        self.sent.append(replace(told, external_id=name, payload=payload, occurred_at=happened))

    @rule(data=st.data(), twice=st.booleans())
    def arrive(self, data: st.DataObject, twice: bool) -> None:
        if self.sent:
            at = data.draw(st.integers(0, len(self.sent) - 1))
            self.receive(self.sent[at] if twice else self.sent.pop(at))

    def receive(self, event: Event) -> None:
        self.numbers += 1
        now = datetime.now(UTC)
        self.arrived.append(replace(event, id=self.numbers, received_at=now))

    @rule(count=st.integers(1, 5), away=st.booleans())
    def apply(self, count: int, away: bool = False) -> None:
        self.api.fail_at = self.api.requests + 1 if away else None
        all_ = parties(self.api, self.lake, MemoryDestination())
        chunk, rest = self.arrived[:count], self.arrived[count:]
        applied = Applying([self.sync], lambda _: all_, "run").apply(chunk)
        assert not applied.refused and not applied.ignored
        assert away or applied.rest is None
        left = [e for e in chunk if e.id not in applied.done]
        late = [replace(e, attempts=e.attempts + 1) for e in left if e.id in applied.missing]
        # Those of records that weren't found yet are tried again after what comes meanwhile.
        self.arrived = [e for e in left if e.id not in applied.missing] + rest + late
        self.api.fail_at = None
        self.look()

    @rule(after=st.integers(0, 4), killed=st.booleans())
    def poll(self, after: int, killed: bool = False) -> None:
        """To its end, or until the app is away; if it's killed, before anything is committed."""
        self.api.fail_at = self.api.requests + after if after else None
        all_ = parties(self.api, self.lake, MemoryDestination())
        with suppress(AppUnavailable), pytest.MonkeyPatch.context() as patched:
            if killed:
                patched.setattr(self.lake, "store", die)
            pull_and_store(self.sync, all_, new_report(self.sync, all_))
        self.api.fail_at = None
        self.look()

    def held(self) -> dict[str, int]:
        changes = self.lake.changes("contacts", 0, 100_000)
        live = {c.external_id: json.loads(c.payload)["n"] for c in changes if c.payload}
        return {name: version for name, version in live.items() if version}

    def look(self) -> None:
        """Nothing went back."""
        held = self.held()
        for name in IDS:
            known, at = self.history[name], self.place[name]
            has = held.get(name)
            later = [i for i in range(at, len(known)) if known[i] == has]
            assert later, f"{name} went back from {known[at]} to {has}; it was {known}"
            self.place[name] = later[0]

    def teardown(self) -> None:
        if not hasattr(self, "records"):
            return
        for event in self.sent:
            self.receive(event)
        while self.arrived:
            self.apply(3)
        truth = {i: r["n"] for i, r in self.records.items() if not r.get("deleted")}
        assert self.held() == truth
        for _ in range(2):
            self.poll(0)
            assert self.held() == truth
        if isinstance(self.lake, DuckDbLake):
            self.lake.close()
        self.folder.cleanup()


WAYS: dict[str, dict[str, Any]] = {
    "by_the_record": {"cursor": True},
    "by_the_record_and_the_event": {"cursor": True, "tells_when": True},
    "by_the_event": {"tells_when": True},
    "by_asking": {"id_only": True},
}


@pytest.mark.parametrize("lake", ["memory", "duckdb"])
@pytest.mark.parametrize("way", sorted(WAYS))
def test_the_lake_comes_to_the_truth_and_never_goes_back(way: str, lake: str) -> None:
    in_memory = lake == "memory"
    machine = type(f"By_{way}", (Convergence,), {**WAYS[way], "in_memory": in_memory})
    machine.TestCase.settings = settings(
        max_examples=60 if in_memory else 2,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    machine.TestCase("runTest").runTest()
