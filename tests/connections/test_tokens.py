"""What live credentials do, in SQLite and PostgreSQL, with an authenticator that is told how."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.connections import tokens as tokens_module
from membrane_sync.connections.tokens import Tokens
from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    Fatal,
    MembraneError,
    NotConnected,
    NotReady,
    RateLimited,
    SecretError,
)
from membrane_sync.ports import Claim, ConnectionRecord, Issued, Kept, Pending, Timetable
from membrane_sync.stores.ledger import leases as sql_leases
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.store_vault import StoreVault
from membrane_sync.stores.vault import AesVault
from tests.connections.fleet import ACME, VAULT_KEY, open_ledger, tokens
from tests.stores.databases import fresh_database, read, run

HOUR = 3600.0


class App:
    """Gives a new token at each refresh, or what it's told to; notes which ones it was brought."""

    def __init__(self, *answers: BaseException | Issued | Callable[[], Issued]) -> None:
        self.answers = list(answers)
        self.brought: list[str] = []
        self.given = 1
        self.refreshable = True
        self.lifetime: float | None = HOUR

    def refresh(self, credentials: Mapping[str, Any]) -> Issued:
        self.brought.append(credentials["refresh_token"])
        answer = self.answers.pop(0) if self.answers else self.fresh()
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Issued) else answer()

    def fresh(self) -> Issued:
        self.given += 1
        return Issued(held(self.given), self.lifetime)


