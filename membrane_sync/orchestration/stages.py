"""What an asset does for one connection: one stage of a sync, and its numbers as metadata.

No value of a record reaches Dagster's metadata or log, since everyone who sees the UI sees those.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from membrane_sync.errors import Fatal
from membrane_sync.orchestration import translator
from membrane_sync.orchestration.checks import (
    DELIVER_CHECKS,
    MAP_CHECKS,
    PULL_CHECKS,
    Check,
    check_results,
)
from membrane_sync.orchestration.failures import failures, hidden_values
from membrane_sync.orchestration.partitions import register
from membrane_sync.orchestration.progress import Teller
from membrane_sync.orchestration.resources import MembraneResource
from membrane_sync.project.resolved_sync import ResolvedSync

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.ports import ConnectionRecord
    from membrane_sync.records import Report
    from membrane_sync.sync.run import Parties
    from membrane_sync.sync.windows import Bounds

Mode = Literal["incremental", "full", "window"]


@dataclass(frozen=True)
class Wanted:
    """What a run is asked to read; `since` and `until` are texts, as a person writes them."""

    mode: Mode = "incremental"
    since: str = ""
    until: str = ""
    allow_deletions: bool = False

    @property
    def bounds(self) -> "Bounds | None":
        """The window; raises Fatal where what was asked makes no sense."""
        from membrane_sync.sync.windows import Bounds

        if self.allow_deletions and self.mode != "full":
            raise Fatal(
                f"allow_deletions goes with mode full, and the run's mode is {self.mode}",
                hint="set mode: full in the run's configuration",
            )
        if self.mode == "window":
            return Bounds.between(self.since, self.until)
        if self.since or self.until:
            raise Fatal(
                f"since and until go with mode window, and the run's mode is {self.mode}",
                hint="set mode: window in the run's configuration",
            )
        return None


@dataclass(frozen=True)
class Task:
    """One stage's work: a sync as the connection sees it, and the report to fill."""

    sync: ResolvedSync
    parties: "Parties"
    report: "Report"
    run_id: str
    wanted: Wanted


@dataclass(frozen=True)
class Stage:
    """A part of a sync that is one asset: what to do, and which of the report's numbers are its."""

    name: str
    work: Callable[[Task], None]
    numbers: Sequence[str]
    changes: Sequence[str]
    """Those that are zero if nothing of the asset changed."""
    rows: Callable[[ResolvedSync], str]
    """The query that counts the rows the asset has for the connection."""
    key: Callable[[ResolvedSync], dg.AssetKey]
    checks: Sequence[Check]


def run_stage(
    stage: Stage,
    context: dg.AssetExecutionContext,
    membrane: MembraneResource,
    syncs: Sequence[str],
    wanted: Wanted = Wanted(),
) -> dg.MaterializeResult[None]:
    """Do the stage for the run's connection; of several `syncs`, the one the run was made for."""
    with failures(context):
        runtime = membrane.runtime()
        connection = runtime.ledger.connection(context.partition_key)
        # A run may be asked for before the sensor has seen the connection; Dagster would let it
        # write, and then refuse to record it.
        if connection.status != "archived":
            register(context.instance, connection.integration, connection.key)
        sync = _chosen(context, runtime, connection, syncs)
        with hidden_values():
            metadata = _run(stage, context, runtime, connection, sync, wanted)
            rows, checked = _looked_at(stage, runtime, connection, sync)
            if stage is PULL and sync.collection.custom_fields is not None:
                known = runtime.resolved.as_known(connection.key, sync.collection, sync.source)
                metadata["dagster/column_schema"] = translator.table_schema(known.fields_schema)
    metadata = {"dagster/partition_row_count": rows, **metadata}
    return dg.MaterializeResult(metadata=metadata, check_results=checked)


def _chosen(
    context: dg.AssetExecutionContext,
    runtime: "Runtime",
    connection: "ConnectionRecord",
    keys: Sequence[str],
) -> ResolvedSync:
    """The sync as the connection sees it; raises NotFound if it takes part in none of them."""
    wanted = context.run.tags.get(translator.SYNC_TAG)
    mine = {sync.sync.key: sync for sync in runtime.syncs(connection) if sync.declared_key in keys}
    if wanted in mine:
        return mine[wanted]
    return next(iter(mine.values()), None) or runtime.sync(keys[0], connection)


