"""Connections come, pause and go while Dagster runs: with its daemon, and without a reload."""

from __future__ import annotations

import time

from membrane_sync.apps.kinto import Kinto
from tests.end_to_end.helpers import Tenant, Workspace, person
from tests.orchestration.helpers import due_rows
from tests.orchestration.test_ui import BACKFILL, statuses
from tests.orchestration.ui import DevServer, wait_for

ASSET = "kinto/contacts"
SECONDS = 20
"""Twice as long as the sensor and its daemon may take, on a machine that has other things to do."""

FAILURE = """query ($run: ID!) { runOrError(runId: $run) { ... on Run {
  eventConnection { events { ... on ExecutionStepFailureEvent { error { message } } } } } } }"""


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
