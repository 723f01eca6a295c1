"""The job that syncs many connections in one run, and the sensor that asks for it when due."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from membrane_sync.errors import MembraneError
from membrane_sync.events.polling import timetables
from membrane_sync.orchestration import progress
from membrane_sync.orchestration.due import plan_version
from membrane_sync.orchestration.materialize import materializations
from membrane_sync.orchestration.partitions import register
from membrane_sync.orchestration.resources import MembraneResource
from membrane_sync.project.project import Project

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.orchestration.batch import Finished

JOB = "sync_batch"
OP = "sync_items"
BATCH_TAG = "membrane/batch"
PRIORITY_TAG = "dagster/priority"
"""Of runs that wait for a place, those of a higher number go first; without it, it's 0."""

TICK_SECONDS = 30
ITEMS_PER_TICK = 4_000
BATCH_ITEMS = 1_000
MOST_BATCHES = 4
"""Batches that wait or run at once; while there are so many, nothing more is claimed."""
PLANS_PER_TICK = 1_000
FIRST_CLAIM_SECONDS = 30.0
"""Until the next tick sees the batch's run: none may come, where the daemon is killed meanwhile."""
WAITING_CLAIM_SECONDS = 60.0
"""Each tick renews the claim of a batch whose run waits, or is launched: until it has loaded."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


WAITING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]


class BatchConfig(dg.Config):
    """Which batch; its items are in the ledger, so that the run's configuration stays small."""

    batch: str


def batch_job() -> dg.JobDefinition:
    """The one job for everything that is due."""

    @dg.op(
        name=OP,
        out=dg.Out(dg.Nothing),
        description="Sync the items of a batch, several at a time.",
    )
    def sync_items(
        context: dg.OpExecutionContext, config: BatchConfig, membrane: MembraneResource
    ) -> None:
        _run_batch(context, membrane.runtime(), config.batch)

    @dg.job(
        name=JOB,
        description="Syncs of many connections in one run: what the sensor `due` asks for. It "
        "records a materialization for each connection of which something changed; a run of the "
        "assets' own jobs is for one connection.",
        executor_def=dg.in_process_executor,
        tags={PRIORITY_TAG: "1"},
    )
    def job() -> None:
        sync_items()

    return job


def due_sensor(project: Project) -> dg.SensorDefinition:
    """Claims what is due, and asks for batches of it; the same one for any number of connections.

    Its name never changes, since Dagster keeps its state by it.
    """
    version: list[str] = []

    @dg.sensor(
        name="due",
        job_name=JOB,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for batches of the syncs that are due, by the schedules of syncs and "
        "the intervals of data sources.",
    )
    def due(
        context: dg.SensorEvaluationContext, membrane: MembraneResource
    ) -> dg.SensorResult | dg.SkipReason:
        runtime = membrane.runtime()
        if not version:
            version.append(plan_version(project))
        plan(runtime, version[0])
        unfinished = dg.RunsFilter(job_name=JOB, statuses=UNFINISHED)
        runs = context.instance.get_runs(unfinished)
        # Before it claims: so no claim of a run that waits runs out between two ticks.
        for run in runs:
            if run.status in WAITING and BATCH_TAG in run.tags:
                runtime.ledger.due.renew(run.tags[BATCH_TAG], WAITING_CLAIM_SECONDS)
        free = MOST_BATCHES - len(runs)
        if free <= 0:
            return dg.SkipReason(f"{MOST_BATCHES} batches wait or run already")
        most = min(ITEMS_PER_TICK, free * BATCH_ITEMS)
        batches = runtime.ledger.due.claim(most, BATCH_ITEMS, FIRST_CLAIM_SECONDS)
        if not batches:
            return dg.SkipReason("nothing is due")
        return dg.SensorResult(run_requests=[_request(batch) for batch in batches])

    return due


def plan(runtime: "Runtime", version: str) -> None:
    """Give connections that are new, or have changed, a row for each sync that is due by itself."""
    for record in runtime.ledger.due.unplanned(version, PLANS_PER_TICK):
        try:
            covered = runtime.events.subscriptions.covered(record.key)
            tables = timetables(runtime.syncs(record), covered)
        except MembraneError:
            # It can't be said what it takes part in; `membrane status` says why.
            tables = []
        runtime.ledger.due.plan(record.key, tables, version)


def _request(batch: str) -> dg.RunRequest:
    config = {"ops": {OP: {"config": {"batch": batch}}}}
    # A batch is claimed once: what it leaves is claimed by another one, with a key of its own.
    return dg.RunRequest(run_key=f"batch:{batch}", run_config=config, tags={BATCH_TAG: batch})


def _run_batch(context: dg.OpExecutionContext, runtime: "Runtime", name: str) -> None:
    from membrane_sync.orchestration.batch import Batch

    batch = Batch(runtime, name, context.run_id)
    tally = Tally(batch.total)
    finished = batch.finished()

    def tell() -> None:
        context.log.info(tally.said)
        for one in batch.under_way:
            if one.seconds >= progress.PROGRESS_SECONDS:
                context.log.info(one.said)

    with progress.repeated(tell):
        try:
            for of_connection in finished:
                for one in of_connection:
                    tally.add(one)
                    _tell_of_error(context, one)
                _materialize(context, of_connection)
        finally:
            # When the run is cancelled, too: stop at the next pages, and settle what's left.
            finished.close()
    context.log.info(tally.said)


def _tell_of_error(context: dg.OpExecutionContext, one: "Finished") -> None:
    name = f"{one.item.connection} {one.item.sync}"
    if one.was_stopped:
        context.log.info(f"{name}: {one.error}")
    elif one.error is not None:
        context.log.warning(f"{name}: attempt {one.item.attempts} failed: {one.error}")


def _materialize(context: dg.OpExecutionContext, finished: Sequence["Finished"]) -> None:
    """A materialization of each asset that changed, for the one connection that it's about."""
    changed = [one for one in finished if one.sync is not None and one.report.written]
    if not changed:
        return
    register(context.instance, changed[0].report.integration, changed[0].item.connection)
    for one in changed:
        assert one.sync is not None
        for made in materializations(one.sync, one.report, one.item.connection):
            context.log_event(made)


class Tally:
    """A batch's numbers so far, in words."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = time.monotonic()
        self._counts: Counter[str] = Counter()

    def add(self, one: "Finished") -> None:
        """Count one item that ran, or could not."""
        self._counts["items"] += 1
        self._counts["changed"] += bool(one.report.written)
        self._counts["failed"] += one.error is not None and not one.was_stopped
        self._counts["to go on"] += one.was_stopped
        for number in ("requests", "pages", "pulled"):
            self._counts[number] += getattr(one.report, number)

    @property
    def said(self) -> str:
        """As it's written to the run's log."""
        counts, seconds = self._counts, max(time.monotonic() - self._started, 0.001)
        items = counts["items"]
        numbers = ", ".join(
            f"{counts[name]:,} {name}"
            for name in ("changed", "failed", "to go on", "requests", "pages", "pulled")
            if counts[name]
        )
        rate = f"{counts['pulled'] / seconds:,.0f} rows/s"
        said = f"{items:,} of {self._total:,} items: {numbers or 'nothing new'}, {rate}"
        if items and items < self._total:
            said += f", about {seconds / items * (self._total - items):,.0f} s left"
        return said
