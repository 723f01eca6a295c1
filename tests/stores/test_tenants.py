"""Tenants in the ledger, and connections as one of them sees them; on both databases."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator

import pytest

from membrane_sync.errors import Fatal, NotConnected, NotFound
from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.ledger.tenants import SqlTenantLedger
from membrane_sync.stores.vault import AesVault

VAULT = AesVault(b"x" * 32)


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    opened = SqlLedger(url, VAULT)
    yield opened
    opened.close()


def record(key: str, tenant: str) -> ConnectionRecord:
    return ConnectionRecord(key, "kinto", tenant, credentials={"password": f"of-{tenant}"})


def test_a_tenant_sees_its_own_and_no_other(ledger: SqlLedger) -> None:
    for key, tenant in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("A0", "a")]:
        ledger.connect(record(key, tenant))
    mine = ledger.for_tenant("a")
    assert [c.key for c in mine.connections("", 10)] == ["A0", "a1", "a2"]
    assert [c.key for c in mine.connections("A0", 1)] == ["a1"]
    assert [c.key for c in mine.connections("a2", 10)] == []
    assert mine.opened("a1").credentials == {"password": "of-a"}
    assert mine.connection("a1").credentials == {}
    for call in (mine.connection, mine.opened, lambda key: mine.rename(key, "x")):
        with pytest.raises(NotConnected) as foreign:
            call("b1")
        with pytest.raises(NotConnected) as nowhere:
            call("b9")
        assert str(foreign.value).replace("b1", "b9") == str(nowhere.value)
    assert ledger.connection("b1").name == ""
    everybody = ledger.for_tenant(None)
    assert [c.key for c in everybody.connections("", 10)] == ["A0", "a1", "a2", "b1"]
    mine.rename("a1", "Mine")
    assert mine.connection("a1").name == "Mine"


def test_nothing_in_it_takes_a_tenant(ledger: SqlLedger) -> None:
    methods = [m for n, m in inspect.getmembers(SqlTenantLedger, callable) if not n.startswith("_")]
    assert len(methods) >= 4
    assert [m for m in methods if "tenant" in inspect.signature(m).parameters] == []


def test_filters_are_beside_the_tenant(ledger: SqlLedger) -> None:
    ledger.connect(record("a1", "a"))
    ledger.connect(record("b1", "b"))
    ledger.set_status("b1", "paused")
    mine = ledger.for_tenant("a")
    assert mine.connections("", 10, status="paused") == []
    assert [c.key for c in mine.connections("", 10, integration="kinto")] == ["a1"]
    assert mine.connections("", 10, integration="pocketbase") == []


def test_a_key_is_never_taken_over_by_another_tenant(ledger: SqlLedger) -> None:
    ledger.connect(record("shared", "a"))
    with pytest.raises(Fatal, match="another connection"):
        ledger.connect(record("shared", "b"))
    assert ledger.connection("shared").tenant == "a"
    assert ledger.connection("shared").credentials == {"password": "of-a"}


def test_whoever_is_first_has_the_key(ledger: SqlLedger) -> None:
    refused: list[str] = []
    together = threading.Barrier(4)

    def connect(tenant: str) -> None:
        together.wait()
        try:
            ledger.connect(record("raced", tenant))
        except Fatal:
            refused.append(tenant)

    threads = [threading.Thread(target=connect, args=[tenant]) for tenant in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = ledger.connection("raced")
    assert len(refused) == 3 and kept.tenant not in refused
    assert kept.credentials == {"password": f"of-{kept.tenant}"}


def test_tenants_are_kept_changed_and_forgotten(ledger: SqlLedger) -> None:
    tenants = ledger.tenants
    assert tenants.tenants("", 10) == []
    made = tenants.keep("ä", name="Umlaut", fields={"plan": "pro", "n": [1, None]})
    assert tenants.tenant("ä") == made
    assert tenants.keep("ä").fields == {"plan": "pro", "n": [1, None]}
    changed = tenants.keep("ä", fields={})
    assert (changed.name, changed.fields, changed.created_at) == ("Umlaut", {}, made.created_at)
    tenants.keep("Z")
    assert [t.key for t in tenants.tenants("", 10)] == ["Z", "ä"]
    assert [t.key for t in tenants.tenants("Z", 10)] == ["ä"]
    tenants.forget("ä")
    for call in (tenants.tenant, tenants.forget):
        with pytest.raises(NotFound):
            call("ä")


def test_connecting_makes_a_tenant_known(ledger: SqlLedger) -> None:
    ledger.connect(record("a1", "by_command"))
    assert ledger.tenants.tenant("by_command").fields == {}


def test_many_may_see_a_tenant_first(ledger: SqlLedger) -> None:
    failures: list[Exception] = []

    def see(number: int) -> None:
        try:
            for _ in range(5):
                ledger.tenants.keep("new", fields={"n": number})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=see, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(ledger.tenants.tenants("", 10)) == 1
