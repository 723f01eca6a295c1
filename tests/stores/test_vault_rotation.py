"""All secrets sealed anew while they are used and replaced: nothing is lost, or overwritten."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.ports import ConnectionRecord, ConnectionRequest
from membrane_sync.stores.ledger.sealed import BATCH
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault, key_id
from tests.stores.databases import run

OLD, NEW = b"the key we had", b"the key we want"
BOTH = AesVault(lambda: [NEW, OLD])
MANY = 2 * BATCH + 7


def connection(number: int, **other: Any) -> ConnectionRecord:
    key = f"c{number:04}"
    secrets: Mapping[str, Any] = {"token": f"secret-{number}"}
    return ConnectionRecord(key, "crm", "acme", credentials=secrets, **other)


def filled(url: str, count: int) -> None:
    ledger = SqlLedger(url, AesVault(OLD))
    for number in range(count):
        ledger.connect(connection(number, input={"pin": number}, secret_fields=("pin",)))
    ledger.close()


def test_everything_is_sealed_with_the_new_key(url: str) -> None:
    filled(url, MANY)
    ledger = SqlLedger(url, BOTH)
    assert ledger.secrets.count() == {key_id(OLD): 2 * MANY}
    done = ledger.secrets.reseal()
    assert (done.sealed, done.unread) == (2 * MANY, {})
    assert ledger.secrets.reseal().sealed == 0
    ledger.close()
    only_new = SqlLedger(url, AesVault(NEW))
    assert only_new.secrets.count() == {key_id(NEW): 2 * MANY}
    last = only_new.connection(f"c{MANY - 1:04}")
    assert last.credentials == {"token": f"secret-{MANY - 1}"}
    assert last.input == {"pin": MANY - 1}
    assert last.version == 1, "the credentials are the same"
    only_new.close()


def test_connection_requests_and_who_is_away_at_the_app_are_sealed_with_it_too(url: str) -> None:
    ledger = SqlLedger(url, AesVault(OLD))
    ledger.connect(connection(1, input={"pin": 1, "url": "http://x"}, secret_fields=("pin",)))
    for id in ("cr_1", "cr_2"):
        ledger.requests.add(
            ConnectionRequest(
                id=id,
                tenant="acme",
                integration="crm",
                connection="acme_crm",
                token_hash=id,
                created_at=1.0,
                expires_at=9e9,
                input={"pin": id},
            )
        )
        assert ledger.requests.claim(id, f"browser of {id}", 2.0, 60.0)
        ledger.requests.send_off(id, f"state of {id}", 9e9, {"verifier": f"for {id}"})
    ledger.close()
    ledger = SqlLedger(url, BOTH)
    assert ledger.secrets.reseal().sealed == 2 + 2 * 2
    ledger.close()
    assert f":{key_id(OLD)}:" not in everything(url), "nothing is left that the old key has sealed"
    ledger = SqlLedger(url, AesVault(NEW))
    for id in ("cr_1", "cr_2"):
        back = ledger.requests.take_back(f"state of {id}", f"browser of {id}", 3.0, 60.0)
        assert back is not None
        assert (back[0].input, back[1]) == ({"pin": id}, {"verifier": f"for {id}"})
    assert ledger.connection("c0001").input == {"pin": 1, "url": "http://x"}
    ledger.close()


def everything(url: str) -> str:
    """All rows of all tables as a text."""
    engine, tables = sa.create_engine(url), sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as reading:
        rows = [tuple(row) for t in tables.tables.values() for row in reading.execute(sa.select(t))]
    engine.dispose()
    return repr(rows)


def test_a_rotation_that_was_cut_off_goes_on(url: str) -> None:
    filled(url, 10)

    class CutOff(AesVault):
        left = 7

        def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().seal(secrets, owner)

    ledger = SqlLedger(url, CutOff(lambda: [NEW, OLD]))
    with pytest.raises(KeyboardInterrupt):
        ledger.secrets.reseal()
    assert ledger.secrets.count() == {key_id(NEW): 7, key_id(OLD): 13}
    ledger.close()
    ledger = SqlLedger(url, BOTH)
    assert [ledger.connection(f"c{n:04}").credentials for n in range(10)] == [
        {"token": f"secret-{n}"} for n in range(10)
    ]
    assert ledger.secrets.reseal().sealed == 13
    assert ledger.secrets.count() == {key_id(NEW): 20}
    ledger.close()


def test_credentials_that_are_replaced_meanwhile_win(url: str) -> None:
    """Between our reading and our writing another process stores newer ones, with the old key."""
    filled(url, 3)
    theirs = SqlLedger(url, AesVault(OLD))

    class Interrupted(AesVault):
        def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
            if secrets == {"token": "secret-1"}:
                theirs.connect(replace(connection(1), credentials={"token": "newer"}))
            return super().seal(secrets, owner)

    ledger = SqlLedger(url, Interrupted(lambda: [NEW, OLD]))
    ledger.secrets.reseal()
    assert ledger.connection("c0001").credentials == {"token": "newer"}
    assert set(ledger.secrets.count()) == {key_id(NEW)}, "the next pass has met it"
    theirs.close()
    ledger.close()


def test_refreshes_go_on_while_all_is_sealed_anew(url: str) -> None:
    filled(url, 20)
    stop = threading.Event()
    last = [0] * 4

    def refresh(mine: int) -> None:
        ledger = SqlLedger(url, BOTH)
        while not stop.is_set() and last[mine] < 10_000:
            last[mine] += 1
            ledger.connect(replace(connection(mine), credentials={"n": last[mine]}))
            assert ledger.connection(f"c{mine:04}").credentials == {"n": last[mine]}
        ledger.close()

    threads = [threading.Thread(target=refresh, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    ledger = SqlLedger(url, BOTH)
    for _ in range(5):
        ledger.secrets.reseal()
    stop.set()
    for thread in threads:
        thread.join()
    assert sum(last) > 20
    assert [ledger.connection(f"c{n:04}").credentials for n in range(4)] == [{"n": n} for n in last]
    assert set(ledger.secrets.count()) == {key_id(NEW)}
    ledger.close()


def test_what_cannot_be_read_is_named_and_left(url: str) -> None:
    filled(url, 3)
    foreign = SqlLedger(url, AesVault(b"a key that was lost"))
    foreign.connect(connection(1))
    foreign.close()
    run(url, "UPDATE membrane_connections SET credentials = 'v1:damaged' WHERE key = 'c0002'")
    ledger = SqlLedger(url, BOTH)
    done = ledger.secrets.reseal()
    assert sorted(done.unread) == ["c0001", "c0002"]
    assert key_id(b"a key that was lost") in done.unread["c0001"]
    assert ledger.connection("c0000").credentials == {"token": "secret-0"}
    assert ledger.secrets.count() == {
        key_id(NEW): 3,
        key_id(b"a key that was lost"): 1,
        "?": 1,
    }
    ledger.close()
