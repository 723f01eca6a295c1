"""Every way to page, sort and filter, with ties, empty values, and edits while it's read."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.records import Answer, Call
from membrane_sync.sync.checkpoint import Checkpoints
from membrane_sync.sync.page import read_page
from membrane_sync.sync.pull import Reading, pull
from membrane_sync.sync.source import Source
from membrane_sync.testing import FakeApi, answer

PAGINATIONS: dict[str, dict[str, Any]] = {
    "page": {"type": "page", "parameter": "page"},
    "offset": {"type": "offset", "parameter": "offset"},
    "token": {"type": "cursor", "parameter": "token", "next": {"$var": "$.body.next"}},
    "body": {"type": "offset", "parameter": "at.offset", "location": "body"},
    "header": {"type": "page", "parameter": "x-page", "location": "header"},
    "graphql": {"type": "graphql", "parameter": "after", "page_info": "$.body.info"},
    "next url": {"type": "next_url", "next": {"$var": "$.body.url"}},
}
SORTED = ("ascending", "descending", "none")


def collection(style: str, sorted_: str, *, inclusive: bool, notation: str) -> DataCollection:
    cursor: dict[str, Any] = {"field": "$.at", "type": "timestamp", "sorted": sorted_}
    cursor |= {"inclusive": inclusive, "granularity": "second"}
    if notation == "epoch":
        cursor |= {"format": "epoch_seconds", "formats": ["iso8601"]}
    since = {"since": {"$var": "$.cursor"}}
    method: dict[str, Any] = {"path": "/contacts", "records": "$.body.data", "cursor": cursor}
    if style == "graphql":
        method |= {"graphql": "{ contacts }", "variables": since}
        del method["path"]
    elif style == "body":
        method |= {"method": "POST", "body": since}
    else:
        method["query"] = since
    method["pagination"] = PAGINATIONS[style]
    return DataCollection.model_validate({"key": "contacts", "list": method})


class App:
    """Records with the second of their last change; `between` each two answers some change."""

    def __init__(self, sorted_: str, page_size: int, *, inclusive: bool) -> None:
        self.sorted, self.page_size, self.inclusive = sorted_, page_size, inclusive
        self.records: dict[str, dict[str, Any]] = {}
        self.second = 0
        self.between: Any = lambda: None

    def put(self, name: str, tick: int) -> None:
        self.second += tick
        self.records[name] = {"id": name, "at": stamp(self.second), "n": random.random()}

    def respond(self, call: Call) -> Answer:
        self.between()
        sent = {**call.query, **call.headers, **(call.body or {})}
        sent |= sent.get("variables", {}) | sent.get("at", {})
        if "?" in call.url:
            sent = json.loads(call.url.partition("?")[2])
        since = sent.get("since")
        found = [r for r in self.records.values() if since is None or self.is_asked(r, since)]
        if self.sorted == "none":
            found.sort(key=lambda r: r["id"])
        else:
            found.sort(key=lambda r: (r["at"] or "", r["id"]), reverse=self.sorted == "descending")
        page = int(sent.get("page", sent.get("x-page", 1))) - 1
        known = sent.get("offset") or sent.get("token") or sent.get("after")
        start = int(known or page * self.page_size)
        data, end = found[start : start + self.page_size], start + self.page_size
        body: dict[str, Any] = {"data": data, "info": {"hasNextPage": False}}
        if end < len(found):
            body |= {"next": end, "info": {"hasNextPage": True, "endCursor": str(end)}}
            body["url"] = f"https://app.test/c?{json.dumps({'since': since, 'offset': end})}"
        return answer(body, url="https://app.test/c")

    def is_asked(self, record: dict[str, Any], since: Any) -> bool:
        if record["at"] is None:
            return False
        asked = stamp(since - stamp_of(0)) if isinstance(since, int) else since
        return bool(record["at"] > asked or (self.inclusive and record["at"] == asked))


def stamp(second: int) -> str:
    return f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"


def stamp_of(second: int) -> int:
    return 1767225600 + second


class Reader:
    """Syncs again and again, and keeps what came as a lake does."""

    def __init__(self, of: DataCollection, app: App) -> None:
        self.of, self.app = of, app
        self.cursor: Any = None
        self.kept: dict[str, Any] = {}

    def sync(self) -> Counter[tuple[str, str]]:
        emitted: Counter[tuple[str, str]] = Counter()
        reading = Reading(self.of, "contacts", cursor=self.cursor)
        for page in pull(reading, FakeApi(self.app.respond)):
            for record in page.batch.records:
                self.kept[record.external_id] = json.loads(record.payload)
                emitted[record.external_id, record.payload] += 1
            if page.batch.cursor is not None:
                self.cursor = page.batch.cursor
        return emitted


@settings(max_examples=300, deadline=None)
@given(
    style=st.sampled_from(sorted(PAGINATIONS)),
    sorted_=st.sampled_from(SORTED),
    inclusive=st.booleans(),
    notation=st.sampled_from(["iso", "epoch"]),
    page_size=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    rounds=st.lists(st.integers(0, 15), min_size=1, max_size=4),
    drift=st.booleans(),
)
def test_the_reader_comes_to_the_truth(
    style: str,
    sorted_: str,
    inclusive: bool,
    notation: str,
    page_size: int,
    seed: int,
    rounds: list[int],
    drift: bool,
) -> None:
    # Of a list in no order that moves while it's read, pages can't be told from their neighbours.
    drift = drift and sorted_ != "none"
    chance = random.Random(seed)
    app = App(sorted_, page_size, inclusive=inclusive)
    reader = Reader(collection(style, sorted_, inclusive=inclusive, notation=notation), app)

    def act(times: int) -> None:
        for _ in range(times):
            app.put(f"r{chance.randrange(14):02d}", chance.choice([0, 0, 1]))

    edited = False

    def perhaps() -> None:
        # A list that grows by a page at each request looks as if it ignored the page's number.
        nonlocal edited
        edited = not edited and chance.random() < 0.4
        act(1 if edited else 0)

    for name in range(chance.randrange(3)):
        app.records[f"null{name}"] = {"id": f"null{name}", "at": None}
    for acts in rounds:
        act(acts)
        app.between = perhaps if drift else lambda: None
        reader.sync()
    app.between = lambda: None
    reader.sync()
    emitted = reader.sync()

    truth = app.records
    if sorted_ == "descending" or drift:
        truth = {name: r for name, r in truth.items() if r["at"] is not None}
    assert {name: reader.kept.get(name) for name in truth} == truth
    assert all(times == 1 for times in emitted.values())


@pytest.mark.parametrize("style", sorted(PAGINATIONS))
def test_nothing_comes_twice_in_a_quiet_reading(style: str) -> None:
    app = App("ascending", 3, inclusive=True)
    for number in range(40):
        app.put(f"r{number:02d}", 1 if number % 8 == 0 else 0)
    reader = Reader(collection(style, "ascending", inclusive=True, notation="iso"), app)
    emitted = reader.sync()
    assert len(emitted) == 40 and set(emitted.values()) == {1}


def test_a_page_that_is_filtered_here_still_moves_the_pages() -> None:
    of = collection("page", "ascending", inclusive=True, notation="iso")
    assert of.list_ is not None and of.list_.cursor is not None
    client = of.list_.cursor.model_copy(update={"filtered_by": "client"})
    of = of.model_copy(
        update={"list_": of.list_.model_copy(update={"cursor": client, "query": {}})}
    )
    checkpoints = Checkpoints(of, cursor=stamp(9), full=False)
    steps = checkpoints.steps({})
    assert next(steps).call.query == {"page": 1}
    old = [{"id": "a", "at": stamp(1)}]
    assert [checkpoints.wants(record) for record in old] == [False]
    assert steps.send(read_page(Source(of), answer({"data": old}))).call.query == {"page": 2}
