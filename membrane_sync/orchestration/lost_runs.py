"""The sensor that ends runs whose processes are gone, since nobody else would.

A code server tells Dagster of a run of its own that is killed. Where the code server is gone, too,
as after a power failure, Dagster would think for ever that the run goes on, and keep it its place.
So it would where a new code server listens at the same port: that one knows nothing of the run.
"""

import json
import socket
import time
from typing import Any

import dagster as dg

from membrane_sync.orchestration import run_process

TICK_SECONDS = 15
CONNECT_SECONDS = 5
YOUNG_SECONDS = 60.0
"""A run that has just started may not have said yet which process it goes on in."""

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
        records = context.instance.get_run_records(begun)
        lost = [r.dagster_run for r in records if is_lost(r) and _end(context.instance, r)]
        for run in lost:
            context.log.warning(f"run {run.run_id} of {run.job_name} was lost")
        return dg.SkipReason(f"{len(lost):,} of {len(records):,} runs were lost")

    return lost_runs


def is_lost(record: dg.RunRecord) -> bool:
    """Whether its process is gone; where that can't be seen, whether its code server is.

    A process may outlive the code server that has launched it, and end its run by itself.
    """
    run = record.dagster_run
    told = run.tags.get(SERVER_TAG)
    if told is None:
        return False
    alive = run_process.is_alive(run.run_id, run.tags.get(run_process.TAG))
    if alive is not None:
        return not alive
    server = json.loads(told)
    if _is_gone(server):
        return True
    since = record.start_time or record.create_timestamp.timestamp()
    is_old = run.status is dg.DagsterRunStatus.STARTED and since < time.time() - YOUNG_SECONDS
    return is_old and _is_another(server, run.run_id)


def _is_gone(server: dict[str, Any]) -> bool:
    """Whether nobody listens where the code server did."""
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


def _is_another(server: dict[str, Any], run_id: str) -> bool:
    """Whether the one that listens there doesn't know of a run that its predecessor has launched.

    Until it's started, a run isn't known either; Dagster's `start_timeout_seconds` is for those.
    """
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult

    client = DagsterGrpcClient(
        host=server["host"],
        port=server.get("port"),
        socket=server.get("socket"),
        use_ssl=bool(server.get("use_ssl")),
    )
    asked = CanCancelExecutionRequest(run_id=run_id)
    try:
        said = client.can_cancel_execution(asked, timeout=CONNECT_SECONDS)
    except DagsterUserCodeUnreachableError:
        return False  # as above
    return not dg.deserialize_value(said, CanCancelExecutionResult).can_cancel


def _of_this_location(context: dg.SensorEvaluationContext) -> dict[str, str]:
    location = context.code_location_origin
    assert location is not None
    return {LOCATION_TAG: f"{context.repository_name}@{location.location_name}"}


def _end(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Mark it as failed, unless it has ended meanwhile."""
    found = instance.get_run_by_id(record.dagster_run.run_id)
    if found is None or found.status not in BEGUN:
        return False
    instance.report_run_failed(found, "The run's process is gone, or its code server is.")
    return True
