"""What `ports.ConnectionRequests` promises, in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.ports import ConnectionRequest
from membrane_sync.stores.ledger.connection_requests import KEPT_SECONDS, SqlConnectionRequests
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault

NOW = 1_800_000_000.0
REQUEST = ConnectionRequest(
    id="cr_1",
    tenant="acme",
    integration="crm",
    connection="acme_crm",
    token_hash="token",
    created_at=NOW,
    expires_at=NOW + 3600,
    input={"pin": "planted-pin"},
    custom_state="7",
)


@pytest.fixture
def requests(url: str) -> Iterator[SqlConnectionRequests]:
    ledger = SqlLedger(url, AesVault(b"a key of the tests"))
    ledger.requests.add(REQUEST)
    yield ledger.requests
    ledger.close()


def test_a_request_is_found_as_it_was_added(requests: SqlConnectionRequests) -> None:
    assert requests.find("cr_1") == REQUEST
    assert requests.find_by_token("token") == REQUEST
    assert requests.find("cr_2") is None
    assert requests.find_by_token("other") is None


def test_those_that_ended_long_ago_are_forgotten(requests: SqlConnectionRequests) -> None:
    later = REQUEST.expires_at + KEPT_SECONDS
    for number, moment in ((2, later - 1), (3, later + 1)):
        id = f"cr_{number}"
        new = replace(REQUEST, id=id, token_hash=id, created_at=moment, expires_at=moment + 3600)
        requests.add(new)
        assert (requests.find("cr_1") is None) == (moment > later)


def test_one_attempt_at_a_time(requests: SqlConnectionRequests) -> None:
    assert requests.claim("cr_1", "browser", NOW, 60)
    assert not requests.claim("cr_1", "browser", NOW + 59, 60)
    requests.release("cr_1", "not_authorized")
    assert requests.claim("cr_1", "browser", NOW + 59, 60)
    # An attempt whose process has died holds nobody up for ever.
    assert requests.claim("cr_1", "another", NOW + 120, 60)
    found = requests.find("cr_1")
    assert found and (found.browser, found.error) == ("another", "not_authorized")


def test_of_many_attempts_at_once_one_begins(requests: SqlConnectionRequests) -> None:
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda n: requests.claim("cr_1", str(n), NOW, 60), range(16)))
    assert begun.count(True) == 1


def test_none_begins_after_the_end(requests: SqlConnectionRequests) -> None:
    assert not requests.claim("cr_1", "browser", REQUEST.expires_at + 1, 60)
    assert requests.settle("cr_1", "success")
    assert not requests.claim("cr_1", "browser", NOW, 60)
    assert not requests.settle("cr_1", "cancelled")
    requests.release("cr_1", "too late")
    found = requests.find("cr_1")
    assert found and (found.status, found.error) == ("success", "")


def test_a_state_is_given_out_once(requests: SqlConnectionRequests) -> None:
    requests.claim("cr_1", "browser", NOW, 60)
    requests.send_off("cr_1", "state", NOW + 600, {"verifier": "v"})
    found = requests.find("cr_1")
    assert found and found.away_until == NOW + 600
    with ThreadPoolExecutor(8) as pool:
        args = ("state", "browser", NOW + 5, 60.0)
        taken = [t for t in pool.map(lambda _: requests.take_back(*args), range(16)) if t]
    [(request, kept)] = taken
    assert (request.id, kept) == ("cr_1", {"verifier": "v"})
    assert not requests.claim("cr_1", "browser", NOW + 5, 60)


@pytest.mark.parametrize(
    ("state", "browser", "moment"),
    [("other", "browser", 1.0), ("state", "another", 1.0), ("state", "browser", 601.0)],
)
def test_a_state_of_others_or_too_late_is_of_no_use(
    state: str, browser: str, moment: float, requests: SqlConnectionRequests
) -> None:
    requests.claim("cr_1", "browser", NOW, 60)
    requests.send_off("cr_1", "state", NOW + 600, {"verifier": "v"})
    assert requests.take_back(state, browser, NOW + moment, 60) is None
    assert requests.take_back("state", "browser", NOW + 2, 60) is not None


def test_a_new_attempt_makes_an_older_state_useless(requests: SqlConnectionRequests) -> None:
    requests.claim("cr_1", "browser", NOW, 60)
    requests.send_off("cr_1", "first", NOW + 600, {})
    assert requests.claim("cr_1", "browser", NOW + 1, 60)
    requests.send_off("cr_1", "second", NOW + 601, {})
    assert requests.take_back("first", "browser", NOW + 2, 60) is None
    requests.settle("cr_1", "cancelled")
    assert requests.take_back("second", "browser", NOW + 2, 60) is None


def test_a_code_is_kept_for_its_browser_until_it_ends(requests: SqlConnectionRequests) -> None:
    assert requests.waiting("cr_1", "browser", NOW) is None
    assert not requests.look("cr_1", NOW, 60), "there's no code to look after"
    requests.claim("cr_1", "browser", NOW, 60)
    requests.show_code("cr_1", NOW + 600, {"code": "c"})
    found = requests.find("cr_1")
    assert found and found.enters_code
    assert requests.waiting("cr_1", "browser", NOW + 599) == {"code": "c"}
    assert requests.waiting("cr_1", "another", NOW) is None
    assert requests.waiting("cr_1", "browser", NOW + 600) is None
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(lambda _: requests.look("cr_1", NOW + 5, 60), range(16)))
    assert looks.count(True) == 1
    assert requests.waiting("cr_1", "browser", NOW + 6) == {"code": "c"}, "it's kept meanwhile"
    requests.release("cr_1", "not_authorized")
    assert requests.waiting("cr_1", "browser", NOW + 6) is None


def test_one_is_revoked_unless_it_has_ended_or_is_answered(
    requests: SqlConnectionRequests,
) -> None:
    requests.claim("cr_1", "browser", NOW, 60)
    assert not requests.revoke("cr_1", NOW + 1)
    requests.send_off("cr_1", "state", NOW + 600, {"verifier": "v"})
    assert requests.revoke("cr_1", NOW + 1)
    found = requests.find("cr_1")
    assert found and (found.status, found.error, found.away_until) == ("cancelled", "revoked", 0)
    assert requests.take_back("state", "browser", NOW + 2, 60) is None
    assert not requests.revoke("cr_1", NOW + 2)


def test_what_is_kept_is_sealed(requests: SqlConnectionRequests, url: str) -> None:
    requests.claim("cr_1", "browser", NOW, 60)
    requests.send_off("cr_1", "state", NOW + 600, {"verifier": "planted-secret"})
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        query = sa.text("SELECT * FROM membrane_connection_requests")
        [row] = connection.execute(query).mappings()
    engine.dispose()
    assert row["kept"] and row["input"] and "planted" not in str(dict(row))


class Store(AesVault):
    """A vault that counts what is kept elsewhere for it."""

    def __init__(self) -> None:
        super().__init__(b"a key of the tests")
        self.entries: set[tuple[str, str]] = set()

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        sealed = super().seal(secrets, owner)
        self.entries.add((sealed, owner))
        return sealed

    def forget(self, sealed: str, owner: str) -> None:
        self.entries.discard((sealed, owner))


def test_nothing_stays_in_an_external_store(tmp_path: Path) -> None:
    store = Store()
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", store)
    requests = ledger.requests
    requests.add(REQUEST)
    requests.add(replace(REQUEST, id="cr_2", token_hash="2"))
    for state in ("first", "second", "third"):
        requests.claim("cr_1", "browser", NOW, -1)
        requests.send_off("cr_1", state, NOW + 600, {"verifier": state})
    assert len(store.entries) == 3
    requests.take_back("third", "browser", NOW, 60)
    requests.settle("cr_1", "success")
    later = REQUEST.expires_at + KEPT_SECONDS + 1
    fresh = replace(REQUEST, id="cr_3", token_hash="3", input={}, created_at=later)
    requests.add(fresh)
    assert store.entries == set()
    ledger.close()


def test_attempts_are_counted_by_period(requests: SqlConnectionRequests) -> None:
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: requests.attempts("address", 10), range(8)))
    assert sorted(counts) == list(range(1, 9))
    assert requests.attempts("another", 10) == 1
    assert requests.attempts("address", 11) == 1
    assert requests.attempts("address", 12) == 1
