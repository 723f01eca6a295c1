"""Connections come, pause and go: by the sensor, and with Dagster's daemon, without a reload."""

from __future__ import annotations

import time

import dagster as dg

from membrane_sync.apps.kinto import Kinto
from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.helpers import Tenant, Workspace, person
from tests.orchestration.helpers import due_rows, failure, run_job, tick
from tests.orchestration.test_ui import BACKFILL, statuses
from tests.orchestration.ui import DevServer, wait_for

ASSET = "kinto/contacts"
SECONDS = 20
"""Twice as long as the sensor and its daemon may take, on a machine that has other things to do."""

FAILURE = """query ($run: ID!) { runOrError(runId: $run) { ... on Run {
  eventConnection { events { ... on ExecutionStepFailureEvent { error { message } } } } } } }"""


def evaluate_sensor(workspace: Workspace, instance: dg.DagsterInstance) -> str:
    """What one tick asks for, carried out as the daemon does; or why it asks for nothing."""
    evaluated = tick(workspace, instance, "connections")
    requests = evaluated.dynamic_partitions_requests or ()
    for request in requests:
        name, keys = request.partitions_def_name, list(request.partition_keys)
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(name, keys)
        else:
            for key in keys:
                instance.delete_dynamic_partition(name, key)
    return str(requests) if requests else str(evaluated.skip_message)


def partitions(instance: dg.DagsterInstance) -> set[str]:
    """All connections that are partitions, of both integrations."""
    return {
        key
        for integration in ("kinto", "pocketbase")
        for key in instance.get_dynamic_partitions(f"connections__{integration}")
    }


def test_the_sensor_follows_the_ledger(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    for key, integration in (
        ("acme_kinto", "kinto"),
        ("globex_kinto", "kinto"),
        ("acme_pocketbase", "pocketbase"),
    ):
        workspace.connect(ConnectionRecord(key, integration, "acme"))
    assert "acme_kinto" in evaluate_sensor(workspace, instance)
    assert partitions(instance) == {"acme_kinto", "globex_kinto", "acme_pocketbase"}
    assert evaluate_sensor(workspace, instance) == "all connections are partitions"

    workspace.runtime.ledger.disconnect("globex_kinto")
    workspace.connect(ConnectionRecord("initech_kinto", "kinto", "initech"))
    evaluate_sensor(workspace, instance)
    assert partitions(instance) == {"acme_kinto", "initech_kinto", "acme_pocketbase"}


def test_archived_connections_leave_and_paused_ones_stay(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    for key in ("acme_kinto", "globex_kinto"):
        workspace.connect(ConnectionRecord(key, "kinto", "acme"))
    evaluate_sensor(workspace, instance)
    workspace.runtime.pause("acme_kinto", "moving house")
    workspace.runtime.archive("globex_kinto")
    evaluate_sensor(workspace, instance)
    assert partitions(instance) == {"acme_kinto"}
    said = failure(run_job(workspace, instance, "acme_kinto"))
    assert "connection 'acme_kinto' is paused: moving house" in said
    assert "membrane connections resume acme_kinto" in said
    assert "is archived" in failure(run_job(workspace, instance, "globex_kinto", registered=False))
    assert partitions(instance) == {"acme_kinto"}, "its run has not brought it back"
    workspace.connect(ConnectionRecord("globex_kinto", "kinto", "acme"))
    evaluate_sensor(workspace, instance)
    assert partitions(instance) == {"acme_kinto", "globex_kinto"}


def test_a_run_before_the_sensor_makes_its_connection_a_partition(
    workspace: Workspace, instance: dg.DagsterInstance, kinto: Kinto
) -> None:
    tenant = Tenant(kinto)
    tenant.write([person(1)])
    connection = workspace.connect(tenant.connection)
    assert partitions(instance) == set()
    assert run_job(workspace, instance, connection, registered=False).success
    assert partitions(instance) == {connection}


def test_connections_come_pause_and_go(workspace: Workspace, kinto: Kinto) -> None:
    acme, globex = Tenant(kinto), Tenant(kinto)
    for tenant in (acme, globex):
        tenant.write(person(n) for n in range(3))
    paused, other = acme.connection.key, globex.connection.key
    runtime = workspace.runtime
    with DevServer(workspace.root) as server:

        def until(expected: set[str]) -> float:
            began = time.monotonic()
            wait_for(
                f"partitions {expected}",
                lambda: set(server.partitions(ASSET)) == expected,
                seconds=SECONDS,
            )
            return time.monotonic() - began

        workspace.connect(acme.connection)
        runtime.pause(paused, "moving house")
        until({paused})
        workspace.connect(globex.connection)
        until({paused, other})
        # Its first batch is due at once, and syncs the other one alone.
        wait_for("the schedule", lambda: workspace_synced(workspace, other), seconds=90)
        assert not runtime.stores.lake_path(paused).exists()
        assert due_rows(workspace)[paused, "contacts"]["batch"] == ""

        params = {"assetSelection": [{"path": ASSET.split("/")}], "partitionNames": [paused]}
        launched = server.ask(BACKFILL, backfill=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        wait_for("the backfill", lambda: statuses(server, paused) == ["FAILURE"], seconds=90)
        (run,) = [r for r in server.runs() if r["tags"].get("dagster/partition") == paused]
        said = str(server.ask(FAILURE, run=run["runId"]))
        assert f"connection '{paused}' is paused: moving house" in said
        assert f"membrane connections resume {paused}" in said

        runtime.archive(other)
        until({paused})
        runtime.archive(paused)
        until(set())


def workspace_synced(workspace: Workspace, connection: str) -> bool:
    return workspace.runtime.stores.lake_path(connection).exists() and any(
        run.finished_at is not None and not run.error
        for run in workspace.runtime.ledger.runs.newest()
        if run.connection == connection
    )
