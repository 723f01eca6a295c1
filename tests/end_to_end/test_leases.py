"""Two processes hold a connection by turns, one of them frozen on the way: never both commit."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.errors import LockTimeout
from tests.end_to_end.helpers import (
    Tenant,
    Workspace,
    expected_person,
    fields_of,
    new_workspace,
    person,
)
from tests.end_to_end.processes import FencedProcess
from tests.stores.databases import fresh_database

RECORDS = 1_500


@pytest.fixture
def tenant(kinto: Kinto) -> Tenant:
    tenant = Tenant(kinto)
    tenant.write(person(n) for n in range(RECORDS))
    return tenant


@pytest.fixture
def connection(workspace: Workspace, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MEMBRANE_LEASE_SECONDS", "1")
    return workspace.connect(tenant.connection)


@pytest.fixture
def fresh(workspace: Workspace, connection: str) -> Workspace:
    """The project as a process sees it that begins now."""
    return Workspace(workspace.root)


@pytest.mark.parametrize("place", ["pull", "store", "map", "push", "write"])
def test_a_frozen_process_that_wakes_up_commits_nothing(
    place: str, fresh: Workspace, connection: str, tenant: Tenant
) -> None:
    with FencedProcess(fresh, connection, place) as frozen:
        frozen.freeze()
        tenant.update([{"id": "c00001", "phone": "+1 changed while it was frozen"}])
        taken = fresh.sync(connection)
        assert taken.written
        before = everything(fresh, connection)

        frozen.wake()
        assert frozen.finish() == "fenced"
    assert everything(fresh, connection) == before
    truth = tenant.truth()
    assert fresh.records(connection) == truth
    assert fields_of(fresh.delivered(connection)) == {
        key: expected_person(record) for key, record in truth.items()
    }
    again = fresh.sync(connection)
    assert (again.pulled, again.written) == (0, 0)


def test_nor_does_one_that_is_frozen_while_it_writes_rows(
    tmp_path: Path, tenant: Tenant, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL lets others write meanwhile: the lease is looked at again before the commit."""
    monkeypatch.setenv("MEMBRANE_LEASE_SECONDS", "1")
    with fresh_database("postgresql", tmp_path, request) as url:
        workspace = new_workspace(tmp_path / "project", database=url)
        connection = workspace.connect(tenant.connection)
        with FencedProcess(workspace, connection, "rows") as frozen:
            frozen.freeze()
            tenant.update([{"id": "c00001", "phone": "+1 changed while it was frozen"}])
            assert workspace.sync(connection).delivered == RECORDS
            before = everything(workspace, connection)
            frozen.wake()
            assert frozen.finish() == "fenced"
        assert everything(workspace, connection) == before


def test_one_frozen_inside_a_transaction_of_the_lake_holds_up_the_next_one(
    fresh: Workspace, connection: str, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB lets nobody in then. So either the one commits before the other begins, or never."""
    with FencedProcess(fresh, connection, "transaction") as frozen:
        frozen.freeze()
        monkeypatch.setenv("MEMBRANE_LOCK_WAIT_SECONDS", "2")
        with pytest.raises(LockTimeout) as caught:
            Workspace(fresh.root).sync(connection)
        assert f"process {frozen.pid} " in str(caught.value)
        frozen.wake()
        assert frozen.finish() == "fenced"
    assert fresh.sync(connection).written
    assert fresh.records(connection) == tenant.truth()
    assert len(fresh.delivered(connection)) == RECORDS


def test_a_frozen_process_cannot_make_the_lake_that_was_not_there(
    fresh: Workspace, connection: str, tenant: Tenant
) -> None:
    with FencedProcess(fresh, connection, "pull") as frozen:
        assert not fresh.runtime.stores.lake_path(connection).exists()
        frozen.freeze()
        record = fresh.runtime.ledger.connection(connection)
        with fresh.runtime.connect(connection, fresh.runtime.syncs(record)[0]):
            pass
        frozen.wake()
        assert frozen.finish() == "fenced"
    assert fresh.select(connection, "SELECT * FROM changes") == []
    assert "contacts" not in tables(fresh)


def test_a_frozen_process_that_nobody_missed_goes_on(
    fresh: Workspace, connection: str, tenant: Tenant
) -> None:
    with FencedProcess(fresh, connection, "map") as frozen:
        frozen.freeze()
        time.sleep(1.5)
        frozen.wake()
        assert frozen.finish() == "done"
    assert len(fresh.delivered(connection)) == RECORDS


def test_a_clean_release_leaves_no_mark_in_the_lake(
    fresh: Workspace, connection: str, tenant: Tenant
) -> None:
    fresh.sync(connection)
    lake = fresh.runtime.stores.lake_path(connection)
    before = lake.read_bytes()
    assert Workspace(fresh.root).sync(connection).written == 0
    assert lake.read_bytes() == before


def tables(workspace: Workspace) -> list[str]:
    """Tables of the product's database."""
    path = workspace.data / "app.db"
    if not path.exists():
        return []
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [row[0] for row in found]


def everything(workspace: Workspace, connection: str) -> dict[str, Any]:
    lake = ("changes", "cursors", "offsets", "links", "counters", "records.contacts")
    found: dict[str, Any] = {
        name: workspace.select(connection, f"SELECT * FROM {name} ORDER BY ALL") for name in lake
    }
    return {**found, "rows": workspace.rows()}
