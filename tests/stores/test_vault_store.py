"""Credentials in an external store over HTTP: the ledger names the entry, and holds no secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from membrane_sync.clients.secret_store import RestStore, secret_store
from membrane_sync.errors import AppUnavailable, NotConnected, SecretError
from membrane_sync.ports import Claim, ConnectionRecord, Issued
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.store_vault import StoreVault
from membrane_sync.stores.vault import AesVault, key_id
from tests.stores.databases import read
from tests.stores.secret_server import SecretServer, secret_server

KEY = b"a key of the tests"
HERE = AesVault(KEY)
ACME = ConnectionRecord(
    "acme_crm",
    "crm",
    "acme",
    input={"url": "http://x", "key": "planted-ü"},
    credentials={"password": "planted-secret"},
    secret_fields=("key",),
)


@pytest.fixture
def server() -> Iterator[SecretServer]:
    with secret_server() as running:
        yield running


def ledger_at(url: str, server: SecretServer) -> SqlLedger:
    return SqlLedger(url, StoreVault(RestStore(server.url, server.token), HERE))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def test_secrets_are_in_the_store_alone(url: str, server: SecretServer, tmp_path: Path) -> None:
    ledger = ledger_at(url, server)
    ledger.connect(ACME)
    found = ledger.connection("acme_crm")
    assert (found.credentials, found.input) == (ACME.credentials, ACME.input)
    assert {path.split("/")[2] for path in server.entries} == {"acme_crm", "acme_crm%2Finput"}
    assert ledger.secrets.count() == {"store": 2}
    ledger.close()
    assert all(b"planted" not in file.read_bytes() for file in tmp_path.iterdir())


def test_what_is_replaced_or_wiped_leaves_the_store(url: str, server: SecretServer) -> None:
    ledger = ledger_at(url, server)
    ledger.connect(ACME)
    first = set(server.entries)
    ledger.connect(replace(ACME, credentials={"password": "newer"}))
    assert len(server.entries) == 2 and not first & set(server.entries)
    ledger.archive("acme_crm")
    assert server.entries == {}
    assert ledger.connection("acme_crm").credentials == {}
    ledger.connect(ACME)
    ledger.disconnect("acme_crm")
    assert server.entries == {}
    with pytest.raises(NotConnected):
        ledger.connection("acme_crm")


def test_refreshed_tokens_take_the_place_of_the_former(url: str, server: SecretServer) -> None:
    ledger = ledger_at(url, server)
    ledger.connect(ACME)
    claim = ledger.credentials.claim("acme_crm", 1, 60.0)
    assert isinstance(claim, Claim)
    kept = ledger.credentials.commit(claim, Issued({"token": "newer"}))
    assert kept is not None and kept.version == 2
    assert ledger.credentials.read("acme_crm").credentials == {"token": "newer"}
    # The claim stands no more: what came late is not kept anywhere.
    assert ledger.credentials.commit(claim, Issued({"token": "too late"})) is None
    assert len(server.entries) == 2
    assert b"too late" not in b"".join(server.entries.values())


def test_a_store_that_cannot_be_told_keeps_the_connection(url: str, server: SecretServer) -> None:
    ledger = ledger_at(url, server)
    ledger.connect(ACME)
    server.answers["DELETE"] = 503
    with pytest.raises(AppUnavailable, match="answered 503 to DELETE for 'acme_crm'"):
        ledger.archive("acme_crm")
    assert ledger.connection("acme_crm").status == "ready"
    # Replaced credentials are in force, though the former ones stay in the store.
    ledger.connect(replace(ACME, credentials={"password": "newer"}))
    assert ledger.connection("acme_crm").credentials == {"password": "newer"}


def test_an_entry_is_of_its_connection_alone(url: str, server: SecretServer) -> None:
    vault = StoreVault(RestStore(server.url, server.token), HERE)
    sealed = vault.seal({"password": "planted-secret"}, "acme")
    with pytest.raises(SecretError, match="no longer the credentials of 'globex'"):
        vault.open(sealed, "globex")


def test_moving_to_the_store_and_what_was_sealed_before(url: str, server: SecretServer) -> None:
    before = SqlLedger(url, HERE)
    before.connect(ACME)
    before.close()
    ledger = ledger_at(url, server)
    assert ledger.connection("acme_crm").credentials == ACME.credentials
    assert ledger.secrets.count() == {key_id(KEY): 2}
    assert ledger.secrets.reseal().sealed == 2
    assert ledger.secrets.count() == {"store": 2}
    assert ledger.connection("acme_crm").credentials == ACME.credentials
    assert all(
        row["credentials"].startswith("store:")
        for row in read(url, "SELECT credentials FROM membrane_connections")
    )
    ledger.close()
    with pytest.raises(SecretError, match="external store"):
        SqlLedger(url, HERE).connection("acme_crm")


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, SecretError, "answered 401"),
        (400, SecretError, "answered 400"),
        (302, SecretError, "answered 302"),
        (429, AppUnavailable, "answered 429"),
        (500, AppUnavailable, "answered 500"),
        (200, SecretError, "something else than a JSON object"),
    ],
)
def test_what_the_store_refuses_is_said_without_its_words(
    server: SecretServer, status: int, error: type[Exception], said: str
) -> None:
    server.answers["GET"] = status
    with pytest.raises(error, match=said) as caught:
        RestStore(server.url, server.token).get("acme", "1")
    assert "planted" not in str(caught.value) + repr(caught.value)


def test_a_store_that_is_not_there_is_tried_again_later(server: SecretServer) -> None:
    with pytest.raises(AppUnavailable, match=r"127\.0\.0\.1 can't be reached: ConnectError"):
        RestStore("http://127.0.0.1:9", "planted-token").put("acme", "1", {"a": "planted"})


def test_secrets_only_go_out_encrypted() -> None:
    with pytest.raises(SecretError, match="https"):
        RestStore("http://vault.example.com", "")
    RestStore("https://vault.example.com", "")


def test_the_projects_own_store_by_name(tmp_path: Path) -> None:
    (tmp_path / "my_vault_of_tests.py").write_text(
        "class Store(dict):\n"
        "    def put(self, owner, entry, secrets): self[owner, entry] = secrets\n"
        "    def get(self, owner, entry): return dict.get(self, (owner, entry))\n"
        "    def delete(self, owner, entry): self.pop((owner, entry), None)\n"
        "def open_store(): return Store()\n"
    )
    vault = StoreVault(secret_store("my_vault_of_tests:open_store", "", tmp_path), HERE)
    sealed = vault.seal({"a": 1}, "acme")
    assert vault.open(sealed, "acme") == {"a": 1}
    for name in ("my_vault_of_tests:nothing", "no_such_module_there:f", "nonsense", ":f"):
        with pytest.raises(SecretError, match="the setting vault"):
            secret_store(name, "", tmp_path)
