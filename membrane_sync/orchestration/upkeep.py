"""What keeps an installation in order: how all connections stand, and old runs pruned."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from membrane_sync.errors import MembraneError
from membrane_sync.events.polling import timetables
from membrane_sync.orchestration.checks import Checked
from membrane_sync.orchestration.due import next_due
from membrane_sync.orchestration.resources import MembraneResource

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.ports import RunRecord

HEALTH = dg.AssetKey(["connection_health"])
HEALTH_JOB = "check_connections"
PRUNE_JOB = "prune_runs"
MOST_NAMED = 100
"""Connections that are named in the metadata; all of them are counted."""

LATE_SECONDS = 600.0
"""So long after a due time that passed unused, its successor is late."""

IDS_A_QUERY = 500

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


@dg.asset(
    key=HEALTH,
    group_name="membrane",
    kinds={"python"},
    code_version="1",
    description="How the syncs of all connections stand, by the last run of each: well, failed, "
    "or late by their own timetable. Dagster's freshness can't tell: it passes if any is fresh.",
    check_specs=[
        dg.AssetCheckSpec(
            "healthy",
            asset=HEALTH,
            description="No last run failed, and no connection has to be connected again.",
        ),
        dg.AssetCheckSpec("fresh", asset=HEALTH, description="No sync is late."),
    ],
)
def connection_health(membrane: MembraneResource) -> Checked:
    """Materialize how all connections stand."""
    found = standings(membrane.runtime(), time.time())
    failed = [name for name, standing in found.items() if standing == "failed"]
    late = [name for name, standing in found.items() if standing == "late"]
    well = len(found) - len(failed) - len(late)
    return dg.MaterializeResult(
        metadata={"syncs": len(found), "well": well, "failed": len(failed), "late": len(late)},
        check_results=[_verdict("healthy", failed), _verdict("fresh", late)],
    )


def _verdict(name: str, against: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not against,
        asset_key=HEALTH,
        check_name=name,
        severity=dg.AssetCheckSeverity.WARN,
        # As text, since of a list the UI shows a link to JSON.
        metadata={"count": len(against), "connections": ", ".join(against[:MOST_NAMED]) or "none"},
    )


def standings(runtime: "Runtime", now: float) -> dict[str, str]:
    """`well`, `failed` or `late` by connection and sync, as `acme_kinto contacts`.

    One that has to be connected again has failed as a whole, and is there as `acme_kinto`.
    """
    last = {(run.connection, run.sync): run for run in runtime.ledger.runs.newest()}
    found = {}
    for connection in runtime.ledger.connections():
        if connection.status != "ready":
            # That one is paused or archived is as somebody wanted it.
            if connection.status == "reconnect_needed":
                found[connection.key] = "failed"
            continue
        try:
            syncs = runtime.syncs(connection)
        except MembraneError:
            # What it takes part in can't be said, so that none of it runs.
            found[connection.key] = "failed"
            continue
        covered = runtime.events.subscriptions.covered(connection.key)
        tables = {table.sync: table for table in timetables(syncs, covered)}
        for sync in syncs:
            key = sync.sync.key
            run = last.get((connection.key, key))
            since = _since(run, connection.connected_at)
            standing = "failed" if run is not None and run.error else "well"
            if key in tables and since is not None:
                due = next_due(connection.key, tables[key], since.timestamp())
                missed = next_due(connection.key, tables[key], due)
                standing = "late" if missed + LATE_SECONDS < now else standing
            found[f"{connection.key} {key}"] = standing
    return found


def _since(run: "RunRecord | None", connected_at: datetime | None) -> datetime | None:
    return connected_at if run is None else run.finished_at or run.started_at


class PruneConfig(dg.Config):
    """How long runs are kept."""

    keep_days: int = Field(default=30, ge=1, description="Runs that began earlier are deleted.")


@dg.op(
    name="prune",
    out=dg.Out(dg.Nothing),
    description="Delete old runs, but for those that say what a partition's newest state is.",
)
def prune(context: dg.OpExecutionContext, config: PruneConfig, membrane: MembraneResource) -> None:
    """Delete old runs in Dagster, whose event log has no retention of its own, and the ledger.

    Of webhooks and events, those that are older than the settings say.
    """
    before = datetime.now(UTC) - timedelta(days=config.keep_days)
    runtime = membrane.runtime()
    deleted, kept = prune_dagster(context.instance, before)
    forgotten = runtime.ledger.runs.forget(before)
    context.log.info(
        f"deleted {deleted:,} runs, kept {kept:,} old ones that are the newest of a partition; "
        f"forgot {forgotten:,} in the ledger"
    )
    gone = runtime.events.forget_events()
    context.log.info("forgot " + ", ".join(f"{count:,} {what}" for what, count in gone.items()))


def prune_dagster(instance: dg.DagsterInstance, before: datetime) -> tuple[int, int]:
    """How many finished runs of earlier were deleted, and how many had to be kept.

    Deleting a run deletes its events. One with a partition's newest materialization is kept, since
    the partition would look as if it had never been synced.
    """
    newest = _runs_of_newest(instance)
    old = set(instance.get_run_ids(dg.RunsFilter(statuses=_FINISHED, created_before=before)))
    for run_id in old - newest:
        instance.delete_run(run_id)
    return len(old - newest), len(old & newest)


def _runs_of_newest(instance: dg.DagsterInstance) -> set[str]:
    """The runs that made the newest materialization of an asset, or of one of its partitions."""
    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    runs: set[str] = set()
    for asset in instance.get_asset_keys():
        last = instance.fetch_materializations(asset, limit=1).records
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(asset, made)
        ids = sorted({*newest.values(), *(record.storage_id for record in last)})
        for first in range(0, len(ids), IDS_A_QUERY):
            some = ids[first : first + IDS_A_QUERY]
            which = dg.AssetRecordsFilter(asset_key=asset, storage_ids=some)
            found = instance.fetch_materializations(which, limit=len(some)).records
            runs.update(record.run_id for record in found)
    return runs


def upkeep() -> dict[str, Any]:
    """The asset, jobs and schedules, as `Definitions` takes them."""
    health = dg.define_asset_job(
        HEALTH_JOB, selection=[HEALTH], description="See how all connections stand."
    )
    pruning = dg.GraphDefinition(name=PRUNE_JOB, node_defs=[prune]).to_job(
        description="Delete old runs; `keep_days` says how old.",
        executor_def=dg.in_process_executor,
    )
    running = dg.DefaultScheduleStatus.RUNNING
    return {
        "assets": [connection_health],
        "jobs": [health, pruning],
        "schedules": [
            dg.ScheduleDefinition(job=health, cron_schedule="5 * * * *", default_status=running),
            dg.ScheduleDefinition(job=pruning, cron_schedule="30 3 * * *", default_status=running),
        ],
    }
