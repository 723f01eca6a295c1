"""What `ports.events.Checkups` promises, in SQLite and PostgreSQL; and what makes one due."""

from __future__ import annotations

from dataclasses import replace

from membrane_sync.ports import ConnectionRecord, Override
from membrane_sync.ports.subscriptions import Subscription
from membrane_sync.stores.ledger.sql_ledger import SqlLedger

CONFIG = {"kind": "external", "event": "paid", "parameters": {}}


def settle_all(ledger: SqlLedger, version: str = "1", due_at: float | None = None) -> list[str]:
    claimed = ledger.checkups.claim(version, 10, 60)
    for key, claim in claimed.items():
        ledger.checkups.settle(key, claim, due_at)
    return sorted(claimed)


def test_each_is_claimed_once_and_rests_until_something_changes(ledger: SqlLedger) -> None:
    claimed = [*ledger.checkups.claim("1", 1, 60), *ledger.checkups.claim("1", 9, 60)]
    assert sorted(claimed) == ["acme", "globex"]
    assert ledger.checkups.claim("1", 9, 60) == {}
    assert ledger.checkups.claim_one("acme", "1", 60) is None


def test_a_claim_that_ran_out_is_somebody_elses(ledger: SqlLedger) -> None:
    first = ledger.checkups.claim("1", 9, 0)
    second = ledger.checkups.claim("1", 9, 60)
    assert first.keys() == second.keys() == {"acme", "globex"}
    assert not ledger.checkups.renew("acme", first["acme"], 60)
    assert ledger.checkups.renew("acme", second["acme"], 60)
    ledger.checkups.settle("acme", first["acme"], None)
    assert ledger.checkups.claim_one("acme", "1", 60) is None


def test_what_may_need_others_is_due(ledger: SqlLedger) -> None:
    ledger.checkups.expect("1")
    assert settle_all(ledger) == ["acme", "globex"]
    assert settle_all(ledger) == []
    ledger.set_status("acme", "paused")
    assert settle_all(ledger) == ["acme"]
    ledger.overrides.keep("globex", [Override("globex", "sync", "contacts", ("enabled",), False)])
    assert settle_all(ledger) == ["globex"]
    ledger.overrides.reset("globex", "sync", "contacts")
    assert settle_all(ledger) == ["globex"]
    ledger.checkups.expect("1")
    assert settle_all(ledger) == []
    ledger.checkups.expect("2")
    assert settle_all(ledger, "2", due_at=1.0) == ["acme", "globex"]
    assert settle_all(ledger, "2") == ["acme", "globex"], "the moment they named is past"


def test_another_project_takes_over_what_is_looked_at(ledger: SqlLedger) -> None:
    claims = ledger.checkups.claim("1", 9, 60)
    ledger.checkups.expect("1")
    assert ledger.checkups.claim("1", 9, 60) == {}
    ledger.checkups.expect("2")
    assert not ledger.checkups.renew("acme", claims["acme"], 60)
    assert settle_all(ledger, "2") == ["acme", "globex"]


def test_what_changes_while_it_is_looked_at_is_looked_at_again(ledger: SqlLedger) -> None:
    claims = ledger.checkups.claim("1", 9, 60)
    ledger.set_status("acme", "paused")
    ledger.checkups.settle("acme", claims["acme"], None)
    assert list(ledger.checkups.claim("1", 9, 60)) == ["acme"]


def test_connected_again_means_all_are_to_be_renewed(ledger: SqlLedger) -> None:
    kept = Subscription("k", "acme", "acme", CONFIG, "subscribed", state={"id": 1})
    ledger.subscriptions.keep(kept)
    settle_all(ledger)
    ledger.connect(ConnectionRecord("acme", "kinto", "acme"))
    assert ledger.subscriptions.of_connection("acme")[0].refresh_at == 0
    assert settle_all(ledger) == ["acme"]


def test_a_connection_that_ends_leaves_nothing(ledger: SqlLedger) -> None:
    ledger.subscriptions.keep(Subscription("k", "acme", "acme", CONFIG))
    ledger.archive("acme")
    ledger.disconnect("globex")
    assert ledger.subscriptions.of_connection("acme") == []
    assert settle_all(ledger) == []
    ledger.checkups.expect("2")
    assert settle_all(ledger) == []


def test_one_configuration_has_one_subscription(ledger: SqlLedger) -> None:
    first = Subscription("one", "acme", "acme", CONFIG, identity="paid", secret="s-1")
    assert ledger.subscriptions.add(first) == first
    assert ledger.subscriptions.add(replace(first, key="two", secret="s-2")) == first
    assert len(ledger.subscriptions.of_connection("acme")) == 1
    ledger.subscriptions.keep(replace(first, state={"id": "7"}, status="subscribed"))
    assert ledger.subscriptions.get("one") == replace(first, state={"id": "7"}, status="subscribed")
