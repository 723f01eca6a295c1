"""Everything Dagster loads, out of the project's files; nothing is opened, imported or called."""

from pathlib import Path

import dagster as dg

from membrane_sync.errors import ProjectError
from membrane_sync.orchestration.assets import sync_assets
from membrane_sync.orchestration.batch_job import batch_job, due_sensor
from membrane_sync.orchestration.events_job import events_job, inbox_sensor
from membrane_sync.orchestration.jobs import sync_job
from membrane_sync.orchestration.lost_runs import lost_runs_sensor
from membrane_sync.orchestration.outboxes import outbox_sensors
from membrane_sync.orchestration.resources import MembraneResource, remember
from membrane_sync.orchestration.sensors import connections_sensor
from membrane_sync.orchestration.subscriptions import subscriptions_sensor
from membrane_sync.orchestration.upkeep import upkeep
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors


def build_definitions(root: Path) -> dg.Definitions:
    """Assets, jobs and sensors of the project at `root`.

    Raises ProjectError with all problems of the declarations, which Dagster's UI shows.
    """
    project = Project.load(root)
    problems = errors(check(project))
    if problems:
        raise ProjectError(problems)
    syncs = [sync for integration in project.integrations for sync in project.syncs(integration)]
    remember(project)
    always = upkeep()
    return dg.Definitions(
        assets=[
            *(a for integration in project.integrations for a in sync_assets(project, integration)),
            *always["assets"],
        ],
        jobs=[*(sync_job(sync) for sync in syncs), batch_job(), events_job(), *always["jobs"]],
        schedules=always["schedules"],
        sensors=[
            connections_sensor(project.integrations),
            due_sensor(project),
            inbox_sensor(),
            lost_runs_sensor(),
            subscriptions_sensor(),
            *outbox_sensors(project),
        ],
        resources={"membrane": MembraneResource(root=str(root))},
        executor=dg.in_process_executor,
    )
