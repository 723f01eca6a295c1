"""Commands that move data: sync, pull, backfill."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from membrane_sync.bootstrap import Runtime, find_root, open_runtime
from membrane_sync.cli.options import HERE, ConnectionOption, JsonOption, ProjectOption
from membrane_sync.cli.output import (
    Exit,
    as_ours,
    console,
    errors,
    failures,
    print_json,
    print_table,
)
from membrane_sync.errors import Fatal, MembraneError, NotFound, Retryable
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.resolved_sync import INSTANCE_MARK, ResolvedSync
from membrane_sync.records import Report
from membrane_sync.sync.pace import pace
from membrane_sync.sync.pull import Mode
from membrane_sync.sync.run import pull_and_store, run_sync
from membrane_sync.sync.windows import Bounds

Work = tuple[ConnectionRecord, ResolvedSync]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(sync)
    app.command()(pull)
    app.command()(backfill)


SyncArgument = Annotated[str, typer.Argument(help="Key of the sync; all of them if left out.")]
InstanceOption = Annotated[
    str, typer.Option("--instance", help="Only this instance; all of them if left out.")
]
FullOption = Annotated[
    bool, typer.Option("--full", help="Read everything, which also finds deletions.")
]


def sync(
    key: SyncArgument = "",
    connection: ConnectionOption = None,
    instance: InstanceOption = "",
    full: FullOption = False,
    allow_deletions: Annotated[
        bool,
        typer.Option("--allow-deletions", help="Delete what's gone, however much it is."),
    ] = False,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Bring what changed from the apps into the product: pull, store, map, link, push."""
    with failures(as_json):
        if allow_deletions and not (full and connection and key):
            raise Fatal(
                "--allow-deletions is for the full scan of one sync of one connection",
                hint="name them: membrane sync KEY --connection KEY --full --allow-deletions",
            )
    how = How(full, allow_deletions=allow_deletions)
    _run(_named(key, instance), connection, how, project, as_json)


