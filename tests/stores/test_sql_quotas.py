"""What `SqlQuotas` keeps, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from membrane_sync.errors import AppUnavailable
from membrane_sync.ports import Party, Quota
from membrane_sync.stores import sql_quotas
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.quota_schedule import SECOND
from membrane_sync.stores.sql_quotas import SqlQuotas
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import fresh_database

ACME = Party("acme")
DAY = Quota("day", 100, 86_400)
SECONDLY = Quota("second", 10, 1, 1)


def test_what_one_process_took_is_gone_for_the_next(url: str) -> None:
    first, second = SqlQuotas(url), SqlQuotas(url)
    assert first.reserve([DAY], ACME, 60).count == 60
    assert second.reserve([DAY], ACME, 60).count == 35
    assert first.reserve([DAY], ACME).count == 0
    first.give_back([DAY], 5)
    assert second.reserve([DAY], ACME, 60).count == 5
    first.close()
    second.close()


def test_slots_follow_one_another_by_the_shared_clock(url: str) -> None:
    quotas = SqlQuotas(url)
    grants = [quotas.reserve([SECONDLY, DAY], ACME) for _ in range(4)]
    assert [grant.count for grant in grants] == [1, 1, 1, 1]
    assert grants[0].wait == 0
    assert 0.2 <= grants[3].wait <= 0.3
    quotas.close()


def test_a_hold_is_seen_by_all(url: str) -> None:
    first, second = SqlQuotas(url), SqlQuotas(url)
    first.hold([SECONDLY], 50)
    first.hold([SECONDLY], 5)
    grant = second.reserve([SECONDLY], Party("beta", "interactive"))
    assert grant.count == 0 and 45 < grant.wait <= 50
    first.close()
    second.close()


def test_a_pause_is_seen_by_others_and_the_longest_counts(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_quotas, "LOOK_SECONDS", 0.0)
    first, second = SqlQuotas(url), SqlQuotas(url)
    assert second.paused("acme") == 0
    first.pause("acme", 50)
    first.pause("acme", 5)
    assert 45 < second.paused("acme") <= 50
    assert second.paused("beta") == 0
    first.close()
    second.close()


def test_pauses_that_are_over_are_forgotten(tmp_path: Path) -> None:
    now = 1_800_000_000 * SECOND
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    quotas = SqlQuotas(url, clock=lambda: now)
    quotas.pause("acme", 50)
    now += 50 * SECOND
    quotas.pause("beta", 5)
    assert quotas.paused("acme") == 0
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        assert ledger.execute("SELECT key FROM membrane_pauses").fetchall() == [("beta",)]
    quotas.close()


def test_looking_for_pauses_is_cheap_and_waits_for_nobody(tmp_path: Path) -> None:
    quotas = SqlQuotas(f"sqlite:///{tmp_path / 'ledger.db'}")
    quotas.paused("first")
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        ledger.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        quotas._looked_at = None
        assert quotas.paused("first") == 0
        assert time.monotonic() - began < 5, "though another one writes"
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        ledger.execute("DROP TABLE membrane_pauses")
    for number in range(10_000):
        quotas.paused(str(number))  # asks the ledger at most once a second, or this would fail
    quotas.close()


def test_threads_and_orders_of_keys_do_not_get_in_each_others_way(url: str) -> None:
    taken: list[int] = []
    other = Quota("other", 1_000, 86_400)

    def work(names: list[Quota]) -> None:
        mine = SqlQuotas(url)
        for _ in range(10):
            taken.append(mine.reserve(names, Party("acme", "interactive"), 2).count)
        mine.close()

    orders = [[DAY, other], [other, DAY]] * 3
    threads = [threading.Thread(target=work, args=(names,)) for names in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(taken) == 60
    assert sum(taken) == 100


def test_it_lives_beside_the_ledger(url: str) -> None:
    quotas = SqlQuotas(url)
    quotas.reserve([DAY], ACME)
    ledger = SqlLedger(url, AesVault(b"a key of the tests"))
    assert list(ledger.connections()) == []
    assert quotas.reserve([DAY], ACME, 200).count == 94
    ledger.close()
    quotas.close()


def test_no_disk_is_waited_for_while_others_wait_for_the_row(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with fresh_database("postgresql", tmp_path, request) as url:
        quotas = SqlQuotas(url)
        statements: list[str] = []
        with quotas._opened().connect() as connection:
            shown = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
        assert shown == "off"
        quotas.reserve([SECONDLY], ACME)
        sa.event.listen(
            quotas._opened(),
            "before_cursor_execute",
            lambda _c, _cursor, statement, *_: statements.append(statement.split()[0]),
        )
        quotas.reserve([SECONDLY, DAY], ACME)
        quotas.reserve([SECONDLY, DAY], ACME)
        assert statements[-2:] == ["WITH", "UPDATE"], "two trips and the commit"
        quotas.close()


def test_the_moment_is_that_after_the_wait_for_the_row(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with fresh_database("postgresql", tmp_path, request) as url:
        quotas = SqlQuotas(url)
        quotas.reserve([SECONDLY], ACME)
        granted: list[float] = []
        holder = sa.create_engine(url)
        with holder.begin() as transaction:
            query = "SELECT * FROM membrane_quotas WHERE key = 'second' FOR UPDATE"
            transaction.exec_driver_sql(query)
            waiting = threading.Thread(
                target=lambda: granted.append(quotas.reserve([SECONDLY], ACME).wait)
            )
            waiting.start()
            time.sleep(0.6)
        waiting.join(timeout=30)
        # By the time before it, the slot would have been a wait away.
        assert granted == [0]
        holder.dispose()
        quotas.close()


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    quotas = SqlQuotas(f"sqlite:///{tmp_path / 'ledger.db'}")
    quotas.close()
    assert list(tmp_path.iterdir()) == []


def test_the_moment_is_that_of_the_clock(tmp_path: Path) -> None:
    now = 1_800_000_000 * SECOND
    quotas = SqlQuotas(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: now)
    assert quotas.reserve([DAY], ACME, 200).count == 95
    now += 91_000 * SECOND
    assert quotas.reserve([DAY], ACME, 200).count == 95
    quotas.close()


def test_a_database_that_is_away_is_unavailable() -> None:
    quotas = SqlQuotas("postgresql+psycopg://u:planted-secret@127.0.0.1:1/none")
    with pytest.raises(AppUnavailable, match="quotas at .* can't be reached") as caught:
        quotas.reserve([DAY], ACME)
    assert "planted-secret" not in str(caught.value)
