"""Secret input that an older ledger has in plain text: found, sealed, and gone from its files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import read, run

VAULT = AesVault(b"a key of the tests")
RECORD = ConnectionRecord(
    "acme_crm",
    "crm",
    "acme",
    input={"url": "http://x/v1", "pin": "planted-pin-" * 20, "n": [1, None]},
    credentials={"token": "planted-token"},
)


def secret(integration: str) -> Collection[str]:
    return ("pin", "not there") if integration == "crm" else ()


@pytest.fixture
def older(url: str) -> str:
    """A ledger of version 4, which had no secret input, with three connections."""
    ledger = SqlLedger(url, VAULT)
    for key in ("acme_crm", "gone_crm"):
        ledger.connect(replace(RECORD, key=key))
    ledger.connect(replace(RECORD, key="other", integration="other", input={"pin": "public"}))
    ledger.archive("gone_crm")
    ledger.close()
    run(
        url,
        "ALTER TABLE membrane_connections DROP COLUMN secret_input",
        "DROP TABLE membrane_connection_requests",
        "UPDATE membrane_version SET version = 4",
    )
    return url


def stored(url: str, key: str) -> dict[str, Any]:
    (row,) = read(url, f"SELECT input FROM membrane_connections WHERE key = '{key}'")
    found = row["input"]
    made: dict[str, Any] = json.loads(found) if isinstance(found, str) else dict(found)  # type: ignore[call-overload]
    return made


def test_it_is_found_and_sealed(older: str, tmp_path: Path) -> None:
    ledger = SqlLedger(older, VAULT)
    assert ledger.input.plain(secret) == ["acme_crm", "gone_crm"]
    before = ledger.connection("acme_crm")
    done = ledger.input.seal(secret)
    assert (done.sealed, done.unread, ledger.input.plain(secret)) == (2, {}, [])
    after = ledger.connection("acme_crm")
    assert after == replace(before, secret_fields=("pin",))
    assert stored(older, "acme_crm") == {"url": "http://x/v1", "n": [1, None]}
    assert ledger.connection("gone_crm").input == {"url": "http://x/v1", "n": [1, None]}
    assert ledger.connection("other").input == {"pin": "public"}, "nothing of it is secret there"
    assert ledger.input.seal(secret).sealed == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"planted-pin" in path.read_bytes() for path in files)
    ledger.close()


def test_a_field_that_is_marked_later_joins_those_that_are_sealed(older: str) -> None:
    ledger = SqlLedger(older, VAULT)
    ledger.connect(replace(RECORD, input={**RECORD.input, "key": 7}, secret_fields=("key",)))
    assert stored(older, "acme_crm") == RECORD.input
    assert ledger.input.seal(secret).sealed == 2
    assert stored(older, "acme_crm") == {"url": "http://x/v1", "n": [1, None]}
    assert ledger.connection("acme_crm").input == {**RECORD.input, "key": 7}
    ledger.close()


def test_input_that_is_replaced_meanwhile_stays_as_it_was_replaced(older: str) -> None:
    theirs = SqlLedger(older, VAULT)
    newer = replace(RECORD, input={**RECORD.input, "pin": "newer"})

    class Interrupted(AesVault):
        left = 1

        def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
            if self.left and owner == "acme_crm/input":
                self.left -= 1
                theirs.connect(newer)
            return super().seal(secrets, owner)

    ledger = SqlLedger(older, Interrupted(b"a key of the tests"))
    assert ledger.input.seal(secret).sealed == 2
    assert ledger.connection("acme_crm").input == newer.input
    assert "pin" not in stored(older, "acme_crm")
    theirs.close()
    ledger.close()


def test_what_cannot_be_read_is_named_and_left(older: str) -> None:
    ledger = SqlLedger(older, VAULT)
    ledger.connect(replace(RECORD, input={**RECORD.input, "key": 7}, secret_fields=("key",)))
    ledger.close()
    without_key = SqlLedger(older, AesVault(b"another key of the tests"))
    done = without_key.input.seal(secret)
    assert list(done.unread) == ["acme_crm/input"]
    assert (done.sealed, stored(older, "acme_crm")) == (1, RECORD.input)
    without_key.close()
