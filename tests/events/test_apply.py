"""Events take effect in a real lake, whatever their order, and once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest

from membrane_sync.elements.sync import Sync
from membrane_sync.errors import AppUnavailable, DestinationError, RateLimited
from membrane_sync.events.apply import Applied, Applying
from membrane_sync.ports.events import Event
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.run import run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, answer
from tests.sync.parts import PAGES, App, collection, declared_sync, parties, resolved

FIND = {"find_by_id": {"path": "/contacts/{id}", "path_parameters": {"id": {"$var": "$.id"}}}}
TOMBSTONES = {"deletes": {"tombstone": {"$var": "$.deleted"}}}


@dataclass
class World:
    """An app, a lake, and events that tell the one of the other."""

    lake: DuckDbLake
    sync: ResolvedSync
    app: App = field(default_factory=App)
    destination: MemoryDestination = field(default_factory=MemoryDestination)
    api: FakeApi = field(init=False)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    others: list[ResolvedSync] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = FakeApi(self.respond)

    def respond(self, call: Call) -> Answer:
        if call.url == "/contacts":
            return self.app.respond(call)
        found = self.app.alive().get(call.url.rpartition("/")[2])
        return answer(found) if found else Answer(404, {}, None)

    def poll(self, **more: Any) -> None:
        run_sync(self.sync, parties(self.api, self.lake, self.destination), **more)

    def apply(self, *events: Event) -> Applied:
        all_ = parties(self.api, self.lake, self.destination)
        return Applying([self.sync, *self.others], lambda _: all_, "run-1").apply(events)

    def event(self, change: Any, record: Any = None, **more: Any) -> Event:
        """The next event, of a record or of an id alone."""
        external_id = record if isinstance(record, str) else record["id"]
        payload = "" if isinstance(record, str) else json.dumps(record)
        told = Event("webhook", "record", "contacts", "acme", "acme_app", change=change)
        number, moment = next(self.numbers), datetime.now(UTC)
        told = replace(told, external_id=external_id, payload=payload, id=number)
        return replace(told, received_at=moment, **more)

    def lake_records(self) -> dict[str, Any]:
        rows = self.lake.select(
            "SELECT _external_id, _payload FROM records.contacts WHERE _deleted_at IS NULL"
        ).to_pylist()
        return {row["_external_id"]: json.loads(row["_payload"]) for row in rows}

    def feed(self) -> list[tuple[str, str]]:
        return [(c.external_id, c.kind) for c in self.lake.changes("contacts", 0, 10_000)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    opened: list[DuckDbLake] = []

    def make(*, cursor: bool = True, sync: Sync | None = None, **declared: Any) -> World:
        lake = DuckDbLake(tmp_path / "acme_app.duckdb")
        opened.append(lake)
        of = collection(PAGES, {} if cursor else None, **declared)
        return World(lake, resolved(of, sync=sync))

    yield make
    for lake in opened:
        lake.close()


def test_a_record_goes_through_to_the_products_database_and_twice_changes_nothing(
    world: Callable[..., World],
) -> None:
    w = world()
    event = w.event("created", {"id": "a", "at": 1, "email": "a@x.org", "score": 3})
    first = w.apply(event)
    assert (first.done, first.refused, first.rest) == ([event.id], {}, None)
    assert (first.reports["contacts"].created, first.reports["contacts"].delivered) == (1, 1)
    again = w.apply(event)
    assert again.done == [event.id]
    assert again.reports["contacts"].written == 0
    assert w.feed() == [("a", "created")]
    assert w.api.calls == []


def test_of_many_events_of_one_record_the_newest_counts_and_it_is_written_once(
    world: Callable[..., World],
) -> None:
    w = world(cursor=False)
    events = [
        w.event("updated", {"id": "a", "n": 2}, occurred_at=2.0),
        w.event("updated", {"id": "a", "n": 3}, occurred_at=3.0),
        w.event("created", {"id": "a", "n": 1}, occurred_at=1.0),
        w.event("deleted", "b", occurred_at=9.0),
        w.event("created", {"id": "b", "n": 1}, occurred_at=8.0),
    ]
    applied = w.apply(*events)
    assert applied.done == [event.id for event in events]
    assert w.lake_records() == {"a": {"id": "a", "n": 3}}
    late = w.event("updated", {"id": "b", "n": 2}, occurred_at=8.5)
    assert w.apply(late).done == [late.id]
    back = w.event("created", {"id": "b", "n": 3}, occurred_at=9.5)
    w.apply(back)
    assert w.feed() == [("a", "created"), ("b", "created")]


def test_what_is_older_by_the_records_own_word_changes_nothing(
    world: Callable[..., World],
) -> None:
    w = world()
    w.app.put("a", n=1)
    w.app.put("a", n=2)
    w.poll()
    late = w.event("updated", {"id": "a", "at": 1, "n": 1}, occurred_at=99.0)
    assert w.apply(late).done == [late.id]
    assert w.lake_records()["a"]["n"] == 2
    assert w.feed() == [("a", "created")]


def test_an_id_alone_is_asked_for_once_however_often_it_came(
    world: Callable[..., World],
) -> None:
    w = world(**FIND)
    w.app.put("a", n=1)
    w.app.put("b", n=1)
    events = [w.event("updated", name) for name in ("a", "b", "a", "a", "gone")]
    applied = w.apply(*events)
    assert sorted(applied.done) == [event.id for event in events]
    assert w.lake_records() == w.app.alive()
    assert sorted(call.url for call in w.api.calls) == [
        "/contacts/a",
        "/contacts/b",
        "/contacts/gone",
    ]
    w.app.delete("a")
    w.apply(w.event("updated", "a"))
    assert w.lake_records().keys() == {"b"}


def test_without_a_way_to_ask_for_one_the_list_is_read_on(world: Callable[..., World]) -> None:
    w = world()
    w.app.put("a", n=1)
    event = w.event("updated", "a")
    assert w.apply(event).done == [event.id]
    assert w.lake_records() == w.app.alive()


def test_a_declaration_of_ids_alone_never_takes_the_payload(world: Callable[..., World]) -> None:
    events = {"events": {"all": {"type": "webhook", "id_only": True}}}
    w = world(**FIND, **events)
    w.app.put("a", n=1, email="a@x.org")
    w.apply(w.event("updated", {"id": "a", "n": 1}))
    assert w.lake_records() == w.app.alive()


def test_where_nothing_tells_the_order_and_a_poll_came_between_the_app_is_asked(
    world: Callable[..., World],
) -> None:
    w = world(cursor=False, **FIND)
    event = w.event("updated", {"id": "a", "n": 1})
    w.app.put("a", n=2)
    w.poll()
    w.api.calls.clear()
    w.apply(event)
    assert [call.url for call in w.api.calls] == ["/contacts/a"]
    assert w.lake_records() == w.app.alive()


def test_and_without_a_way_to_ask_the_poll_counts(world: Callable[..., World]) -> None:
    w = world(cursor=False)
    event = w.event("updated", {"id": "a", "n": 1})
    w.app.put("a", n=2)
    w.poll()
    assert w.apply(event).done == [event.id]
    assert w.lake_records()["a"]["n"] == 2


def test_an_update_that_comes_after_a_deletion_does_not_bring_the_record_back(
    world: Callable[..., World],
) -> None:
    w = world(cursor=False)
    w.apply(w.event("created", {"id": "a", "n": 1}))
    w.apply(w.event("deleted", "a"))
    w.apply(w.event("updated", {"id": "a", "n": 2}))
    assert w.lake_records() == {}
    w.apply(w.event("created", {"id": "a", "n": 3}))
    assert w.lake_records()["a"]["n"] == 3


def test_an_app_that_is_down_rests_the_queue_and_costs_no_attempt(
    world: Callable[..., World],
) -> None:
    w = world(**FIND)
    w.api.fail_at, w.api.error = 1, RateLimited("wait", retry_after=7)
    plain = w.event("created", {"id": "a", "at": 1, "n": 1})
    asked = w.event("updated", "b")
    applied = w.apply(plain, asked)
    assert applied.done == [plain.id]
    assert applied.refused == {}
    assert isinstance(applied.rest, RateLimited)


def test_one_that_makes_no_sense_holds_nobody_up(world: Callable[..., World]) -> None:
    w = world()
    fine = w.event("created", {"id": "a", "at": 1})
    nonsense = [
        replace(w.event("updated", "x"), payload="{no json"),
        replace(w.event("updated", "x"), payload='{"n": 1}'),
        replace(w.event("updated", "x"), payload='{"id": "y"}'),
        replace(w.event("updated", "x"), external_id=""),
    ]
    applied = w.apply(*nonsense, fine)
    assert applied.done == [fine.id]
    assert applied.refused.keys() == {event.id for event in nonsense}
    assert all(applied.refused.values())
    stranger = replace(w.event("updated", "x"), name="companies")
    assert w.apply(stranger).ignored == [stranger.id]


def test_what_the_products_database_refuses_to_hear_of_is_tried_again(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    event = w.event("created", {"id": "a", "at": 1, "email": "a@x.org"})

    def fail(*_: Any) -> None:
        raise DestinationError("no such table")

    with monkeypatch.context() as broken:
        broken.setattr(w.destination, "prepare", fail)
        applied = w.apply(event)
    assert applied.done == []
    assert "no such table" in applied.refused[event.id]
    applied = w.apply(event)
    assert applied.done == [event.id]
    assert applied.reports["contacts"].delivered == 1


def test_triggers_run_their_sync_once_a_chunk(world: Callable[..., World]) -> None:
    triggered = declared_sync(
        triggers=[{"internal_event": "signup"}, {"external_event": "account_changed"}]
    )
    w = world(sync=triggered)
    w.app.put("a", n=1)
    signup = Event("internal", "internal", "signup", "acme", "acme_app")
    events = [replace(signup, id=number) for number in (1, 2, 3)]
    events.append(replace(signup, kind="external", name="account_changed", id=4))
    unknown = replace(signup, name="logout", id=5)
    applied = w.apply(*events, unknown)
    assert applied.done == [1, 2, 3, 4]
    assert applied.ignored == [5]
    assert [call.query for call in w.api.calls].count({"page": 1}) == 1
    assert w.lake_records() == w.app.alive()
    w.api.fail_at = w.api.requests + 1
    applied = w.apply(replace(signup, id=6))
    assert isinstance(applied.rest, AppUnavailable)
    assert (applied.done, applied.refused) == ([], {})


def tried(event: Event, attempts: int) -> Event:
    return replace(event, attempts=attempts)


def test_a_created_record_that_is_not_found_yet_is_asked_for_again_before_it_is_gone(
    world: Callable[..., World],
) -> None:
    w = world(**FIND)
    told, other = w.event("created", "a"), w.event("updated", "a")
    for attempts in range(3):
        applied = w.apply(tried(told, attempts), other)
        assert applied.missing.keys() == {told.id, other.id}
        assert (applied.done, applied.refused, applied.rest) == ([], {}, None)
    assert w.feed() == []
    w.app.put("a", n=1)
    assert w.apply(tried(told, 2), other).done == [told.id, other.id]
    assert w.lake_records() == w.app.alive()

    never = w.event("created", "b")
    assert w.apply(tried(never, 2)).missing.keys() == {never.id}
    applied = w.apply(tried(never, 3))
    assert (applied.done, applied.missing) == ([never.id], {})
    assert w.feed() == [("a", "created")]


def test_what_was_told_to_be_deleted_is_gone_at_once(world: Callable[..., World]) -> None:
    w = world(cursor=False, **FIND)
    w.app.put("a", n=1)
    w.apply(w.event("created", "a"))
    w.app.delete("a")
    gone = [w.event("deleted", "a"), w.event("created", "b"), w.event("deleted", "b")]
    applied = w.apply(*gone)
    assert (applied.done, applied.missing) == ([event.id for event in gone], {})
    # The creation comes after the deletion, and was before it.
    late = replace(w.event("created", "a"), id=1)
    assert w.apply(late).missing == {}
    assert w.feed() == [("a", "created"), ("a", "deleted")]


def test_an_update_of_a_record_that_is_not_found_deletes_it_at_once(
    world: Callable[..., World],
) -> None:
    w = world(**FIND)
    w.app.put("a", n=1)
    w.apply(w.event("created", "a"))
    w.app.delete("a")
    event = w.event("updated", "a")
    assert w.apply(event).done == [event.id]
    assert w.feed() == [("a", "created"), ("a", "deleted")]


@pytest.mark.parametrize(("retries", "is_missing"), [(0, False), (1, True)])
def test_how_often_it_is_asked_for_again_is_declared(
    world: Callable[..., World], retries: int, is_missing: bool
) -> None:
    declared = {"type": "webhook", "not_found_retries": retries}
    w = world(**FIND, events={"created": declared, "updated": {"type": "webhook"}})
    applied = w.apply(w.event("created", "a"))
    assert bool(applied.missing) == is_missing


def test_an_event_from_before_the_app_was_asked_does_not_take_the_answers_place(
    world: Callable[..., World],
) -> None:
    """The app had answered a later state than that of the event on whose account it was asked."""
    w = world(cursor=False, **FIND)
    w.apply(w.event("created", {"id": "a", "n": 1}, occurred_at=time.time()))
    moments = [time.time() + number / 1_000 for number in range(3)]
    events = [w.event("updated", {"id": "a", "n": n}, occurred_at=t) for n, t in enumerate(moments)]
    w.app.put("a", n=2)
    told = w.event("updated", "a", occurred_at=moments[0])
    while time.time() <= moments[-1]:
        time.sleep(0.001)
    w.apply(told)
    w.api.calls.clear()
    for event in events:
        assert w.apply(event).done == [event.id]
        assert w.lake_records()["a"]["n"] == 2
    later = w.event("updated", {"id": "a", "n": 3}, occurred_at=time.time() + 1)
    asked = len(w.api.calls)
    assert w.apply(later).done == [later.id]
    assert (w.lake_records()["a"]["n"], len(w.api.calls)) == (3, asked)


def test_a_lake_of_before_gets_what_its_marks_lack(
    world: Callable[..., World], tmp_path: Path
) -> None:
    w = world(cursor=False, **FIND)
    w.apply(w.event("created", {"id": "a", "n": 1}, occurred_at=1.0))
    w.lake.close()
    with duckdb.connect(str(tmp_path / "acme_app.duckdb")) as file:
        file.execute("ALTER TABLE event_marks DROP COLUMN asked_at")
    w.lake = DuckDbLake(tmp_path / "acme_app.duckdb")
    w.app.put("a", n=2)
    told = w.event("updated", "a")
    assert w.apply(told).done == [told.id]
    known = w.lake.known("contacts", ["a"])["a"]
    assert known.mark is not None and known.mark.event == told.id
    assert known.mark.asked_at is not None and known.mark.occurred_at == 1.0
    w.lake.close()


def test_a_deletion_of_an_earlier_life_does_not_take_the_later_one(
    world: Callable[..., World],
) -> None:
    """It came after the creation that it was before, and neither says when it was."""
    w = world(cursor=False, **FIND)
    w.app.put("a", n=2)
    told = [w.event("created", "a"), w.event("deleted", "a")]
    assert w.apply(*told).done == [event.id for event in told]
    assert w.lake_records() == w.app.alive()


def test_a_creation_that_comes_after_its_deletion_does_not_bring_the_record_back(
    world: Callable[..., World],
) -> None:
    w = world(cursor=False, **FIND)
    w.apply(w.event("deleted", "a"))
    late = replace(w.event("created", {"id": "a", "n": 1}), attempts=3)
    assert w.apply(late).done == [late.id]
    assert w.lake_records() == {}
    w.app.put("a", n=2)
    w.apply(w.event("created", {"id": "a", "n": 2}))
    assert w.lake_records() == w.app.alive()
