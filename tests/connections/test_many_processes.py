"""Many processes that need the same expired token: one refresh, with a provider that revokes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.errors import Defunct
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from tests.connections.conftest import connect
from tests.connections.fleet import ACME, Fleet, Killed, Refresher, open_ledger, tokens
from tests.connections.provider import refreshes, works
from tests.stores.databases import fresh_database, run

PROCESSES = 50
ROUNDS = 20


def test_fifty_processes_refresh_once_in_each_of_twenty_rounds(
    url: str, ledger: SqlLedger, granted: Refresher, oidc_provider: OidcProvider
) -> None:
    with Fleet(PROCESSES, url, granted) as fleet:
        for number in range(ROUNDS):
            before = len(refreshes(oidc_provider))
            run(url, "UPDATE membrane_connections SET expires_at = 1")
            told = fleet.round("refused" if number % 2 else "expired")
            assert [one.error for one in told if one.error] == []
            assert {one.version for one in told} == {number + 2}
            (token,) = {one.access_token for one in told}
            assert refreshes(oidc_provider)[before:] == [200], f"round {number}"
        assert works(oidc_provider, token)
    assert ledger.connection(ACME).version == ROUNDS + 1


def test_processes_with_clocks_of_their_own_refresh_once(
    tmp_path: Path, request: pytest.FixtureRequest, oidc_provider: OidcProvider
) -> None:
    """Half an hour from one to the next; with PostgreSQL, as SQLite's are on one machine."""
    with fresh_database("postgresql", tmp_path, request) as url:
        ledger = open_ledger(url)
        granted = connect(ledger, oidc_provider)
        with Fleet(8, url, granted, apart=1800) as fleet:
            for number in range(4):
                before = len(refreshes(oidc_provider))
                run(url, "UPDATE membrane_connections SET expires_at = 1")
                told = fleet.round("refused" if number % 2 else "expired")
                assert {(one.version, one.error) for one in told} == {(number + 2, "")}
                assert refreshes(oidc_provider)[before:] == [200]
            before = len(refreshes(oidc_provider))
            assert {one.version for one in fleet.round("expired")} == {5}
            assert refreshes(oidc_provider)[before:] == [], "it lives for an hour, for all of them"
        ledger.close()


@pytest.mark.parametrize("point", Killed.POINTS)
def test_a_refresher_that_is_killed_leaves_it_usable_or_clearly_marked(
    point: str,
    url: str,
    ledger: SqlLedger,
    granted: Refresher,
    oidc_provider: OidcProvider,
) -> None:
    before = len(refreshes(oidc_provider))
    Killed(point, url, granted)
    asked = time.monotonic()
    if point not in ("after answer", "inside commit"):
        kept = tokens(ledger, granted.authenticator()).current()
        assert (kept.version, kept.credentials["scope"]) == (2, "openid offline_access api:read")
        assert works(oidc_provider, kept.credentials["access_token"])
        assert refreshes(oidc_provider)[before:] == [200]
        assert ledger.connection(ACME).status == "ready"
        return
    # The app has given out others, which nobody received, and takes the old one no more.
    with pytest.raises(Defunct, match="refresh was cut off"):
        tokens(ledger, granted.authenticator()).current()
    assert time.monotonic() - asked < 20, "a dead process is not waited for"
    record = ledger.connection(ACME)
    assert record.status == "reconnect_needed"
    assert "invalid_grant" in record.reason and "nobody received" in record.reason
    assert refreshes(oidc_provider)[before:] == [200, 400]
    with pytest.raises(Defunct, match="has to be connected again: app: the token endpoint refused"):
        tokens(ledger, granted.authenticator()).current()
    assert len(refreshes(oidc_provider)) == before + 2, "nobody asks in vain"
    again = connect(ledger, oidc_provider)
    assert works(
        oidc_provider, tokens(ledger, again.authenticator()).current().credentials["access_token"]
    )
    assert ledger.connection(ACME).status == "ready"


@pytest.mark.parametrize("point", ["after answer", "inside commit"])
def test_where_refresh_tokens_stay_the_same_nothing_is_lost_at_all(
    point: str, url: str, ledger: SqlLedger, keeping_provider: OidcProvider
) -> None:
    refresher = connect(ledger, keeping_provider)
    Killed(point, url, refresher)
    kept = tokens(ledger, refresher.authenticator()).current()
    assert kept.version == 2
    assert works(keeping_provider, kept.credentials["access_token"])
    assert ledger.connection(ACME).status == "ready"
