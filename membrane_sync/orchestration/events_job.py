"""The job that applies events, and the sensor that asks for it when some wait."""

import time
from typing import TYPE_CHECKING

import dagster as dg

from membrane_sync.orchestration.batch_job import (
    BATCH_TAG,
    PRIORITY_TAG,
    UNFINISHED,
    BatchConfig,
)
from membrane_sync.orchestration.materialize import materializations
from membrane_sync.orchestration.partitions import register
from membrane_sync.orchestration.resources import MembraneResource

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.orchestration.event_queues import Drained

JOB = "apply_events"
OP = "apply"

PATIENCE_SECONDS = 15.0
"""So long a tick waits for an event; the next one begins up to 5 s later."""
LOOK_SECONDS = 0.2

BATCH_QUEUES = 200
MOST_BATCHES = 4
"""Batches that wait or run at once; while there are so many, nothing more is claimed."""
FIRST_CLAIM_SECONDS = 20.0
"""Until the next tick sees the batch's run: none may come, where the daemon is killed meanwhile."""
QUEUED_CLAIM_SECONDS = 30.0
"""Each tick renews the claim of a batch whose run waits: until it's launched, and has loaded."""

OVERDUE_SECONDS = 30.0
"""What waits for so long while a worker is there is more than the worker can do."""


def events_job() -> dg.JobDefinition:
    """The one job for all events."""

    @dg.op(name=OP, out=dg.Out(dg.Nothing), description="Apply the events of a batch's queues.")
    def apply(
        context: dg.OpExecutionContext, config: BatchConfig, membrane: MembraneResource
    ) -> None:
        _apply(context, membrane.runtime(), config.batch)

    @dg.job(
        name=JOB,
        description="Events of many connections in one run: what the sensor `inbox` asks for. It "
        "records a materialization for each connection of which something changed.",
        executor_def=dg.in_process_executor,
        tags={PRIORITY_TAG: "2"},
    )
    def job() -> None:
        apply()

    return job


def inbox_sensor(patience: float = PATIENCE_SECONDS) -> dg.SensorDefinition:
    """Waits for events, claims their queues, and asks for batches of them.

    Its name never changes, since Dagster keeps its state by it. A worker that lives is left to do
    it, but for what waits too long.
    """

    @dg.sensor(
        name="inbox",
        job_name=JOB,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for batches of connections of which events wait.",
    )
    def inbox(
        context: dg.SensorEvaluationContext, membrane: MembraneResource
    ) -> dg.SensorResult | dg.SkipReason:
        runtime = membrane.runtime()
        unfinished = dg.RunsFilter(job_name=JOB, statuses=UNFINISHED)
        runs = context.instance.get_runs(unfinished)
        for run in runs:
            if run.status is dg.DagsterRunStatus.QUEUED and BATCH_TAG in run.tags:
                runtime.ledger.inbox.renew(run.tags[BATCH_TAG], QUEUED_CLAIM_SECONDS)
        free = MOST_BATCHES - len(runs)
        if free <= 0:
            return dg.SkipReason(f"{MOST_BATCHES} batches wait or run already")
        batches = claimed(runtime, free, patience)
        if not batches:
            return dg.SkipReason("no event waits")
        return dg.SensorResult(run_requests=[_request(batch) for batch in batches])

    return inbox


def claimed(runtime: "Runtime", batches: int, patience: float) -> list[str]:
    """The names of at most so many new batches, as soon as there's an event to apply."""
    inbox, until = runtime.ledger.inbox, time.monotonic() + patience
    while True:
        overdue = OVERDUE_SECONDS if inbox.is_attended() else 0.0
        most = batches * BATCH_QUEUES
        found = inbox.claim(most, BATCH_QUEUES, FIRST_CLAIM_SECONDS, overdue=overdue)
        if found or time.monotonic() >= until:
            return list(found)
        time.sleep(LOOK_SECONDS)


def _request(batch: str) -> dg.RunRequest:
    config = {"ops": {OP: {"config": {"batch": batch}}}}
    # A batch is claimed once: what it leaves is claimed by another one, with a key of its own.
    return dg.RunRequest(run_key=f"events:{batch}", run_config=config, tags={BATCH_TAG: batch})


def _apply(context: dg.OpExecutionContext, runtime: "Runtime", batch: str) -> None:
    from membrane_sync.orchestration.event_queues import drained

    queues = done = 0
    seconds = runtime.settings.event_claim_seconds
    finished = drained(runtime, batch, context.run_id, seconds=seconds)
    try:
        for one in finished:
            queues, done = queues + 1, done + one.done
            if one.error is not None or one.failed:
                context.log.warning(f"{one.queue.connection}: {said(one)}")
            materialize(context, one)
    finally:
        # When the run is cancelled, too: end after the chunks at hand, and let go of the queues.
        finished.close()
    context.log.info(summed(queues, done))


def summed(queues: int, done: int) -> str:
    """What a batch came to, in words."""
    if not queues:
        return "nothing to do: others have taken these connections over, as after a crash"
    connections = f"{queues:,} connection{'s' if queues != 1 else ''}"
    return f"{connections}: {done:,} event{'s' if done != 1 else ''} took effect"


def materialize(context: dg.OpExecutionContext, one: "Drained") -> None:
    """Record what changed of one connection."""
    if one.changed:
        register(context.instance, one.integration, one.queue.connection)
    for sync, report in one.changed:
        for made in materializations(sync, report, one.queue.connection):
            context.log_event(made)


def said(one: "Drained") -> str:
    """What became of a queue, in words; never values of records."""
    numbers = {"took effect": one.done, "failed": one.failed, "dead": one.dead}
    numbers["not found yet"] = one.missing
    told = ", ".join(f"{number:,} {word}" for word, number in numbers.items() if number)
    rest = f"the rest waits: {one.error}" if one.error is not None else ""
    return "; ".join(filter(None, [told, rest])) or "nothing to do"
