"""What `ports.events.EventLog` promises, in SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.errors import NotFound
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.event_log import EventFilter, WebhookCount
from membrane_sync.ports.events import Arrival, Event, Failure, Webhook
from membrane_sync.stores.ledger import event_retention
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import read, run

ONE = Event("webhook", "record", "contacts", "acme", "acme", change="updated", payload='{"a": 1}')
HOOK = Webhook("webhook", "a-key", b"\x00raw", {"content-type": "text/plain"}, {"q": "1"})


def put(ledger: SqlLedger, *events: Event, webhook: Webhook | None = None) -> list[int]:
    return list(ledger.inbox.put([Arrival(webhook, events)])[0].events)


def fail(ledger: SqlLedger, ids: list[int], *, dead: bool = True) -> None:
    again = None if dead else time.time() + 3600
    ledger.inbox.settle([], [Failure(id, "no such field", again) for id in ids], "run-1")


def listed(ledger: SqlLedger, **which: Any) -> list[int]:
    return [e.id for e in ledger.event_log(None).events(0, 100, EventFilter(**which))]


def test_events_are_listed_newest_first_a_page_at_a_time_without_payloads(
    ledger: SqlLedger,
) -> None:
    ids = put(ledger, *(replace(ONE, external_id=str(n)) for n in range(5)))
    log = ledger.event_log(None)
    first = log.events(0, 2)
    assert [event.id for event in first] == [ids[4], ids[3]]
    assert [event.id for event in log.events(first[-1].id, 10)] == [ids[2], ids[1], ids[0]]
    assert {event.payload for event in first} == {""}
    assert log.event(ids[0]).payload == '{"a": 1}'


def test_events_are_found_by_what_is_said_of_them(ledger: SqlLedger) -> None:
    mine, other, told = put(
        ledger,
        replace(ONE, external_id="7"),
        replace(ONE, connection="globex", tenant="globex"),
        replace(ONE, source="internal", kind="internal", name="paid", external_id=""),
    )
    fail(ledger, [mine])
    for which, expected in (
        ({"connection": "acme"}, [told, mine]),
        ({"connection": "globex"}, [other]),
        ({"status": "dead"}, [mine]),
        ({"status": "pending", "kind": "record"}, [other]),
        ({"name": "paid"}, [told]),
        ({"external_id": "7"}, [mine]),
        ({"since": time.time() + 60}, []),
        ({"since": time.time() - 60}, [told, other, mine]),
        ({"connection": "nobody"}, []),
    ):
        assert listed(ledger, **which) == expected, which
    assert ledger.event_log(None).counts() == {"dead": 1, "pending": 2}


def test_a_tenant_has_no_way_to_anothers_events(ledger: SqlLedger) -> None:
    mine, other = put(ledger, ONE, replace(ONE, connection="globex", tenant="globex"))
    fail(ledger, [mine, other])
    log = ledger.event_log("acme")
    assert [event.id for event in log.events(0, 10)] == [mine]
    assert log.events(0, 10, EventFilter(connection="globex")) == []
    assert log.counts() == {"dead": 1}
    assert log.replay([mine, other]) == [mine]
    with pytest.raises(NotFound) as theirs:
        log.event(other)
    with pytest.raises(NotFound) as nowhere:
        log.event(other + 1000)
    assert str(theirs.value).replace(str(other), "N") == str(nowhere.value).replace(
        str(other + 1000), "N"
    )
    with pytest.raises(NotFound):
        log.retell(other, [ONE])


def test_what_is_replayed_waits_as_if_it_had_just_come(ledger: SqlLedger) -> None:
    dead, later, done = put(ledger, ONE, ONE, ONE)
    ledger.inbox.claim(10, 10, 60)
    fail(ledger, [dead])
    fail(ledger, [later], dead=False)
    ledger.inbox.settle([done], [], "run-1")
    assert ledger.inbox.pending("acme", 10) == []
    log = ledger.event_log(None)
    assert log.replay([done, later, dead]) == [dead, later, done]
    again = ledger.inbox.pending("acme", 10)
    assert [(e.id, e.attempts, e.error, e.finished_at) for e in again] == [
        (id, 0, "", None) for id in (dead, later, done)
    ]
    assert log.event(dead).runs == ("run-1",)


def test_a_queue_that_rests_is_woken_by_a_replay(ledger: SqlLedger) -> None:
    id, _ = put(ledger, ONE, ONE)
    (batch,) = ledger.inbox.claim(10, 10, 60)
    fail(ledger, [id])
    ledger.inbox.release(batch, "acme", again_at=time.time() + 3600)
    assert ledger.inbox.claim(10, 10, 60) == []
    ledger.event_log(None).replay([id])
    assert len(ledger.inbox.claim(10, 10, 60)) == 1


def test_events_of_an_archived_connection_or_of_none_cannot_be_replayed(
    ledger: SqlLedger,
) -> None:
    ids = put(ledger, ONE, replace(ONE, connection="", status="ignored"))
    fail(ledger, ids[:1])
    ledger.archive("acme")
    assert ledger.event_log(None).replay(ids) == []


def test_what_nothing_asked_for_is_told_again_to_those_who_do(ledger: SqlLedger) -> None:
    told = replace(ONE, source="internal", kind="internal", connection="", status="ignored")
    (id,) = put(ledger, told)
    log = ledger.event_log("acme")
    asking = [replace(told, connection=key, status="pending") for key in ("acme", "acme_2")]
    ids = log.retell(id, asking)
    assert ids[0] == id and len(ids) == 2
    assert [event.id for event in ledger.inbox.pending("acme", 10)] == [id]
    assert [event.id for event in ledger.inbox.pending("acme_2", 10)] == [ids[1]]
    with pytest.raises(NotFound):
        log.retell(id, asking)


def test_webhooks_are_kept_as_they_came(ledger: SqlLedger) -> None:
    put(ledger, ONE, webhook=HOOK)
    put(ledger, webhook=replace(HOOK, status="failed", error="no such field"))
    log = ledger.webhooks
    newest, oldest = log.webhooks(0, 10)
    assert (newest.status, newest.error, newest.body) == ("failed", "no such field", b"")
    assert log.webhooks(newest.id, 10) == [oldest]
    assert log.webhooks(0, 10, "failed") == [newest]
    whole = log.webhook(oldest.id)
    assert (whole.body, whole.headers, whole.query) == (b"\x00raw", HOOK.headers, HOOK.query)
    log.settle(newest.id, "routed")
    assert log.webhook(newest.id).status == "routed"
    for missing in (lambda: log.webhook(10**9), lambda: log.settle(10**9, "routed")):
        with pytest.raises(NotFound):
            missing()


def ages(url: str) -> None:
    """Let all that's there have come and ended a day earlier."""
    run(
        url,
        "UPDATE membrane_events SET received_at = received_at - 86400, "
        "finished_at = finished_at - 86400",
        "UPDATE membrane_webhooks SET received_at = received_at - 86400",
        "UPDATE membrane_seen_events SET until = until - 86400",
        "UPDATE membrane_webhook_counts SET changed_at = changed_at - 86400",
    )


