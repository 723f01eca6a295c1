"""What `ports.events.Inbox` promises, in SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from membrane_sync.errors import LedgerUnavailable
from membrane_sync.ports.events import Arrival, Event, Failure, Put, Webhook
from membrane_sync.ports.subscriptions import Subscription
from membrane_sync.stores.ledger.inbox import FETCHED_BYTES
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import read

ONE = Event("webhook", "record", "contacts", "acme", "acme", change="updated", external_id="1")
HOOK = Webhook("webhook", "a-subscription", b'{"id": 1}', {"content-type": "application/json"})


def put(ledger: SqlLedger, *events: Event, webhook: Webhook | None = None) -> Put:
    return ledger.inbox.put([Arrival(webhook, events)])[0]


def claim(ledger: SqlLedger) -> list[str]:
    return list(ledger.inbox.claim(100, 10, 60))


def test_events_come_in_their_order_and_are_gone_when_settled(ledger: SqlLedger) -> None:
    first = put(ledger, ONE, replace(ONE, external_id="2"), webhook=HOOK)
    assert put(ledger, replace(ONE, connection="globex", external_id="3")).duplicates == 0
    assert ledger.inbox.waiting() == 3
    (batch,) = claim(ledger)
    assert [queue.connection for queue in ledger.inbox.queues(batch)] == ["acme", "globex"]
    found = ledger.inbox.pending("acme", 10)
    assert [event.external_id for event in found] == ["1", "2"]
    assert [event.webhook for event in found] == [first.webhook] * 2
    ledger.inbox.settle([event.id for event in found], [], "run-1")
    assert ledger.inbox.pending("acme", 10) == []
    ledger.inbox.release(batch, "acme")
    ledger.inbox.release(batch, "globex")
    (again,) = claim(ledger)
    assert [queue.connection for queue in ledger.inbox.queues(again)] == ["globex"]


def test_as_many_are_given_as_their_bytes_allow(ledger: SqlLedger) -> None:
    told = [replace(ONE, payload="x" * 100) for _ in range(4)]
    put(ledger, *told, ONE, ONE)
    pending = ledger.inbox.pending

    def given(*bounds: int) -> int:
        return len(pending("acme", *bounds))

    assert [given(10), given(3), given(10, 250), given(10, 1)] == [6, 3, 3, 1]
    ledger.inbox.settle([event.id for event in pending("acme", 4)], [], "")
    # Those that say only an id count for the record that is to be fetched.
    assert [given(10, FETCHED_BYTES), given(10, FETCHED_BYTES + 1)] == [1, 2]


def test_to_read_what_waits_is_not_to_wait_for_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{path}?timeout=0.1", AesVault(b"a key of the tests"))
    put(ledger, ONE)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert len(ledger.inbox.pending("acme", 10)) == 1
        assert len(ledger.event_log(None).events(0, 10)) == 1
        with pytest.raises(LedgerUnavailable):
            put(ledger, ONE)
    ledger.close()


def test_what_comes_again_is_one(ledger: SqlLedger, url: str) -> None:
    event = replace(ONE, dedupe_key="evt-1", dedupe_seconds=60.0)
    twice = ledger.inbox.put([Arrival(HOOK, [event]), Arrival(HOOK, [event, ONE])])
    assert [(len(one.events), one.duplicates) for one in twice] == [(1, 0), (1, 1)]
    assert put(ledger, event, webhook=HOOK) == Put(None, [], 1)
    assert put(ledger, replace(event, connection="globex")).duplicates == 0
    assert len(read(url, "SELECT id FROM membrane_webhooks")) == 2


def test_after_its_window_an_event_is_new(ledger: SqlLedger) -> None:
    event = replace(ONE, dedupe_key="evt-1", dedupe_seconds=0.0)
    assert [put(ledger, event).duplicates for _ in range(2)] == [0, 0]


def test_what_is_unmatched_is_kept_to_look_at(ledger: SqlLedger, url: str) -> None:
    put(ledger, webhook=replace(HOOK, status="unmatched"))
    put(ledger, webhook=HOOK)
    assert [row["status"] for row in read(url, "SELECT status FROM membrane_webhooks")] == [
        "unmatched"
    ]
    assert claim(ledger) == []


def test_a_queue_is_claimed_by_one(ledger: SqlLedger) -> None:
    put(ledger, ONE)
    (batch,) = claim(ledger)
    put(ledger, ONE)
    assert claim(ledger) == []
    ledger.inbox.release(batch, "acme")
    assert len(claim(ledger)) == 1


def test_a_claim_that_ran_out_is_anyones_and_no_more_the_first_ones(ledger: SqlLedger) -> None:
    put(ledger, ONE)
    (lost,) = ledger.inbox.claim(1, 1, 0)
    (batch,) = claim(ledger)
    assert ledger.inbox.queues(lost) == []
    ledger.inbox.release(lost, "acme", again_at=time.time() + 60)
    assert [queue.connection for queue in ledger.inbox.queues(batch)] == ["acme"]


def test_a_failed_event_comes_again_when_it_may_and_then_is_dead(
    ledger: SqlLedger, url: str
) -> None:
    ids = put(ledger, ONE, ONE).events
    (batch,) = claim(ledger)
    ledger.inbox.settle([], [Failure(i, "no such field", time.time() + 60) for i in ids[:1]], "r1")
    ledger.inbox.settle([], [Failure(ids[1], "no such field", None)], "r1")
    assert ledger.inbox.pending("acme", 10) == []
    ledger.inbox.release(batch, "acme")
    assert claim(ledger) == []
    rows = read(url, "SELECT status, attempts, runs FROM membrane_events ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("pending", 1, " r1"), ("dead", 1, " r1")]


def test_a_queue_that_failed_rests_though_more_comes(ledger: SqlLedger) -> None:
    put(ledger, ONE)
    (batch,) = claim(ledger)
    ledger.inbox.release(batch, "acme", again_at=time.time() + 60)
    put(ledger, ONE)
    assert claim(ledger) == []


def test_those_of_a_paused_connection_wait(ledger: SqlLedger) -> None:
    put(ledger, ONE)
    ledger.set_status("acme", "paused", "")
    assert claim(ledger) == []
    ledger.set_status("acme", "ready", "")
    assert len(claim(ledger)) == 1


def test_nothing_is_left_behind_while_many_add_and_many_take(ledger: SqlLedger) -> None:
    """Whoever lets go of a queue sees what was added until then, or is seen by who adds."""
    total, taken, lock = 200, list[int](), threading.Lock()

    def add(thread: int) -> None:
        for n in range(total // 4):
            put(ledger, replace(ONE, external_id=f"{thread}-{n}"))

    def take() -> None:
        deadline = time.monotonic() + 60
        while len(taken) < total and time.monotonic() < deadline:
            for batch in ledger.inbox.claim(1, 1, 60):
                for queue in ledger.inbox.queues(batch):
                    found = [event.id for event in ledger.inbox.pending(queue.connection, 7)]
                    ledger.inbox.settle(found, [], "")
                    with lock:
                        taken.extend(found)
                    ledger.inbox.release(batch, queue.connection)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == total
    assert ledger.inbox.waiting() == 0


def test_subscriptions_are_found_by_selector_and_kept_sealed(ledger: SqlLedger, url: str) -> None:
    mine = Subscription(
        "k1",
        "acme",
        "acme",
        {"stream": "contacts"},
        "subscribed",
        global_webhook="hubspot/all",
        selector="42",
        state={"id": "sub-9000"},
        secret="the-signing-secret",
    )
    other = replace(mine, key="k2", connection="globex", tenant="globex", selector="43")
    for one in (mine, other):
        ledger.subscriptions.keep(one)
    assert ledger.subscriptions.get("k1") == mine
    assert ledger.subscriptions.matching("hubspot/all", ["42", "44"]) == {"42": [mine]}
    assert "9000" not in str(read(url, "SELECT * FROM membrane_subscriptions"))
    assert "the-signing" not in str(read(url, "SELECT * FROM membrane_subscriptions"))
    ledger.subscriptions.keep(replace(mine, status="error"))
    assert [one.status for one in ledger.subscriptions.of_connection("acme")] == ["error"]
    ledger.subscriptions.drop("k1")
    assert ledger.subscriptions.get("k1") is None


def test_a_worker_says_that_it_is_there_and_leaves_what_is_overdue_to_others(
    ledger: SqlLedger,
) -> None:
    inbox = ledger.inbox
    assert not inbox.is_attended()
    inbox.attend(60)
    inbox.attend(60)
    assert inbox.is_attended()
    put(ledger, ONE)
    assert inbox.claim(10, 10, 60, overdue=30) == []
    assert len(inbox.claim(10, 10, 60, overdue=0)) == 1
    inbox.attend(0)
    assert not inbox.is_attended()


def test_claims_that_ran_out_are_counted_until_the_queue_is_let_go(ledger: SqlLedger) -> None:
    put(ledger, ONE)
    for deaths in range(3):
        (batch,) = ledger.inbox.claim(1, 1, 0)
        assert [queue.deaths for queue in ledger.inbox.queues(batch)] == [deaths]
    ledger.inbox.release(batch, "acme")
    (batch,) = ledger.inbox.claim(1, 1, 60)
    assert [queue.deaths for queue in ledger.inbox.queues(batch)] == [0]


def test_what_nothing_asks_for_is_ignored(ledger: SqlLedger, url: str) -> None:
    first, second = put(ledger, ONE, replace(ONE, external_id="2")).events
    ledger.inbox.settle([first], [], "run-1", ignored=[second])
    statuses = read(url, "SELECT status FROM membrane_events ORDER BY id")
    assert [row["status"] for row in statuses] == ["done", "ignored"]