def pull(
    key: SyncArgument = "",
    connection: ConnectionOption = None,
    instance: InstanceOption = "",
    full: FullOption = False,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Bring what changed from the apps into the lake, and no further."""
    _run(_named(key, instance), connection, How(full, only_pull=True), project, as_json)


def backfill(
    connection: Annotated[str, typer.Argument(help="Key of the connection.")],
    key: Annotated[str, typer.Option("--sync", "-s", help="Key of the sync.")],
    since: Annotated[str, typer.Option(help="Where the window begins; open if left out.")] = "",
    until: Annotated[str, typer.Option(help="The first moment after it; open if left out.")] = "",
    instance: InstanceOption = "",
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Read a window of time again and bring it into the product; the cursor stays where it is.

    Times are in ISO 8601 with a zone, as 2026-01-31T00:00:00Z.
    """
    with failures(as_json):
        bounds = Bounds.between(since, until)
    _run(_named(key, instance), connection, How(bounds=bounds), project, as_json)


def _named(key: str, instance: str) -> str:
    """The sync of one instance, as `contacts@emea`; `@emea` for all that the instance has."""
    return f"{key}{INSTANCE_MARK}{instance}" if instance else key


@dataclass(frozen=True)
class How:
    """How much to read, and how far to bring it."""

    full: bool = False
    bounds: Bounds | None = None
    only_pull: bool = False
    allow_deletions: bool = False


@dataclass(frozen=True)
class Failure:
    """A sync that failed, or a connection none of whose syncs could be found."""

    connection: str
    sync: str
    error: MembraneError


def _run(
    key: str,
    connection: str | None,
    how: How,
    project: Path,
    as_json: bool,
) -> None:
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        work, failed = _work(runtime, key, connection)
        reports: list[Report] = []
        with _progress(as_json) as progress:
            for record, declared in work:
                report = Report(declared.sync.key, record.integration, record.key)
                reports.append(report)
                try:
                    _one(runtime, record, declared, report, how, progress)
                except Exception as error:
                    failed.append(Failure(record.key, declared.sync.key, as_ours(error)))
    if as_json:
        said = [
            {
                "connection": failure.connection,
                "sync": failure.sync,
                "code": failure.error.code,
                "message": failure.error.message,
                "hint": failure.error.hint,
            }
            for failure in failed
        ]
        print_json({"reports": [asdict(report) for report in reports], "errors": said})
    else:
        show_reports(reports, all_went_well=not failed)
        for failure in failed:
            name = f"{failure.connection} {failure.sync}".strip()
            errors.print(
                f"[red bold]Error:[/] {escape(f'{name}: {failure.error}')}",
                highlight=False,
                soft_wrap=True,
            )
    raise typer.Exit(_exit(reports, failed))


def _exit(reports: Sequence[Report], failed: Sequence[Failure]) -> Exit:
    if failed:
        later = all(isinstance(failure.error, Retryable) for failure in failed)
        return Exit.LATER if later else Exit.FAILED
    return Exit.SOME_FAILED if any(report.failed for report in reports) else Exit.DONE


def _work(runtime: Runtime, key: str, connection: str | None) -> tuple[list[Work], list[Failure]]:
    """Which syncs of which connections are meant; raises NotFound if it's none.

    A connection whose syncs can't be found doesn't hold up the others.
    """
    if connection:
        record = runtime.ledger.connection(connection)
        records: Sequence[ConnectionRecord] = [record]
    else:
        records = runtime.ledger.connections()
    if not records:
        raise NotFound("there is no connection yet", hint="make one: membrane connect")
    work: list[Work] = []
    failed: list[Failure] = []
    for record in records:
        try:
            syncs = runtime.syncs(record)
        except MembraneError as error:
            failed.append(Failure(record.key, key, error))
        else:
            work += [(record, sync) for sync in syncs if _is_meant(sync, key)]
    if not work and not failed:
        if connection and key and not key.startswith(INSTANCE_MARK):
            runtime.sync(key, records[0])  # says why it isn't there
        known = ", ".join(runtime.project.keys("sync")) or "none"
        which = f"sync {key!r}" if key else "any sync"
        raise NotFound(f"no connection takes part in {which}", hint=f"syncs: {known}")
    return work, failed


def _is_meant(sync: ResolvedSync, key: str) -> bool:
    """Is it the sync of this name? One that names no instance means all of them."""
    name, mark, instance = key.partition(INSTANCE_MARK)
    return name in ("", sync.declared_key) and (not mark or instance == sync.instance_key)


def _one(
    runtime: Runtime,
    record: ConnectionRecord,
    declared: ResolvedSync,
    report: Report,
    how: How,
    progress: Progress,
) -> None:
    run_id = uuid.uuid4().hex
    name = f"{record.key} {declared.sync.key}"
    task = progress.add_task(name, total=None, doing="waiting for the connection", mark="")

    def show(verb: str, report: Report) -> None:
        numbers = f"{verb}: {report.pulled:,} pulled, {report.mapped:,} mapped"
        numbers += f", {report.delivered:,} delivered"
        if verb in ("pull", "store"):
            numbers = ", ".join(filter(None, [numbers, pace(report, monotonic() - started)]))
        total = report.total if report.total >= report.pulled else None
        progress.update(task, doing=numbers, total=total or None, completed=report.pulled)

    mode: Mode = "full" if how.full else "incremental"
    started = monotonic()
    try:
        with (
            runtime.recorded(run_id, declared.sync.key, record.key, report),
            runtime.connect(record.key, declared, what="membrane sync") as parties,
        ):
            work = pull_and_store if how.only_pull else run_sync
            work(
                declared,
                parties,
                report=report,
                mode=mode,
                bounds=how.bounds,
                run_id=run_id,
                progress=show,
                allow_deletions=how.allow_deletions,
            )
            report.seconds = monotonic() - started
    except BaseException:
        progress.update(task, mark=_FAILED, total=1, completed=1)
        raise
    progress.update(task, mark=_DONE, total=1, completed=1)


def show_reports(reports: Sequence[Report], *, all_went_well: bool = True) -> None:
    """What each sync did, in a table, and in words where nothing had to be done.

    Numbers that are zero everywhere are left out, but for the few that everyone looks for.
    """
    numbers = [name for name in _NUMBERS if _is_shown(name, reports)]
    rows = [
        [report.connection, report.sync, *(getattr(report, name) for name in numbers)]
        for report in reports
    ]
    names = ["connection", "sync"]
    print_table("", [*names, *numbers], rows, right=numbers, whole=names)
    requests = sum(report.requests for report in reports)
    failed = sum(report.failed for report in reports)
    idle = all_went_well and not failed and not any(report.written for report in reports)
    if requests and idle:
        s = "s" * (requests != 1)
        console.print(f"[green]Nothing changed[/]: {requests} request{s}, 0 rows written.")
    if failed:
        console.print(f"[yellow]{failed:,} failed[/]: see them, and why, with")
        for key in dict.fromkeys(report.connection for report in reports if report.failed):
            said = f"  membrane dead-letters --connection {escape(key)}"
            console.print(said, highlight=False, soft_wrap=True)
    for report in reports:
        for warning in report.warnings:
            said = escape(f"{report.connection} {report.sync}: {warning}")
            console.print(f"[yellow]warning[/]: {said}", highlight=False, soft_wrap=True)
        if report.dropped_fields:
            dropped = ", ".join(report.dropped_fields)
            console.print(
                f"[yellow]dropped[/] in {escape(f'{report.connection} {report.sync}')}, since the "
                f"data schema doesn't take them: {escape(dropped)}",
                highlight=False,
                soft_wrap=True,
            )


_ALWAYS = ("requests", "pulled", "mapped", "linked", "delivered", "seconds")
_NUMBERS = (
    "requests",
    "pulled",
    "created",
    "updated",
    "deleted",
    "unchanged",
    "mapped",
    "linked",
    "delivered",
    "removed",
    "failed",
    "not_modified",
    "seconds",
)


def _is_shown(number: str, reports: Sequence[Report]) -> bool:
    return number in _ALWAYS or any(getattr(report, number) for report in reports)


_DONE, _FAILED = "[green]✓[/]", "[red]✗[/]"


class _Mark(SpinnerColumn):
    """Turns while a sync runs; then says whether it went well."""

    def render(self, task: Task) -> RenderableType:
        mark = task.fields["mark"]
        return Text.from_markup(mark) if mark else super().render(task)


def _progress(quiet: bool) -> Progress:
    return Progress(
        _Mark(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        console=errors,
        disable=quiet,
        transient=False,
    )
