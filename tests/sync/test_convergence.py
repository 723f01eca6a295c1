"""Whatever happens in the app, and whenever: after a quiet sync all sides hold the app's truth."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.errors import MembraneError
from membrane_sync.records import LinkKey
from membrane_sync.sync.link import new_id
from membrane_sync.sync.run import run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from tests.sync.parts import PAGES, App, collection, parties, resolved

TOMBSTONE = {"tombstone": {"$var": "$.deleted"}}
KEY = LinkKey("people")

SYNCS = {
    "inclusive": resolved(collection(PAGES, {}, deletes=TOMBSTONE)),
    "inclusive with totals": resolved(
        collection({**PAGES, "total_records": {"$var": "$.body.total"}}, {}, deletes=TOMBSTONE)
    ),
    "exclusive and unique": resolved(
        collection(PAGES, {"inclusive": False, "unique": True}, deletes=TOMBSTONE)
    ),
}


class Users:
    """People who create, update and delete, in an order that a seed decides."""

    def __init__(self, app: App, seed: int, *, ties: bool) -> None:
        self.app = app
        self.ties = ties
        self.random = random.Random(seed)

    def act(self, times: int) -> None:
        for _ in range(times):
            tick = self.random.choice([0, 0, 1]) if self.ties else 1
            external_id = f"r{self.random.randrange(12)}"
            if self.random.random() < 0.25 and external_id in self.app.alive():
                self.app.delete(external_id, tick=tick)
            else:
                score = self.random.randrange(5)
                self.app.put(external_id, tick=tick, email=f"{external_id}@x", score=score)

    def perhaps(self) -> None:
        self.act(self.random.choice([0, 0, 0, 1, 2]))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(SYNCS)),
    page_size=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    rounds=st.lists(st.integers(0, 15), min_size=1, max_size=4),
    failures=st.lists(st.one_of(st.none(), st.integers(1, 6)), min_size=4, max_size=4),
)
def test_all_sides_hold_the_truth_after_a_quiet_sync(
    kind: str, page_size: int, seed: int, rounds: list[int], failures: list[int | None]
) -> None:
    exclusive = kind == "exclusive and unique"
    app = App(page_size=page_size, exclusive=exclusive)
    users = Users(app, seed, ties=not exclusive)
    api, lake, destination = FakeApi(app.respond), MemoryLake(), MemoryDestination()
    all_ = parties(api, lake, destination)
    app.between = users.perhaps
    for acts, fail_at in zip(rounds, failures, strict=False):
        users.act(acts)
        api.fail_at = fail_at and api.requests + fail_at
        try:
            run_sync(SYNCS[kind], all_)
        except MembraneError:
            assert fail_at is not None
    app.between = lambda: None
    api.fail_at = None
    run_sync(SYNCS[kind], all_)

    truth = app.alive()
    assert {i: json.loads(text) for i, text in lake.records("contacts").items()} == truth
    assert set(lake.links(KEY, list(app.records))) == set(truth)
    rows = {row["id"]: (row["email"], row["score"]) for row in destination.rows("contacts")}
    expected: dict[str, Any] = {
        new_id("acme_app", "people", i): (record["email"], record["score"])
        for i, record in truth.items()
    }
    assert rows == expected
    assert lake.dead_letters == []

    writes = lake.writes
    assert run_sync(SYNCS[kind], all_).written == 0
    assert lake.writes == writes