class Watch:
    """A steady clock that a test moves, and to sleep is to move it."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def held(number: int) -> dict[str, Any]:
    return {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}"}


def connect(ledger: SqlLedger, left: float | None = -1.0, **fields: Any) -> None:
    """A connection whose credentials end in so many seconds."""
    ends = None if left is None else time.time() + left
    ledger.connect(
        ConnectionRecord(ACME, "app", "acme", credentials=held(1), expires_at=ends, **fields)
    )


def token(ours: Tokens) -> str:
    found: str = ours.current().credentials["access_token"]
    return found


def later(ledger_url: str) -> None:
    """As if pauses after failures had passed."""
    run(ledger_url, "UPDATE membrane_refreshes SET next_at = 0")


# --- when they are refreshed ---------------------------------------------------------------------


def test_what_ends_late_is_looked_at_once(ledger: SqlLedger, monkeypatch: Any) -> None:
    connect(ledger, HOUR)
    app, watch = App(), Watch()
    ours = tokens(ledger, app, clock=watch)
    assert token(ours) == "access-1"
    monkeypatch.setattr(ledger.credentials, "_database", None)
    watch.at += 0.85 * HOUR
    assert [token(ours) for _ in range(1000)] == ["access-1"] * 1000
    assert app.brought == []


def test_what_never_ends_is_not_looked_at(ledger: SqlLedger, monkeypatch: Any) -> None:
    connect(ledger, None)
    ours = tokens(ledger, App())
    monkeypatch.setattr(ledger.credentials, "_database", None)
    assert token(ours) == "access-1"


@pytest.mark.parametrize(
    ("lifetime", "left"), [(HOUR, 360), (86_400.0, 8_640), (120.0, 30), (10.0, 5)]
)
def test_what_ends_soon_is_refreshed_before(
    ledger: SqlLedger, lifetime: float, left: float
) -> None:
    connect(ledger)
    app, watch = App(), Watch()
    app.lifetime = lifetime
    ours = tokens(ledger, app, clock=watch)
    assert token(ours) == "access-2"
    watch.at += lifetime - left - 1
    assert token(ours) == "access-2"
    watch.at += 2
    assert token(ours) == "access-3"
    record = ledger.connection(ACME)
    assert (record.version, record.credentials["refresh_token"]) == (3, "refresh-3")
    assert record.expires_at is not None
    assert abs(record.expires_at - time.time() - lifetime) < 10


@pytest.mark.parametrize("lifetime", [None, 0.0, -5.0])
def test_of_what_ends_nobody_knows_when_the_app_tells(
    ledger: SqlLedger, lifetime: float | None
) -> None:
    connect(ledger)
    app = App()
    app.lifetime = lifetime
    ours = tokens(ledger, app)
    assert [token(ours) for _ in range(3)] == ["access-2"] * 3
    assert ours.refresh(2) and token(ours) == "access-3"
    assert ledger.connection(ACME).expires_at is None


def test_what_cannot_be_refreshed_is_used_as_it_is(ledger: SqlLedger) -> None:
    connect(ledger)
    app = App()
    app.refreshable = False
    ours = tokens(ledger, app)
    assert token(ours) == "access-1"
    assert not ours.refresh(1)
    with pytest.raises(Fatal, match="credentials of 'acme_app' can't be refreshed"):
        ours.renew()
    ledger.connect(replace(ledger.connection(ACME), credentials=held(7)))
    assert ours.refresh(1) and token(ours) == "access-7", "typed in anew meanwhile"


def test_a_refusal_of_earlier_ones_refreshes_nothing(ledger: SqlLedger) -> None:
    connect(ledger)
    app = App()
    mine, other = tokens(ledger, app), tokens(ledger, app)
    assert mine.refresh(1)
    assert mine.refresh(1) and other.refresh(1)
    assert [token(mine), token(other)] == ["access-2", "access-2"]
    assert app.brought == ["refresh-1"]


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_threads_refresh_once(ledger: SqlLedger, shared: bool) -> None:
    connect(ledger)
    app = App()
    one = tokens(ledger, app)
    all_ready = threading.Barrier(16)

    def work(number: int) -> str:
        ours = one if shared else tokens(ledger, app)
        all_ready.wait(30)
        if number % 2:
            assert ours.refresh(1)
        return token(ours)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(16))) == {"access-2"}
    assert app.brought == ["refresh-1"]


def test_nobody_waits_for_a_refresh_while_the_old_ones_work(ledger: SqlLedger) -> None:
    connect(ledger, 20.0, connected_at=None)
    run_dry, asked = threading.Event(), threading.Event()
    app = App()

    def slow() -> Issued:
        asked.set()
        assert run_dry.wait(30)
        return app.fresh()

    app.answers.append(slow)
    run_lifetime(ledger, HOUR)
    mine, other = tokens(ledger, app), tokens(ledger, app)
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(token, mine)
        assert asked.wait(30)
        assert [token(mine), token(other)] == ["access-1", "access-1"]
        run_dry.set()
        assert refreshing.result(30) == "access-2"
    assert token(mine) == "access-2"
    assert other.refresh(1) and token(other) == "access-2"
    assert app.brought == ["refresh-1"]


def run_lifetime(ledger: SqlLedger, seconds: float) -> None:
    """As if they had been issued so long before their end."""
    issued = ledger.connection(ACME).expires_at
    assert issued is not None
    engine = ledger._database._engine
    url = engine.url.render_as_string(hide_password=False)
    run(
        url,
        "INSERT INTO membrane_refreshes (connection, version, claim, claimed_until, process, "
        "machine, attempts, next_at, error, doubtful, lifetime) VALUES "
        f"('{ACME}', 1, '', 0, 0, '', 0, 0, '', {false(url)}, {seconds})",
    )


def false(url: str) -> str:
    return "0" if url.startswith("sqlite") else "false"


# --- failures ------------------------------------------------------------------------------------


def test_an_app_that_is_down_is_asked_again_later_by_anyone(url: str, ledger: SqlLedger) -> None:
    connect(ledger)
    watch = Watch()
    down = AppUnavailable("app: the token endpoint answered 503")
    app = App(down, down, down)
    for attempt in (1, 2, 3):
        with pytest.raises(AppUnavailable, match="503"):
            tokens(ledger, app).current()
        found = ledger.credentials.claim(ACME, 1, 60)
        assert isinstance(found, Pending)
        assert 2 ** (attempt - 1) - 0.9 < found.seconds <= 2 ** (attempt - 1)
        assert found.error == "app: the token endpoint answered 503"
        later(url)
    assert token(tokens(ledger, app, clock=watch, sleep=watch.sleep)) == "access-2"
    assert app.brought == ["refresh-1"] * 4
    assert ledger.connection(ACME).status == "ready"


def test_who_needs_them_while_the_app_is_down_hears_why(ledger: SqlLedger) -> None:
    connect(ledger)
    watch = Watch()
    asks = RateLimited("app: answered 429", retry_after=900)
    app = App(asks)
    with pytest.raises(RateLimited):
        tokens(ledger, app).current()
    with pytest.raises(AppUnavailable, match=r"'acme_app' can't be .*last try failed: .*429"):
        tokens(ledger, app, clock=watch, sleep=watch.sleep).current()
    assert len(app.brought) == 1, "as long as the app asks for, nobody asks it"


def test_while_the_old_ones_work_an_app_that_is_down_is_no_hitch(
    url: str, ledger: SqlLedger
) -> None:
    connect(ledger, 300.0)
    run_lifetime(ledger, HOUR)
    watch = Watch()
    app = App(AppUnavailable("down"), AppUnavailable("down"))
    ours = tokens(ledger, app, clock=watch)
    assert [token(ours) for _ in range(100)] == ["access-1"] * 100
    assert len(app.brought) == 1
    watch.at += 1.1
    assert token(ours) == "access-1"
    assert len(app.brought) == 1, "the pause of the ledger holds"
    later(url)
    watch.at += 1.1
    assert token(ours) == "access-1"
    later(url)
    watch.at += 2.1
    assert token(ours) == "access-2"
    assert len(app.brought) == 3


def test_a_dead_grant_is_marked_and_nobody_asks_again(ledger: SqlLedger) -> None:
    connect(ledger)
    app = App(Defunct("app: the user has withdrawn their consent"))
    with pytest.raises(Defunct, match="withdrawn") as caught:
        tokens(ledger, app).current()
    assert "membrane connect" in caught.value.hint
    record = ledger.connection(ACME)
    assert (record.status, record.version) == ("reconnect_needed", 1)
    assert record.reason == "app: the user has withdrawn their consent"
    with pytest.raises(Defunct, match="has to be connected again: app: the user has withdrawn"):
        tokens(ledger, app).current()
    assert len(app.brought) == 1


def test_what_cannot_be_refreshed_any_more_is_used_up_to_its_end(
    url: str, ledger: SqlLedger
) -> None:
    connect(ledger, 300.0)
    run_lifetime(ledger, HOUR)
    watch = Watch()
    app = App(Defunct("app: gave no refresh token"), Defunct("app: gave no refresh token"))
    ours = tokens(ledger, app, clock=watch)
    assert token(ours) == "access-1"
    watch.at += 290
    assert token(ours) == "access-1"
    assert (len(app.brought), ledger.connection(ACME).status) == (1, "ready")
    watch.at += 10
    with pytest.raises(Defunct):
        ours.current()
    assert ledger.connection(ACME).status == "reconnect_needed"


def test_by_force_it_is_asked_all_the_same_and_is_ready_again(ledger: SqlLedger) -> None:
    connect(ledger)
    ledger.due.plan(ACME, [Timetable("contacts", every_seconds=900)], "1")
    (batch,) = ledger.due.claim(10, 10, 60)
    app = App(Defunct("app: invalid_grant"))
    with pytest.raises(Defunct):
        tokens(ledger, app).current()
    ledger.due.settle(batch, [])
    tokens(ledger, app).renew()
    record = ledger.connection(ACME)
    assert (record.status, record.reason, record.version) == ("ready", "", 2)
    tokens(ledger, app).renew()
    assert app.brought == ["refresh-1", "refresh-1", "refresh-2"]


def test_an_error_that_is_not_ours_gives_the_claim_back_without_its_text(
    url: str, ledger: SqlLedger
) -> None:
    connect(ledger)
    app = App(ValueError("refresh-1 is a strange token"), KeyboardInterrupt())
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            tokens(ledger, app).current()
        (row,) = read(url, "SELECT * FROM membrane_refreshes")
        assert (row["claim"], row["error"], bool(row["doubtful"])) == ("", error.__name__, True)
        later(url)
    assert token(tokens(ledger, app)) == "access-2"


def test_that_an_answer_may_be_lost_is_said_when_the_old_ones_are_refused(
    url: str, ledger: SqlLedger
) -> None:
    connect(ledger)
    app = App(AppUnavailable("no answer in time"), Defunct("app: invalid_grant"))
    with pytest.raises(AppUnavailable):
        tokens(ledger, app).current()
    later(url)
    with pytest.raises(Defunct):
        tokens(ledger, app).current()
    assert "an earlier refresh was cut off" in ledger.connection(ACME).reason


def test_after_an_answer_there_is_no_doubt(url: str, ledger: SqlLedger) -> None:
    connect(ledger)
    app = App(Fatal("app: invalid_client"), RateLimited("429"), Defunct("app: invalid_grant"))
    for error in (Fatal, RateLimited, Defunct):
        with pytest.raises(error):
            tokens(ledger, app).current()
        later(url)
    assert ledger.connection(ACME).reason == "app: invalid_grant"


# --- who has the claim ---------------------------------------------------------------------------


def test_reconnecting_meanwhile_counts_and_not_the_refresh(ledger: SqlLedger) -> None:
    connect(ledger)
    app = App()

    def reconnected() -> Issued:
        record = replace(ledger.connection(ACME), credentials=held(50), expires_at=None)
        ledger.connect(record)
        return app.fresh()

    app.answers.append(reconnected)
    assert token(tokens(ledger, app)) == "access-50"
    assert ledger.connection(ACME).credentials == held(50)


def test_nor_does_it_count_that_the_old_grant_is_dead(ledger: SqlLedger) -> None:
    connect(ledger)
    app = App()

    def reconnected() -> Issued:
        record = replace(ledger.connection(ACME), credentials=held(50), expires_at=None)
        ledger.connect(record)
        raise Defunct("app: invalid_grant")

    app.answers.append(reconnected)
    ours = tokens(ledger, app)
    with pytest.raises(Defunct):
        ours.current()
    assert ledger.connection(ACME).status == "ready"
    assert token(ours) == "access-50"


def test_who_lost_the_claim_stores_nothing(ledger: SqlLedger) -> None:
    connect(ledger)
    slow = ledger.credentials.claim(ACME, 1, -1)
    quick = ledger.credentials.claim(ACME, 1, 60)
    assert isinstance(slow, Claim) and isinstance(quick, Claim)
    assert (slow.doubtful, quick.doubtful) == (False, True)
    assert ledger.credentials.commit(slow, Issued(held(2))) is None
    ledger.credentials.release(slow, wait=0, error="", doubtful=False)
    assert isinstance(ledger.credentials.claim(ACME, 1, 60), Pending), "it's the other one's"
    kept = ledger.credentials.commit(quick, Issued(held(3), HOUR))
    assert kept == Kept(2, held(3), HOUR, HOUR)
    assert ledger.credentials.commit(quick, Issued(held(4))) is None
    assert ledger.connection(ACME).credentials == held(3)


def test_a_claim_of_another_machine_is_waited_for_until_it_ends(
    url: str, ledger: SqlLedger
) -> None:
    connect(ledger)
    assert isinstance(ledger.credentials.claim(ACME, 1, 3000), Claim)
    run(url, "UPDATE membrane_refreshes SET machine = 'elsewhere', process = 1")
    watch, app = Watch(), App()
    with pytest.raises(AppUnavailable, match="another process has been at it for more than 60 s"):
        tokens(ledger, app, clock=watch, sleep=watch.sleep).current()
    assert app.brought == []
    run(url, "UPDATE membrane_refreshes SET claimed_until = 1")
    assert token(tokens(ledger, app)) == "access-2"


def test_a_process_frozen_right_after_its_claim_does_not_ask(
    url: str, ledger: SqlLedger, monkeypatch: Any
) -> None:
    connect(ledger)
    watch, app = Watch(), App()
    claim = ledger.credentials.claim

    def frozen(*args: Any, **options: Any) -> Any:
        found = claim(*args, **options)
        watch.at += 100 if watch.at < 1100 else 0
        return found

    monkeypatch.setattr(ledger.credentials, "claim", frozen)
    ours = tokens(ledger, app, clock=watch)
    with pytest.raises(AppUnavailable, match="this process stood still"):
        ours.current()
    assert app.brought == [], "another one may have asked meanwhile"
    assert token(ours) == "access-2"


def test_what_the_app_gave_is_stored_when_the_ledger_is_back(
    ledger: SqlLedger, monkeypatch: Any
) -> None:
    connect(ledger)
    watch, commit, away = Watch(), ledger.credentials.commit, [1] * 5

    def committed(claim: Claim, issued: Issued) -> Kept | None:
        if away:
            away.pop()
            raise AppUnavailable("the ledger can't be reached")
        return commit(claim, issued)

    monkeypatch.setattr(ledger.credentials, "commit", committed)
    app = App()
    assert token(tokens(ledger, app, clock=watch, sleep=watch.sleep)) == "access-2"
    assert ledger.connection(ACME).credentials == held(2)
    assert app.brought == ["refresh-1"]


def test_a_connection_that_is_gone_or_archived_is_not_refreshed(ledger: SqlLedger) -> None:
    connect(ledger)
    app = App()
    gone, archived = tokens(ledger, app), tokens(ledger, app)
    ledger.set_status(ACME, "archived")
    with pytest.raises(NotReady, match="'acme_app' is archived"):
        archived.current()
    ledger.disconnect(ACME)
    with pytest.raises(NotConnected):
        gone.current()
    assert app.brought == []


# --- an external store ---------------------------------------------------------------------------


class Store:
    """Keeps secrets by their owner and entry; implements `ports.SecretStore`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Mapping[str, Any]] = {}

    def put(self, owner: str, entry: str, secrets: Mapping[str, Any]) -> None:
        self.kept[owner, entry] = secrets

    def get(self, owner: str, entry: str) -> Mapping[str, Any] | None:
        return self.kept.get((owner, entry))

    def delete(self, owner: str, entry: str) -> None:
        self.kept.pop((owner, entry), None)