def _run(
    stage: Stage,
    context: dg.AssetExecutionContext,
    runtime: "Runtime",
    connection: "ConnectionRecord",
    sync: ResolvedSync,
    wanted: Wanted,
) -> dict[str, Any]:
    with (
        runtime.recorded(context.run.run_id, sync.sync.key, connection.key) as report,
        Teller(context, stage.name, stage.numbers, report).telling() as teller,
        runtime.connect(connection.key, sync, what=f"Dagster run {context.run.run_id}") as parties,
    ):
        teller.has_begun = True
        failed_before = report.failed
        if stage is PULL:
            teller.app = parties.api
        stage.work(Task(sync, parties, report, context.run.run_id, wanted))
        report.seconds += teller.seconds
    quota = getattr(parties.api, "quota_left", None)
    metadata = report_metadata(stage, report, wanted=wanted, quota_left=quota)
    metadata["failed"] = report.failed - failed_before
    metadata["duration"] = round(teller.seconds, 3)
    if metadata["failed"]:
        context.log.warning(
            f"{connection.key}: {stage.name}: failed {metadata['failed']:,}; see why with: "
            f"membrane dead-letters --connection {connection.key}"
        )
    for warning in report.warnings if stage is PULL else ():
        context.log.warning(f"{connection.key}: pull: {warning}")
    if stage is MAP and report.dropped_fields:
        names = ", ".join(report.dropped_fields)
        context.log.warning(
            f"{connection.key}: map: dropped fields that the data schema doesn't take: {names}"
        )
        metadata["dropped_fields"] = report.dropped_fields
    return metadata


def report_metadata(
    stage: Stage,
    report: "Report",
    *,
    wanted: Wanted = Wanted(),
    quota_left: int | None = None,
) -> dict[str, Any]:
    """The report's numbers that are the stage's own, as a materialization's metadata."""
    metadata: dict[str, Any] = {name: getattr(report, name) for name in stage.numbers}
    metadata["failed"] = report.failed
    if stage is PULL:
        cursors = {"cursor_from": report.cursor_from, "cursor_to": report.cursor_to}
        metadata |= {name: cursor or "none" for name, cursor in cursors.items()}
        metadata |= {name: value for name, value in asdict(wanted).items() if value}
        if quota_left is not None:
            metadata["quota_left"] = quota_left
    return metadata


def _looked_at(
    stage: Stage, runtime: "Runtime", connection: "ConnectionRecord", sync: ResolvedSync
) -> tuple[int, list[dg.AssetCheckResult]]:
    """How many rows the connection has, and what the checks say of them."""
    lake = runtime.lake(connection)
    try:
        checked = check_results(stage.checks, stage.key(sync), sync, connection.key, lake.count)
        return lake.count(stage.rows(sync)), checked
    finally:
        lake.close()


def _pull(task: Task) -> None:
    from membrane_sync.sync.run import pull_and_store

    pull_and_store(
        task.sync,
        task.parties,
        task.report,
        mode="full" if task.wanted.mode == "full" else "incremental",
        bounds=task.wanted.bounds,
        run_id=task.run_id,
        allow_deletions=task.wanted.allow_deletions,
    )


def _map(task: Task) -> None:
    from membrane_sync.sync.run import map_records

    map_records(task.sync, task.parties, task.report)


def _deliver(task: Task) -> None:
    from membrane_sync.sync.run import deliver_records

    deliver_records(task.sync, task.parties, task.report)


def _records(sync: ResolvedSync) -> str:
    return f'SELECT count(*) FROM records."{sync.stream}" WHERE _deleted_at IS NULL'


def _mapped(sync: ResolvedSync) -> str:
    return f'SELECT count(*) FROM mapped."{sync.sync.key}" WHERE _deleted_at IS NULL'


def _links(sync: ResolvedSync) -> str:
    return f"SELECT count(*) FROM links WHERE link_table = '{sync.links.key}'"


_STORED = ("created", "updated", "deleted", "unchanged")
_PULLED = ("requests", "not_modified", "pages", "pulled", *_STORED)

_CHANGED = ("created", "updated", "deleted")
_DELIVERED = ("delivered", "removed", "linked", "unlinked")

PULL = Stage("pull", _pull, _PULLED, _CHANGED, _records, translator.collection_key, PULL_CHECKS)
MAP = Stage("map", _map, ("mapped",), ("mapped",), _mapped, translator.mapped_key, MAP_CHECKS)
DELIVER = Stage(
    "deliver", _deliver, _DELIVERED, _DELIVERED, _links, translator.delivered_key, DELIVER_CHECKS
)
