"""What `ports.Due` promises, in SQLite and PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from membrane_sync.ports import ConnectionRecord, Override, Settled, Timetable
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import read

A = Timetable("a", every_seconds=900)
B = Timetable("b", cron="0 6 * * *", timezone="Europe/Berlin")


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    opened = SqlLedger(url, AesVault(b"a key of the tests"))
    for key in ("acme", "globex", "initech"):
        opened.connect(ConnectionRecord(key, "kinto", key))
    yield opened
    opened.close()


def settled(connection: str, sync: str, due_at: float, result: str = "ok") -> Settled:
    return Settled(connection, sync, due_at, 0, result)


def test_connections_are_planned_once_for_each_version(ledger: SqlLedger) -> None:
    assert [r.key for r in ledger.due.unplanned("1", 2)] == ["acme", "globex"]
    for key in ("acme", "globex", "initech"):
        ledger.due.plan(key, [A, B], "1")
    assert list(ledger.due.unplanned("1", 10)) == []
    assert len(ledger.due.unplanned("2", 10)) == 3


def test_an_override_has_its_connection_planned_anew(ledger: SqlLedger) -> None:
    for key in ("acme", "globex", "initech"):
        ledger.due.plan(key, [A], "1")
    ledger.overrides.keep("acme", [Override("acme", "sync", "a", ("enabled",), value=False)])
    assert [r.key for r in ledger.due.unplanned("1", 10)] == ["acme"]
    ledger.due.plan("acme", [], "1")
    ledger.overrides.reset("acme", "sync", "a")
    assert [r.key for r in ledger.due.unplanned("1", 10)] == ["acme"]


def test_what_is_new_is_due_at_once_and_claimed_once(ledger: SqlLedger) -> None:
    ledger.due.plan("acme", [A, B], "1")
    (batch,) = ledger.due.claim(10, 10, 60)
    items = ledger.due.items(batch)
    assert [(i.connection, i.timetable, i.attempts) for i in items] == [
        ("acme", A, 1),
        ("acme", B, 1),
    ]
    assert list(ledger.due.claim(10, 10, 60)) == []


def test_what_is_settled_is_due_when_it_says(ledger: SqlLedger) -> None:
    ledger.due.plan("acme", [A, B], "1")
    (batch,) = ledger.due.claim(10, 10, 60)
    later = time.time() + 1_000
    ledger.due.settle(batch, [settled("acme", "a", 0.0), settled("acme", "b", later)])
    assert list(ledger.due.items(batch)) == []
    (next_batch,) = ledger.due.claim(10, 10, 60)
    assert [item.sync for item in ledger.due.items(next_batch)] == ["a"]


def test_a_claim_that_runs_out_is_claimed_again_and_counts(ledger: SqlLedger) -> None:
    ledger.due.plan("acme", [A], "1")
    (first,) = ledger.due.claim(10, 10, -1)
    (second,) = ledger.due.claim(10, 10, 60)
    assert [item.attempts for item in ledger.due.items(second)] == [2]
    # The first one, late, has nothing to say any more.
    assert list(ledger.due.items(first)) == []
    ledger.due.settle(first, [settled("acme", "a", 0.0)])
    assert len(ledger.due.items(second)) == 1
    assert list(ledger.due.claim(10, 10, 60)) == []


def test_a_claim_can_be_renewed(ledger: SqlLedger) -> None:
    ledger.due.plan("acme", [A], "1")
    (batch,) = ledger.due.claim(10, 10, -1)
    ledger.due.renew(batch, 60)
    assert list(ledger.due.claim(10, 10, 60)) == []


def test_all_of_a_connection_is_in_one_batch(ledger: SqlLedger) -> None:
    for key in ("acme", "globex", "initech"):
        ledger.due.plan(key, [A, B], "1")
    batches = ledger.due.claim(10, 3, 60)
    found = [{item.connection for item in ledger.due.items(batch)} for batch in batches]
    assert found == [{"acme"}, {"globex"}, {"initech"}]
    assert sum(len(ledger.due.items(batch)) for batch in batches) == 6


def test_what_may_kill_its_batches_gets_one_of_its_own(ledger: SqlLedger) -> None:
    for key in ("acme", "globex", "initech"):
        ledger.due.plan(key, [A], "1")
    for _ in range(2):
        (batch,) = ledger.due.claim(10, 10, -1)
    ledger.due.settle(batch, [settled("acme", "a", 0.0), settled("initech", "a", 0.0)])
    batches = ledger.due.claim(10, 10, 60)
    found = [[item.connection for item in ledger.due.items(batch)] for batch in batches]
    assert sorted(found) == [["acme", "initech"], ["globex"]]


def test_another_timetable_is_due_at_once_and_a_gone_one_never(ledger: SqlLedger) -> None:
    ledger.due.plan("acme", [A, B], "1")
    (batch,) = ledger.due.claim(10, 10, 60)
    later = time.time() + 1_000
    ledger.due.settle(batch, [settled("acme", "a", later), settled("acme", "b", later)])
    ledger.due.plan("acme", [Timetable("a", every_seconds=60)], "2")
    (batch,) = ledger.due.claim(10, 10, 60)
    assert [item.timetable.every_seconds for item in ledger.due.items(batch)] == [60]
    # While it's in flight, a change leaves the claim alone.
    ledger.due.plan("acme", [A], "3")
    assert [item.timetable for item in ledger.due.items(batch)] == [A]
    assert list(ledger.due.claim(10, 10, 60)) == []


def test_many_who_claim_at_once_share(ledger: SqlLedger, url: str) -> None:
    for number in range(40):
        ledger.connect(ConnectionRecord(f"c{number:02}", "kinto", "t"))
        ledger.due.plan(f"c{number:02}", [A], "1")
    claimed: list[str] = []

    def claim() -> None:
        mine = SqlLedger(url, AesVault(b"a key of the tests"))
        for _ in range(4):
            for batch in mine.due.claim(5, 5, 60):
                claimed.extend(item.connection for item in mine.due.items(batch))
        mine.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 40


def test_asking_finds_what_is_due_by_the_index(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = SqlLedger(url, AesVault(b"a key of the tests"))
    ledger.due.plan("acme", [A], "1")
    query = "SELECT * FROM membrane_due WHERE due_at <= 1 ORDER BY due_at LIMIT 10"
    (step,) = read(url, f"EXPLAIN QUERY PLAN {query}")
    assert "USING INDEX ix_membrane_due_due_at" in str(step["detail"])