def test_an_external_store_keeps_the_newest_alone(url: str) -> None:
    store = Store()
    ledger = SqlLedger(url, StoreVault(store, AesVault(VAULT_KEY)))
    connect(ledger)
    ours = tokens(ledger, App())
    late = ledger.credentials.claim(ACME, 1, -1)
    assert token(ours) == "access-2"
    assert isinstance(late, Claim)
    assert ledger.credentials.commit(late, Issued(held(9))) is None
    assert list(store.kept.values()) == [held(2)]
    ledger.close()


def test_what_is_replaced_while_it_is_read_is_read_anew(url: str, monkeypatch: Any) -> None:
    store = Store()
    ledger = SqlLedger(url, StoreVault(store, AesVault(VAULT_KEY)))
    connect(ledger)
    other, get, asked = tokens(ledger, App()), store.get, []

    def got(owner: str, entry: str) -> Mapping[str, Any] | None:
        asked.append(entry)
        if len(asked) == 1:
            assert token(other) == "access-2"
        return get(owner, entry)

    monkeypatch.setattr(store, "get", got)
    assert ledger.credentials.read(ACME).credentials == held(2)
    ledger.close()


def test_a_claim_whose_credentials_cannot_be_read_is_given_back(url: str) -> None:
    store = Store()
    ledger = SqlLedger(url, StoreVault(store, AesVault(VAULT_KEY)))
    connect(ledger)
    entries = dict(store.kept)
    store.kept.clear()
    with pytest.raises(SecretError):
        ledger.credentials.claim(ACME, 1, 60)
    store.kept.update(entries)
    assert isinstance(ledger.credentials.claim(ACME, 1, 60), Claim)
    ledger.close()


