"""What `ports.Ledger`, `Overrides` and `Runs` promise, of SQLite, PostgreSQL and memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.errors import AppUnavailable, Fatal, NotConnected, SecretError
from membrane_sync.ports import ConnectionRecord, Ledger, Override, RunRecord
from membrane_sync.records import Report
from membrane_sync.stores.ledger.database import VERSION
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from membrane_sync.testing import MemoryLedger
from tests.stores.databases import fresh_database, read, run

VAULT = AesVault(b"a key of the tests")
ACME = ConnectionRecord(
    "acme_kinto",
    "kinto",
    "acme",
    name="Acme's Kinto",
    input={"url": "http://x/v1", "n": [1, None]},
    credentials={"password": "planted-secret"},
    connected_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)
START = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    with fresh_database(request.param, tmp_path, request) as url:
        opened = SqlLedger(url, VAULT)
        yield opened
        opened.close()


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert list(ledger.connections()) == []
    assert list(ledger.runs.newest()) == []
    with pytest.raises(NotConnected, match="no connection 'acme_kinto'"):
        ledger.connection("acme_kinto")
    with pytest.raises(NotConnected):
        ledger.disconnect("acme_kinto")


def test_a_connection_comes_back_as_it_went(ledger: Ledger) -> None:
    ledger.connect(ACME)
    stored = replace(ACME, version=1)
    assert ledger.connection("acme_kinto") == stored
    assert list(ledger.connections()) == [replace(stored, credentials={})]
    assert ledger.known("acme_kinto") == replace(stored, credentials={})


def test_a_connection_stands_as_was_noted_last_until_it_is_connected_again(ledger: Ledger) -> None:
    ledger.connect(replace(ACME, option="token", expires_at=1_800_000_000.5))
    ledger.set_status("acme_kinto", "reconnect_needed", "the app was uninstalled")
    stored = ledger.connection("acme_kinto")
    assert (stored.status, stored.reason) == ("reconnect_needed", "the app was uninstalled")
    assert (stored.option, stored.expires_at, stored.version) == ("token", 1_800_000_000.5, 1)
    ledger.connect(ACME)
    again = ledger.connection("acme_kinto")
    assert again == replace(ACME, version=2)
    with pytest.raises(NotConnected):
        ledger.set_status("nobody", "paused")


def test_connections_come_by_key_and_by_integration(ledger: Ledger) -> None:
    for key in ("b", "_a", "A", "c"):
        app = "kinto" if key != "c" else "other"
        ledger.connect(replace(ACME, key=key, integration=app))
    assert [record.key for record in ledger.connections()] == ["A", "_a", "b", "c"]
    assert [record.key for record in ledger.connections("other")] == ["c"]


def test_connecting_again_replaces_credentials_and_input(ledger: Ledger) -> None:
    ledger.connect(ACME)
    changed = replace(ACME, credentials={"token": "other"}, input={}, name="New")
    ledger.connect(changed)
    assert ledger.connection("acme_kinto") == replace(changed, version=2)
    assert len(ledger.connections()) == 1


def test_when_it_was_connected_is_filled_in(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    ledger.connect(replace(ACME, connected_at=None))
    moment = ledger.connection("acme_kinto").connected_at
    assert moment is not None and before <= moment <= datetime.now(UTC)


def test_secret_fields_of_the_input_are_only_given_with_the_credentials(ledger: Ledger) -> None:
    record = replace(
        ACME, input={"url": "http://x", "key": "planted-too"}, secret_fields=("key", "not there")
    )
    ledger.connect(record)
    assert ledger.connection("acme_kinto").input == record.input
    assert tuple(ledger.connection("acme_kinto").secret_fields)[:1] == ("key",)
    for shown in (ledger.known("acme_kinto"), *ledger.connections()):
        assert shown.input == {"url": "http://x"}
    assert "planted" not in repr(ledger.connection("acme_kinto"))
    ledger.archive("acme_kinto")
    assert ledger.connection("acme_kinto").input == {"url": "http://x"}


def test_archiving_wipes_the_credentials_and_keeps_the_key(ledger: Ledger) -> None:
    with pytest.raises(NotConnected):
        ledger.archive("acme_kinto")
    with pytest.raises(NotConnected):
        ledger.known("acme_kinto")
    ledger.connect(replace(ACME, expires_at=5.0))
    ledger.overrides.keep(
        "acme_kinto", [Override("acme_kinto", "sync", "contacts", ("title",), "x")]
    )
    ledger.archive("acme_kinto", "no longer a customer")
    archived = ledger.connection("acme_kinto")
    assert archived == replace(
        ACME, credentials={}, status="archived", reason="no longer a customer", version=2
    )
    assert len(ledger.overrides.of("acme_kinto")) == 1
    ledger.connect(ACME)
    assert ledger.connection("acme_kinto") == replace(ACME, version=3)


def test_disconnecting_forgets(ledger: Ledger) -> None:
    ledger.connect(ACME)
    ledger.disconnect("acme_kinto")
    with pytest.raises(NotConnected):
        ledger.connection("acme_kinto")


def test_a_run_is_written_at_its_beginning_and_its_end(ledger: Ledger) -> None:
    begun = RunRecord("r1", "acme", "contacts", START)
    ledger.runs.record([begun])
    assert list(ledger.runs.newest()) == [begun]
    report = Report("contacts", "kinto", "acme", pulled=3, seconds=1.5, cursor_to="ü")
    ended = replace(begun, finished_at=START + timedelta(1), report=report, error="it broke")
    ledger.runs.record([ended])
    assert list(ledger.runs.newest()) == [ended]


def test_the_newest_run_of_each_connection_and_sync(ledger: Ledger) -> None:
    for number, (connection, sync) in enumerate(
        [("b", "contacts"), ("a", "deals"), ("a", "contacts"), ("a", "contacts")]
    ):
        ledger.runs.record([RunRecord(f"r{number}", connection, sync, START + timedelta(number))])
    ledger.runs.record([RunRecord("old", "a", "contacts", START - timedelta(9))])
    found = [(run.connection, run.sync, run.id) for run in ledger.runs.newest()]
    assert found == [("a", "contacts", "r3"), ("a", "deals", "r1"), ("b", "contacts", "r0")]


def test_two_runs_begun_at_once_are_one(ledger: Ledger) -> None:
    for run_id in ("r1", "r2"):
        ledger.runs.record([RunRecord(run_id, "a", "contacts", START)])
    assert len(ledger.runs.newest()) == 1


def test_one_run_may_have_several_syncs(ledger: Ledger) -> None:
    for sync in ("contacts", "deals"):
        ledger.runs.record([RunRecord("r", "a", sync, START)])
    assert [run.sync for run in ledger.runs.newest()] == ["contacts", "deals"]


def override(*path: str, **other: Any) -> Override:
    values = {"value": {"$var": "$.b"}, "parent": "0af", "made_at": START, **other}
    return Override("acme_kinto", "field_mapping", "contacts", path, **values)


@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        "ü\u0000",
        10**20,
        1.5,
        [],
        [{"$var": "$.b"}],
        {"$case": {"cases": [], "default": None}, "a": {}},
    ],
)
def test_an_override_comes_back_as_it_went(ledger: Ledger, value: Any) -> None:
    ledger.connect(ACME)
    made = override("import_value", "a.b[0] ü", value=value)
    removed = override("name", value=None, removed=True, instance_key="second")
    ledger.overrides.keep("acme_kinto", [made, removed])
    assert list(ledger.overrides.of("acme_kinto")) == [made, removed]
    [first, _] = ledger.overrides.of("acme_kinto")
    assert list(first.value) == list(value) if isinstance(value, dict) else True
    assert list(ledger.overrides.of("globex_kinto")) == []


def test_overrides_come_in_order(ledger: Ledger) -> None:
    ledger.connect(ACME)
    made = [
        override("b"),
        override("a", "b"),
        override("a", "B"),
        override("z", instance_key="another"),
        replace(override("z"), key="companies"),
        replace(override("z"), kind="data_source"),
    ]
    ledger.overrides.keep("acme_kinto", made)
    found = [(o.kind, o.key, o.instance_key, *o.path) for o in ledger.overrides.of("acme_kinto")]
    assert found == sorted(found) and len(found) == 6


def test_an_override_takes_the_place_of_those_at_its_path_and_below(ledger: Ledger) -> None:
    ledger.connect(ACME)
    kept = [override("a", "bc"), override("a", "b", instance_key="other")]
    ledger.overrides.keep("acme_kinto", [override("a", "b"), override("a", "b", "c"), *kept])
    ledger.overrides.keep("acme_kinto", [override("a", "b", value="new")])
    left = list(ledger.overrides.of("acme_kinto"))
    assert left == [override("a", "b", value="new"), *kept]


def test_when_an_override_was_made_is_filled_in(ledger: Ledger) -> None:
    ledger.connect(ACME)
    before = datetime.now(UTC)
    ledger.overrides.keep("acme_kinto", [override("a", made_at=None)])
    [made] = ledger.overrides.of("acme_kinto")
    assert made.made_at is not None and before <= made.made_at <= datetime.now(UTC)


def test_overrides_are_reset_by_path_or_wholly(ledger: Ledger) -> None:
    ledger.connect(ACME)
    ledger.connect(replace(ACME, key="globex_kinto"))
    paths = [("a",), ("b", "c"), ("b", "d"), ("bb",)]
    made = [override(*path) for path in paths]
    ledger.overrides.keep("acme_kinto", made)
    ledger.overrides.keep("globex_kinto", made)
    element = ("acme_kinto", "field_mapping", "contacts")
    assert ledger.overrides.reset(*element, ["b"]) == 2
    assert [o.path for o in ledger.overrides.of("acme_kinto")] == [("a",), ("bb",)]
    assert ledger.overrides.reset(*element, ["b"]) == 0
    assert ledger.overrides.reset(*element, instance_key="other") == 0
    assert ledger.overrides.reset(*element) == 2
    assert list(ledger.overrides.of("acme_kinto")) == []
    assert [o.connection for o in ledger.overrides.of("globex_kinto")] == ["globex_kinto"] * 4


def test_only_a_connection_can_have_overrides_and_they_go_with_it(ledger: Ledger) -> None:
    with pytest.raises(NotConnected, match="no connection 'acme_kinto'"):
        ledger.overrides.keep("acme_kinto", [override("a")])
    ledger.connect(ACME)
    ledger.overrides.keep("acme_kinto", [override("a")])
    ledger.connect(replace(ACME, credentials={"token": "new"}))
    assert len(ledger.overrides.of("acme_kinto")) == 1
    ledger.disconnect("acme_kinto")
    ledger.connect(ACME)
    assert list(ledger.overrides.of("acme_kinto")) == []


# --- in a database -------------------------------------------------------------------------------


def test_credentials_are_sealed_at_rest(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    SqlLedger(url, VAULT).connect(ACME)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert all(b"planted-secret" not in content for content in files)
    with pytest.raises(SecretError) as caught:
        SqlLedger(url, AesVault(b"another key altogether")).connection("acme_kinto")
    assert "planted-secret" not in str(caught.value) + repr(caught.value)


def test_credentials_put_under_another_connection_cannot_be_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = SqlLedger(url, VAULT)
    ledger.connect(ACME)
    ledger.connect(replace(ACME, key="globex_kinto", tenant="globex"))
    run(
        url,
        "UPDATE membrane_connections SET credentials = (SELECT credentials FROM "
        "membrane_connections WHERE key = 'acme_kinto') WHERE key = 'globex_kinto'",
    )
    with pytest.raises(SecretError, match="'globex_kinto'"):
        ledger.connection("globex_kinto")


def test_many_may_open_a_new_ledger_at_once(url: str) -> None:
    failures: list[Exception] = []
    barrier = threading.Barrier(4)

    def connect(number: int) -> None:
        ledger = SqlLedger(url, VAULT)
        barrier.wait()
        try:
            ledger.connect(replace(ACME, key=f"c{number}"))
        except Exception as error:
            failures.append(error)
        ledger.close()

    threads = [threading.Thread(target=connect, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert read(url, "SELECT count(*) AS n FROM membrane_connections") == [{"n": 4}]
    assert read(url, "SELECT version FROM membrane_version") == [{"version": VERSION}]


def test_a_ledger_of_the_first_version_gets_what_it_lacks(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    SqlLedger(url, VAULT).connect(ACME)
    newer = ("option", "status", "reason", "version", "expires_at", "secret_input", "account")
    run(
        url,
        "DROP TABLE membrane_overrides",
        *(f"ALTER TABLE membrane_connections DROP COLUMN {name}" for name in newer),
        "UPDATE membrane_version SET version = 1",
    )
    ledger = SqlLedger(url, VAULT)
    ledger.overrides.keep("acme_kinto", [override("a")])
    assert ledger.connection("acme_kinto") == replace(ACME, version=0)
    assert len(ledger.overrides.of("acme_kinto")) == 1
    assert read(url, "SELECT version FROM membrane_version") == [{"version": VERSION}]


def test_a_ledger_of_version_6_gets_the_index_that_it_lacks(url: str) -> None:
    SqlLedger(url, VAULT).connect(ACME)
    assert "membrane_events_status" in indexes(url)
    run(
        url,
        "DROP INDEX membrane_events_status",
        "CREATE INDEX membrane_events_dead ON membrane_events (id) WHERE status = 'dead'",
        "UPDATE membrane_version SET version = 6",
    )
    assert SqlLedger(url, VAULT).connection("acme_kinto").tenant == ACME.tenant
    assert "membrane_events_status" in indexes(url)
    assert "membrane_events_dead" not in indexes(url)
    assert read(url, "SELECT version FROM membrane_version") == [{"version": VERSION}]


def indexes(url: str) -> set[str | None]:
    engine = sa.create_engine(url)
    try:
        return {index["name"] for index in sa.inspect(engine).get_indexes("membrane_events")}
    finally:
        engine.dispose()


def test_many_may_override_the_same_at_once(url: str) -> None:
    SqlLedger(url, VAULT).connect(ACME)
    failures: list[Exception] = []

    def change(number: int) -> None:
        ledger = SqlLedger(url, VAULT)
        try:
            for _ in range(10):
                ledger.overrides.keep("acme_kinto", [override("a", value=number), override("b")])
        except Exception as error:
            failures.append(error)
        ledger.close()

    threads = [threading.Thread(target=change, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [o.path for o in SqlLedger(url, VAULT).overrides.of("acme_kinto")] == [("a",), ("b",)]


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    SqlLedger(url, VAULT).connect(ACME)
    run(url, f"UPDATE membrane_version SET version = {VERSION + 1}")
    with pytest.raises(Fatal, match="newer version"):
        SqlLedger(url, VAULT).connections()


def test_a_ledger_that_is_not_there_is_worth_another_try() -> None:
    ledger = SqlLedger("postgresql+psycopg://u:planted-secret@127.0.0.1:9/db", VAULT)
    with pytest.raises(AppUnavailable, match="can't be reached") as caught:
        ledger.connections()
    assert "planted-secret" not in str(caught.value) + repr(caught.value)
