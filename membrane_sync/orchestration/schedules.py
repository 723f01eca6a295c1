"""A schedule per sync and integration: a run for each connection, each time it's due."""

import dagster as dg

from membrane_sync.orchestration import translator
from membrane_sync.orchestration.partitions import partitions_name
from membrane_sync.project.project import Project, ResolvedSync


def sync_schedule(project: Project, sync: ResolvedSync) -> dg.ScheduleDefinition | None:
    """The sync's schedule, running by default as it was declared; None if it has none."""
    declared = sync.sync.schedule
    if declared is None:
        return None
    name = translator.job_name(sync)

    @dg.schedule(
        name=f"{name}_schedule",
        job_name=name,
        cron_schedule=declared.cron or f"*/{declared.every_minutes} * * * *",
        execution_timezone=declared.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Each connection's sync **{sync.sync.title}**, when it's due.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        from membrane_sync.bootstrap import taking_part

        present = context.instance.get_dynamic_partitions(partitions_name(sync.integration.key))
        connections = taking_part(project, sync, present)
        if not connections:
            return dg.SkipReason("no connection yet; make one with: membrane connect")
        due = context.scheduled_execution_time.isoformat()
        return [
            dg.RunRequest(
                run_key=f"{connection}:{due}",
                partition_key=connection,
                tags={translator.CONNECTION_TAG: connection},
            )
            for connection in connections
        ]

    return schedule
