"""Runs of a project's jobs in this process, and what Dagster remembers of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.partitions import register
from membrane_sync.orchestration.translator import CONNECTION_TAG, SYNC_TAG
from tests.end_to_end.helpers import Workspace


def run_job(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    connection: str,
    *,
    job: str = "sync_kinto_contacts",
    mode: str = "",
    registered: bool = True,
    sync: str = "",
) -> dg.ExecuteInProcessResult:
    """One run of a job for one connection; a failed run is a result too."""
    integration = job.split("_")[1]
    op = f"{integration}__contacts"
    config = {"ops": {op: {"config": {"mode": mode}}}} if mode else {}
    definition = build_definitions(workspace.root).resolve_job_def(job)
    if registered:
        register(instance, integration, connection)
    # As a launched run has it: `partition_key=` would have Dagster look for the partition first.
    tags = {CONNECTION_TAG: connection, "dagster/partition": connection}
    tags |= {SYNC_TAG: sync} if sync else {}
    return definition.execute_in_process(
        instance=instance, run_config=config, tags=tags, raise_on_error=False
    )


def numbers(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """The metadata of each materialized asset, zeros and cursors left out."""
    assert result.success
    return {
        event.asset_key.path[-1]: {
            name: value.value
            for name, value in event.materialization.metadata.items()
            if value.value != 0 and not name.startswith("cursor_")
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The message of the step that failed the run."""
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return error.message


def log_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """All that the run's page shows, as text."""
    return "\n".join(str(entry) for entry in instance.all_logs(run_id))


def every_byte(folder: Path) -> bytes:
    """What all files of the folder hold."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