def forget(ledger: SqlLedger, hours: float) -> Mapping[str, int]:
    return ledger.forget_events(datetime.now(UTC) - timedelta(hours=hours))


def test_what_has_ended_long_ago_is_forgotten_and_what_waits_is_kept(
    ledger: SqlLedger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_retention, "FORGOTTEN_AT_ONCE", 2)
    keyed = replace(ONE, dedupe_key="k", dedupe_seconds=60.0)
    done = put(ledger, *[ONE] * 5, keyed, webhook=HOOK)
    waiting = put(ledger, ONE)
    ledger.inbox.settle(done, [], "")
    ledger.webhook_counts.add([WebhookCount(name, refused=1) for name in ("idle", "used")])
    ages(url)
    ledger.webhook_counts.add([WebhookCount("used", refused=1)])
    fresh = put(ledger, replace(keyed, dedupe_key="other"), webhook=HOOK)
    ledger.inbox.settle(fresh, [], "")
    assert forget(ledger, 48) == {"events": 0, "webhooks": 0, "keys": 1}
    assert forget(ledger, 12) == {"events": 6, "webhooks": 1, "keys": 0}
    assert listed(ledger) == [*fresh, *waiting]
    assert len(read(url, "SELECT key FROM membrane_seen_events")) == 1
    assert ledger.webhook_counts.counts("", 9) == [WebhookCount("used", refused=2)]


def test_a_tenants_events_go_with_the_tenant_and_no_other_does(
    ledger: SqlLedger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_retention, "FORGOTTEN_AT_ONCE", 2)
    theirs = replace(ONE, connection="globex", tenant="globex")
    done = put(ledger, *[ONE] * 3, webhook=HOOK)
    put(ledger, ONE, theirs, webhook=replace(HOOK, source="global_webhook"))
    put(ledger, replace(ONE, connection="", kind="internal", status="ignored"))
    fail(ledger, done[:1])
    ledger.inbox.settle(done[1:], [], "")
    (kept,) = put(ledger, theirs, webhook=replace(HOOK, body=b"theirs"))
    with pytest.raises(NotFound):
        ledger.tenants.forget("nobody")
    ledger.tenants.forget("acme")
    assert ledger.event_log("acme").events(0, 100) == []
    assert [e.tenant for e in ledger.event_log(None).events(0, 100)] == ["globex"] * 2
    (webhook,) = ledger.webhooks.webhooks(0, 100)
    assert ledger.webhooks.webhook(webhook.id).body == b"theirs"
    assert ledger.event_log("globex").webhook(kept) is not None


def test_a_status_is_found_by_index_and_a_tenants_by_theirs(tmp_path: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", AesVault(b"a key of the tests"))
    ledger.connect(ConnectionRecord("acme", "kinto", "acme"))
    asked: list[tuple[str, Any]] = []

    def note(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if "ORDER BY membrane_events.id" in statement:
            asked.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        ledger.event_log(None).events(0, 10, EventFilter(status="pending"))
        ledger.event_log(None).events(0, 10, EventFilter(status="done", connection="acme"))
        ledger.event_log("acme").events(0, 10, EventFilter(status="done"))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        plans = [str(database.execute(f"EXPLAIN QUERY PLAN {s}", p).fetchall()) for s, p in asked]
    by_status, by_connection, by_tenant = plans
    assert "membrane_events_status" in by_status
    assert "membrane_events_tenant" in by_connection
    assert "membrane_events_tenant" in by_tenant
    assert "TEMP B-TREE" not in "".join(plans)


def test_events_that_wait_for_a_connection_that_is_archived_end_in_time(
    ledger: SqlLedger, url: str
) -> None:
    put(ledger, ONE, replace(ONE, connection="globex", tenant="globex"))
    ledger.archive("acme")
    ages(url)
    assert forget(ledger, 48)["events"] == 0
    assert forget(ledger, 12)["events"] == 1
    assert [e.connection for e in ledger.event_log(None).events(0, 10)] == ["globex"]
