"""Runs of a project's jobs in this process, and what Dagster remembers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.partitions import register
from membrane_sync.orchestration.resources import MembraneResource
from membrane_sync.orchestration.translator import CONNECTION_TAG, SYNC_TAG
from membrane_sync.ports import DueItem
from tests.end_to_end.helpers import Workspace


def run_job(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    connection: str,
    *,
    job: str = "sync_kinto_contacts",
    mode: str = "",
    since: str = "",
    until: str = "",
    registered: bool = True,
    sync: str = "",
    allow_deletions: Sequence[str] = (),
) -> dg.ExecuteInProcessResult:
    """One run of a job for one connection; a failed run is a result too."""
    integration = job.split("_")[1]
    op = f"{integration}__contacts"
    given = {"mode": mode, "since": since, "until": until}
    given |= {"allow_deletions": [*allow_deletions]}
    config = {"ops": {op: {"config": {n: value for n, value in given.items() if value}}}}
    definition = build_definitions(workspace.root).resolve_job_def(job)
    if registered:
        register(instance, integration, connection)
    # As a launched run has it: `partition_key=` would have Dagster look for the partition first.
    tags = {CONNECTION_TAG: connection, "dagster/partition": connection}
    tags |= {SYNC_TAG: sync} if sync else {}
    return definition.execute_in_process(
        instance=instance, run_config=config, tags=tags, raise_on_error=False
    )


def launched(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    tags: Mapping[str, str],
    *,
    job: str = "apply_events",
    location: str = "membrane_sync",
) -> str:
    """A run as Dagster's daemon leaves it behind; gives its id."""
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
    made = instance.create_run_for_job(
        dg.GraphDefinition(name=job).to_job(),
        status=status,
        tags=tags,
        remote_job_origin=RemoteJobOrigin(origin, job),
    )
    return made.run_id


def numbers(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """The metadata of each materialized asset, zeros and cursors left out."""
    assert result.success
    return {
        event.asset_key.path[-1]: {
            name: value.value
            for name, value in event.materialization.metadata.items()
            if value.value != 0 and name != "duration" and not name.startswith("cursor_")
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


def tick(
    workspace: Workspace, instance: dg.DagsterInstance, sensor: str | dg.SensorDefinition
) -> Any:
    """What one tick gives of a sensor, which is the project's if it's given by its name."""
    repository = build_definitions(workspace.root).get_repository_def()
    if isinstance(sensor, str):
        sensor = repository.get_sensor_def(sensor)
    with dg.build_sensor_context(
        instance_ref=instance.get_ref(),
        repository_def=repository,
        resources={"membrane": MembraneResource(root=str(workspace.root))},
    ) as context:
        return sensor.evaluate_tick(context)


def evaluate_due(workspace: Workspace, instance: dg.DagsterInstance) -> list[dg.RunRequest] | str:
    """The batches that one tick of the sensor `due` asks for, or why it asks for none."""
    evaluated = tick(workspace, instance, "due")
    return list(evaluated.run_requests or ()) or str(evaluated.skip_message)


def run_batch(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    request: dg.RunRequest,
    job: str = "sync_batch",
) -> dg.ExecuteInProcessResult:
    """The run that a tick asked for, in this process."""
    definition = build_definitions(workspace.root).resolve_job_def(job)
    return definition.execute_in_process(
        instance=instance, run_config=request.run_config, tags=request.tags, raise_on_error=False
    )


def items_due(workspace: Workspace) -> list[DueItem]:
    """Everything that any batch has claimed."""
    engine = sa.create_engine(workspace.runtime.settings.ledger_url)
    with engine.connect() as connection:
        batches = connection.execute(sa.text("SELECT DISTINCT batch FROM membrane_due")).scalars()
        names = [name for name in batches if name]
    engine.dispose()
    return [item for name in names for item in workspace.runtime.ledger.due.items(name)]


def due_rows(workspace: Workspace) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of what is due when, by connection and sync."""
    engine = sa.create_engine(workspace.runtime.settings.ledger_url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM membrane_due")).mappings().all()
    engine.dispose()
    return {(row["connection"], row["sync"]): dict(row) for row in rows}


def make_due(workspace: Workspace) -> None:
    """As if time had passed."""
    engine = sa.create_engine(workspace.runtime.settings.ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE membrane_due SET due_at = 0"))
    engine.dispose()
