"""What keeps an installation in order: checks of a run, the health of all, old runs pruned."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.due import DAY, is_time_to_look
from membrane_sync.orchestration.upkeep import HEALTH, prune_dagster, standings
from membrane_sync.ports import ConnectionRecord, DueItem, Override, RunRecord, Timetable
from membrane_sync.ports.events import Arrival, Event
from tests.end_to_end.helpers import Tenant, Workspace, person
from tests.orchestration.helpers import (
    due_rows,
    evaluate_due,
    log_of,
    run_batch,
    run_job,
)
from tests.stores.databases import run


@pytest.fixture
def tenant(kinto: Kinto) -> Tenant:
    return Tenant(kinto)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, int]]:
    """What each check said: whether it passed, and how many faults it found."""
    assert result.success
    return {
        found.check_name: (found.passed, int(str(found.metadata["faults"].value)))
        for found in result.get_asset_check_evaluations()
    }


def test_a_run_checks_what_it_has_read_mapped_and_linked(
    workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    tenant.write(person(n) for n in range(5))
    connection = workspace.connect(tenant.connection)
    names = ("schema_contract", "no_duplicates", "complete", "linked")
    assert checks(run_job(workspace, instance, connection)) == dict.fromkeys(names, (True, 0))

    tenant.update([{"id": "c00001", "score": "many"}, {"id": "c00002", "score": "much"}])
    lake = workspace.runtime.stores.lake_path(connection)
    spoil(lake, "INSERT INTO records.contacts SELECT * FROM records.contacts LIMIT 1")
    spoil(lake, "DELETE FROM mapped.contacts WHERE _external_id = 'c00003'")
    spoil(lake, "DELETE FROM links WHERE external_id = 'c00004'")
    assert checks(run_job(workspace, instance, connection)) == {
        "schema_contract": (False, 2),
        "no_duplicates": (False, 1),
        "complete": (False, 1),
        "linked": (False, 1),
    }


def spoil(lake: Any, sql: str) -> None:
    """As no code of ours does it."""
    import duckdb

    with duckdb.connect(str(lake)) as opened:
        opened.execute(sql)


def health(workspace: Workspace, instance: dg.DagsterInstance) -> dict[str, tuple[bool, Any]]:
    """The verdicts, each with the connections that it names."""
    job = build_definitions(workspace.root).resolve_job_def("check_connections")
    result = job.execute_in_process(instance=instance)
    assert result.success
    return {
        found.check_name: (found.passed, found.metadata["connections"].value)
        for found in result.get_asset_check_evaluations()
    }


def test_one_stale_connection_is_named_however_fresh_the_others_are(
    workspace: Workspace, instance: dg.DagsterInstance, kinto: Kinto
) -> None:
    fresh, stale, broken = (workspace.connect(Tenant(kinto).connection) for _ in range(3))
    now = datetime.now(UTC)
    record(workspace, fresh, now - timedelta(minutes=3))
    record(workspace, stale, now - timedelta(minutes=44))
    record(workspace, broken, now - timedelta(minutes=3), error="the app said 401 to Ada")
    assert health(workspace, instance) == {
        "healthy": (False, f"{broken} contacts"),
        "fresh": (False, f"{stale} contacts"),
    }
    event = instance.get_latest_materialization_event(HEALTH)
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    counts = {name: metadata[name].value for name in ("syncs", "well", "failed", "late")}
    assert counts == {"syncs": 6, "well": 4, "failed": 1, "late": 1}
    assert "Ada" not in log_of(instance, event.run_id)

    for connection in (stale, broken):
        record(workspace, connection, now)
    assert health(workspace, instance) == {"healthy": (True, "none"), "fresh": (True, "none")}


def record(workspace: Workspace, connection: str, at: datetime, error: str = "") -> None:
    run = RunRecord(f"run-{at.timestamp()}", connection, "contacts", at, at, error=error)
    workspace.runtime.ledger.runs.record([run])


def test_a_connection_of_an_integration_that_is_gone_is_not_well(workspace: Workspace) -> None:
    workspace.runtime.ledger.connect(ConnectionRecord("acme_x", "gone", "acme"))
    assert standings(workspace.runtime, time.time()) == {"acme_x": "failed"}


def test_old_runs_are_pruned_but_for_a_partitions_newest(
    workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    tenant.write([person(1)])
    connection = workspace.connect(tenant.connection)
    first, second, third = (run_job(workspace, instance, connection).run_id for _ in range(3))
    assert prune_dagster(instance, datetime.now(UTC) - timedelta(days=1)) == (0, 0)
    assert prune_dagster(instance, datetime.now(UTC)) == (2, 1)
    assert [instance.has_run(run) for run in (first, second, third)] == [False, False, True]
    asset = dg.AssetKey(["kinto", "contacts"])
    assert instance.get_materialized_partitions(asset) == {connection}

    ledger, event = workspace.runtime.ledger, Event("internal", "internal", "paid", "acme")
    (put,) = ledger.inbox.put([Arrival(events=[event])])
    ledger.inbox.settle(put.events, [], "")
    run(
        workspace.runtime.settings.ledger_url,
        f"UPDATE membrane_events SET finished_at = finished_at - {31 * DAY}",
    )
    job = build_definitions(workspace.root).resolve_job_def("prune_runs")
    result = job.execute_in_process(instance=instance)
    assert result.success
    assert "deleted 0 runs" in log_of(instance, result.run_id), "by default they are kept 30 days"
    assert "forgot 1 events" in log_of(instance, result.run_id)


def test_each_item_looks_once_a_day() -> None:
    table = Timetable("contacts", every_seconds=900)
    looks = []
    for moment in range(900, 30 * DAY, 900):
        before = datetime.fromtimestamp(moment - 900, UTC)
        item = DueItem("acme", table, attempts=1, finished_at=before)
        looks.append(is_time_to_look(item, moment))
    days = [sum(looks[first : first + 96]) for first in range(0, len(looks) - 95, 96)]
    assert set(days) == {1}
    assert is_time_to_look(DueItem("acme", table, attempts=1), 900.0), "it never looked"
    failed_before = DueItem("acme", table, attempts=2, finished_at=datetime.fromtimestamp(0, UTC))
    assert is_time_to_look(failed_before, 900.0)


def test_instances_are_due_by_themselves(
    workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    tenant.write([person(1)])
    connection = workspace.connect(tenant.connection)
    override = Override(
        connection, "sync", "contacts", ("name",), "Contacts of EMEA", instance_key="emea"
    )
    workspace.runtime.ledger.overrides.keep(connection, [override])
    requests = evaluate_due(workspace, instance)
    assert not isinstance(requests, str)
    assert (connection, "contacts@emea") in due_rows(workspace)
    assert run_batch(workspace, instance, requests[0]).success
    row = due_rows(workspace)[connection, "contacts@emea"]
    assert (row["result"], row["attempts"]) == ("ok", 0)
    assert len(workspace.rows()) == 2, "each instance has rows of its own"
    mapped = dg.AssetKey(["kinto", "contacts_mapped"])
    made = instance.fetch_materializations(mapped, limit=5).records
    assert len(made) == 2, "both are of the asset that the sync declares"