# --- clocks --------------------------------------------------------------------------------------


def test_processes_whose_clocks_differ_by_hours_refresh_once(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: Any
) -> None:
    with fresh_database("postgresql", tmp_path, request) as url:
        ledger = open_ledger(url)
        connect(ledger)
        app = App()
        for skew in (0, 5 * HOUR, -5 * HOUR):
            ours = wrong_clock(monkeypatch, skew)
            assert token(tokens(ledger, app)) == "access-2", ours
        assert app.brought == ["refresh-1"]
        claim = ledger.credentials.claim(ACME, 2, 60)
        assert isinstance(claim, Claim)
        wrong_clock(monkeypatch, 5 * HOUR)
        assert isinstance(ledger.credentials.claim(ACME, 2, 60), Pending), "it isn't over"
        ledger.close()


def wrong_clock(monkeypatch: Any, skew: float) -> float:
    monkeypatch.setattr(sql_leases.time, "time", lambda: time.monotonic() + 1.8e9 + skew)
    return skew


def test_a_process_never_asks_its_own_clock_of_the_day(ledger: SqlLedger, monkeypatch: Any) -> None:
    monkeypatch.setattr(tokens_module.time, "sleep", lambda _: None)
    connect(ledger)
    app = App()
    ours = tokens(ledger, app)
    assert token(ours) == "access-2"
    monkeypatch.setattr(tokens_module.time, "time", lambda: 9e9)
    assert token(ours) == "access-2"


