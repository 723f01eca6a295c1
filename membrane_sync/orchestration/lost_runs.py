"""The sensor that ends runs whose processes are gone, since nobody else would.

A code server tells Dagster of a run of its own that is killed. Where the code server is gone, too,
as after a power failure, Dagster would think for ever that the run goes on, and keep it its place.
"""

import json
import socket

import dagster as dg

TICK_SECONDS = 15
CONNECT_SECONDS = 5.0

SERVER_TAG = ".dagster/grpc_info"
"""Where the code server that has launched a run listens; other launchers look after their runs."""
LOCATION_TAG = ".dagster/repository"

BEGUN = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def lost_runs_sensor() -> dg.SensorDefinition:
    """Marks as failed what no code server runs any more; `run_retries` then has it run again.

    Its name never changes, since Dagster keeps its state by it.
    """

    @dg.sensor(
        name="lost_runs",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends runs whose processes are gone, as after a power failure, so that they "
        "don't hold their places for ever. They run again as `run_retries` of dagster.yaml says.",
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        begun = dg.RunsFilter(statuses=BEGUN, tags=_of_this_location(context))
        runs = context.instance.get_runs(begun)
        lost = [run for run in runs if is_lost(run) and _end(context.instance, run)]
        for run in lost:
            context.log.warning(f"run {run.run_id} of {run.job_name} was lost")
        return dg.SkipReason(f"{len(lost):,} of {len(runs):,} runs were lost")

    return lost_runs


def is_lost(run: dg.DagsterRun) -> bool:
    """Whether the code server that has launched it is there no more."""
    told = run.tags.get(SERVER_TAG)
    if told is None:
        return False
    server = json.loads(told)
    try:
        if server.get("socket"):
            with socket.socket(socket.AF_UNIX) as unix:
                unix.settimeout(CONNECT_SECONDS)
                unix.connect(server["socket"])
        else:
            address = server["host"], server["port"]
            socket.create_connection(address, CONNECT_SECONDS).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False  # it may be there, and too busy to answer
    return False


def _of_this_location(context: dg.SensorEvaluationContext) -> dict[str, str]:
    location = context.code_location_origin
    assert location is not None
    return {LOCATION_TAG: f"{context.repository_name}@{location.location_name}"}


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Mark it as failed, unless it has ended meanwhile."""
    found = instance.get_run_by_id(run.run_id)
    if found is None or found.status not in BEGUN:
        return False
    instance.report_run_failed(found, "The run's process and its code server are gone.")
    return True
