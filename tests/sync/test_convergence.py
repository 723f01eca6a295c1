"""Whatever happens in the app, and whenever: after a quiet sync all sides hold the app's truth."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from membrane_sync.errors import MembraneError
from membrane_sync.records import Answer, Call, LinkKey
from membrane_sync.sync.link import new_id
from membrane_sync.sync.run import run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake, answer
from tests.sync.parts import PAGES, App, collection, parties, resolved

TOMBSTONE = {"tombstone": {"$var": "$.deleted"}}
KEY = LinkKey("people")


class Turning(App):
    """The app with numbers in disguise: as links of the header, URLs in the body, and tokens."""

    def respond(self, call: Call) -> Answer:
        asked = dict(parse_qsl(call.url.partition("?")[2])) or dict(call.query)
        query: dict[str, Any] = {name: int(value) for name, value in asked.items()}
        found = super().respond(Call("GET", "/contacts", query))
        page = query.get("page", 1)
        if page * self.page_size >= found.body["total"]:
            return found
        url = f"https://app.test/contacts?{urlencode({**query, 'page': page + 1})}"
        more = {"next": url, "token": str(page + 1)}
        return answer({**found.body, **more}, headers={"link": f'<{url}>; rel="next"'})


class Unsorted(App):
    """The app as one that sorts by id, whenever records changed."""

    def respond(self, call: Call) -> Answer:
        sized, self.page_size = self.page_size, 10**6
        shown = super().respond(Call("GET", "/contacts", {**call.query, "page": 1})).body["data"]
        self.page_size = sized
        shown.sort(key=lambda record: record["id"])
        start = (call.query.get("page", 1) - 1) * sized
        return answer({"data": shown[start : start + sized]})


TURNED: dict[str, dict[str, Any]] = {
    "link header": {"type": "link_header"},
    "next url": {"type": "next_url", "next": {"$var": "$.body.next"}},
    "token": {"type": "cursor", "parameter": "page", "next": {"$var": "$.body.token"}},
}
APPS: dict[str, type[App]] = {**dict.fromkeys(TURNED, Turning), "unsorted": Unsorted}

SYNCS = {
    **{name: resolved(collection(by, {}, deletes=TOMBSTONE)) for name, by in TURNED.items()},
    "unsorted": resolved(collection(PAGES, {"sorted": "none"}, deletes=TOMBSTONE)),
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


@settings(max_examples=300, deadline=None)
@example(kind="inclusive", page_size=1, seed=201, rounds=[1, 0, 0], failures=[None] * 4)
@example(kind="inclusive", page_size=1, seed=308, rounds=[1, 0, 0], failures=[None] * 4)
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
    app = APPS.get(kind, App)(page_size=page_size, exclusive=exclusive)
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

    if kind == "unsorted":
        # Its cursor goes on with each sync until all that it asks for comes on one page.
        assert {run_sync(SYNCS[kind], all_).written for _ in app.records} <= {0}
    writes = lake.writes
    assert run_sync(SYNCS[kind], all_).written == 0
    assert lake.writes == writes


@pytest.mark.parametrize("kind", sorted(TURNED))
def test_pages_turned_by_links_and_tokens_push_no_record_out(kind: str) -> None:
    """A record of the first page changes before the second is read: all behind it move up."""
    app = Turning(page_size=3)
    for number in range(9):
        app.put(f"p{number}", email=f"p{number}@x", score=1)
    api, lake = FakeApi(app.respond), MemoryLake()

    def between() -> None:
        if api.requests == 2:
            app.put("p0", email="new@x", score=1)

    app.between = between
    run_sync(SYNCS[kind], parties(api, lake, MemoryDestination()))
    assert set(lake.records("contacts")) == set(app.records)


@pytest.mark.parametrize("query", [{}, {"day": {"$var": "$.none"}}])
def test_a_request_that_leaves_the_cursor_out_is_read_to_its_end(query: dict[str, Any]) -> None:
    of = collection(PAGES, {})
    assert of.list_ is not None
    method = of.list_.model_copy(update={"query": query})
    app = App(page_size=2)
    for number in range(7):
        app.put(f"p{number}", email=f"p{number}@x", score=1)
    api, lake = FakeApi(app.respond), MemoryLake()
    made = resolved(of.model_copy(update={"list_": method}))
    run_sync(made, parties(api, lake, MemoryDestination()))
    assert (set(lake.records("contacts")), len(api.calls)) == (set(app.records), 5)


def test_an_app_that_does_not_heed_the_cursor_is_read_to_its_end() -> None:
    app = App(page_size=2)
    for number in range(7):
        app.put(f"p{number}", email=f"p{number}@x", score=1)

    def heedless(call: Call) -> Answer:
        return app.respond(Call("GET", call.url, {"page": call.query["page"]}))

    lake = MemoryLake()
    made = parties(FakeApi(heedless), lake, MemoryDestination())
    run_sync(SYNCS["inclusive"], made)
    assert set(lake.records("contacts")) == set(app.records)


def test_an_edit_of_what_was_read_from_an_unsorted_list_comes_with_the_next_sync() -> None:
    app = Unsorted(page_size=2)
    for number in range(6):
        app.put(f"p{number}", email=f"p{number}@x", score=1)
    api, lake = FakeApi(app.respond), MemoryLake()

    def between() -> None:
        if api.requests == 2:
            app.put("p0", email="new@x", score=1)
            app.put("p5", email="newer@x", score=1)

    app.between = between
    all_ = parties(api, lake, MemoryDestination())
    run_sync(SYNCS["unsorted"], all_)
    run_sync(SYNCS["unsorted"], all_)
    assert json.loads(lake.records("contacts")["p0"])["email"] == "new@x"