# --- refusals ------------------------------------------------------------------------------------


@pytest.fixture
def minutes(url: str) -> Callable[[], None]:
    """Lets minutes pass since the last refusal."""
    return lambda: run(url, "UPDATE membrane_connections SET refused_at = refused_at - 61")


def test_refused_three_times_in_a_row_it_has_to_be_connected_anew(
    ledger: SqlLedger, minutes: Callable[[], None]
) -> None:
    connect(ledger, None)
    for refusals in (1, 2):
        ours = tokens(ledger, App())
        for _ in range(5):
            ours.refused(1, "app: GET /contacts answered 401")
        record = ledger.connection(ACME)
        assert (record.refusals, record.status) == (refusals, "ready"), "close ones are one"
        minutes()
    ours.refused(1, "app: GET /contacts answered 401")
    record = ledger.connection(ACME)
    assert record.status == "reconnect_needed"
    assert record.reason == (
        "the app refused the credentials 3 times in a row: app: GET /contacts answered 401"
    )
    connect(ledger, None)
    record = ledger.connection(ACME)
    assert (record.status, record.reason, record.refusals) == ("ready", "", 0)


def test_once_accepted_earlier_refusals_do_not_count(
    ledger: SqlLedger, minutes: Callable[[], None], monkeypatch: Any
) -> None:
    connect(ledger, None)
    for _ in range(4):
        tokens(ledger, App()).refused(1, "401")
        minutes()
        tokens(ledger, App()).accepted()
        assert ledger.connection(ACME).refusals == 0
    assert ledger.connection(ACME).status == "ready"
    ours = tokens(ledger, App())
    monkeypatch.setattr(ledger.credentials, "_database", None)
    ours.accepted()  # which costs nothing


def test_what_is_said_of_earlier_credentials_does_not_count(ledger: SqlLedger) -> None:
    connect(ledger, None)
    ours = tokens(ledger, App())
    connect(ledger, None)
    ours.revoked(1, "the account is closed")
    ours.refused(1, "401")
    record = ledger.connection(ACME)
    assert (record.status, record.refusals) == ("ready", 0)
    tokens(ledger, App()).revoked(2, "the account is closed")
    record = ledger.connection(ACME)
    assert (record.status, record.reason) == ("reconnect_needed", "the account is closed")


def test_one_that_is_paused_stays_so(ledger: SqlLedger) -> None:
    connect(ledger)
    ledger.set_status(ACME, "paused", "by a person")
    with pytest.raises(MembraneError):
        tokens(ledger, App(Defunct("app: invalid_grant"))).current()
    record = ledger.connection(ACME)
    assert (record.status, record.reason) == ("paused", "by a person")
