"""Commands about events: events list, show, replay, webhooks, prune."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from membrane_sync.bootstrap import Runtime, find_root, open_runtime
from membrane_sync.cli.lake import TIMES
from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import Exit, console, failures, print_json, print_records, print_table
from membrane_sync.ports.event_log import EventFilter
from membrane_sync.ports.events import Event, Put, Webhook

events_app = typer.Typer(help="See what happened, and let it happen again.", no_args_is_help=True)

MOST_REPLAYED = 100_000
STATUSES = ("pending", "done", "dead", "ignored")
KINDS = ("record", "external", "internal")

ConnectionOption = Annotated[str, typer.Option("--connection", "-c", help="Only this one's.")]
TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="Only this customer's.")]
StatusOption = Annotated[str, typer.Option(help=f"Only those that are {', '.join(STATUSES)}.")]
KindOption = Annotated[str, typer.Option(help=f"Only those of a {', '.join(KINDS)}.")]
NameOption = Annotated[str, typer.Option(help="Only of this collection, or of this event.")]
SinceOption = Annotated[
    Optional[datetime],  # noqa: UP045 - typer reads this annotation at run time
    typer.Option(formats=TIMES, help="Only those that came since, in UTC if no zone is said."),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many to show.")]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    events_app.command("list")(list_events)
    events_app.command("show")(show)
    events_app.command("replay")(replay)
    events_app.command("webhooks")(webhooks)
    events_app.command("prune")(prune)
    app.add_typer(events_app, name="events")


def list_events(
    connection: ConnectionOption = "",
    tenant: TenantOption = "",
    status: StatusOption = "",
    kind: KindOption = "",
    name: NameOption = "",
    since: SinceOption = None,
    limit: LimitOption = 20,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List events, the newest first: what happened, and what became of it."""
    which = _filter(connection, status, kind, name, since)
    with failures(as_json):
        log = _runtime(project).ledger.event_log(tenant or None)
        found = [_described(event) for event in log.events(0, limit, which)]
        counts = log.counts()
    if as_json:
        print_json(found)
        return
    if found:
        columns = ["id", "received_at", "status", "kind", "name", "connection", "change"]
        columns += ["external_id", "attempts", "error"]
        rows = [[row[column] for column in columns] for row in found]
        print_table("", columns, rows, whole=["id", "received_at", "status"])
    said = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    console.print(f"{len(found):,} shown; of all: {said or 'none'}", highlight=False)


def show(
    event: Annotated[int, typer.Argument(help="Id of the event.")],
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show an event with what it carries, and the webhook that brought it."""
    with failures(as_json):
        log = _runtime(project).ledger.event_log(None)
        found, webhook = log.event(event), log.webhook(event)
    record = _described(found) | {"payload": _parsed(found.payload)}
    request = None if webhook is None else _request(webhook)
    if as_json:
        print_json(record | {"webhook": request})
        return
    print_records([{name: value for name, value in record.items() if name != "payload"}])
    _print_text("payload", found.payload)
    if request is not None:
        lines = [f"{name}: {value}" for name, value in request["headers"].items()]
        _print_text(f"webhook {request['id']}", "\n".join([*lines, "", request["body"]]))


def replay(
    event: Annotated[
        Optional[list[int]],  # noqa: UP045 - typer reads this annotation at run time
        typer.Argument(help="Ids of events; those that the options say if left out."),
    ] = None,
    connection: ConnectionOption = "",
    tenant: TenantOption = "",
    status: StatusOption = "dead",
    kind: KindOption = "",
    name: NameOption = "",
    since: SinceOption = None,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Let events take effect once more; without ids, all that are dead and fit the options.

    An internal event that nothing asked for is checked and spread anew.
    """
    which = _filter(connection, status, kind, name, since)
    with failures(as_json):
        again = _runtime(project).events.replay(tenant or None)
        if event:
            done = [id for one in event for id in again.event(one)]
            refused: Mapping[int, str] = {}
        else:
            replayed = again.all(which, MOST_REPLAYED)
            done, refused = list(replayed.events), replayed.refused
    if as_json:
        print_json({"events": done, "refused": refused})
    else:
        console.print(f"[green]✓[/] {len(done):,} wait again", highlight=False)
        for id, words in refused.items():
            console.print(f"[yellow]{id}[/]: {escape(words)}", highlight=False, soft_wrap=True)
    if refused:
        raise typer.Exit(Exit.SOME_FAILED)


def webhooks(
    webhook: Annotated[
        Optional[int],  # noqa: UP045 - typer reads this annotation at run time
        typer.Argument(help="Id of a webhook to show; a list of them if left out."),
    ] = None,
    status: Annotated[
        str, typer.Option(help="Only those that are routed, unmatched or failed.")
    ] = "",
    limit: LimitOption = 20,
    again: Annotated[bool, typer.Option("--replay", help="Take the webhook in once more.")] = False,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List webhooks as they came in, or show one: those that came to nothing, too.

    With --replay, one is taken in once more, by the project as it is now.
    """
    _refuse_unknown("--status", status, ("routed", "unmatched", "failed"))
    if again and webhook is None:
        raise typer.BadParameter("--replay is for one webhook: name it by its id")
    with failures(as_json):
        runtime = _runtime(project)
        log = runtime.ledger.webhooks
        if again and webhook is not None:
            put = runtime.events.webhook_replay.webhook(webhook)
            _say_taken(put, as_json)
            return
        if webhook is not None:
            _show_webhook(log.webhook(webhook), as_json)
            return
        found = log.webhooks(0, limit, status or None)  # type: ignore[arg-type]
    columns = ["id", "received_at", "status", "source", "name", "error"]
    rows = [{column: getattr(one, column) for column in columns} for one in found]
    if as_json:
        print_json(rows)
    elif rows:
        print_table("", columns, [list(row.values()) for row in rows], whole=columns[:3])
    else:
        console.print("no webhooks")


def _say_taken(put: Put, as_json: bool) -> None:
    if as_json:
        print_json({"events": list(put.events), "duplicates": put.duplicates})
    else:
        words = f"{len(put.events):,} new events, {put.duplicates:,} were there already"
        console.print(f"[green]✓[/] {words}", highlight=False)


def prune(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Forget webhooks and events that ended as long ago as `keep_events_days` says."""
    with failures(as_json):
        gone = _runtime(project).events.forget_events()
    if as_json:
        print_json(gone)
        return
    said = ", ".join(f"{count:,} {what}" for what, count in gone.items())
    console.print(f"[green]✓[/] forgot {said}", highlight=False)


def _runtime(project: Any) -> Runtime:
    return open_runtime(find_root(project))


def _filter(
    connection: str, status: str, kind: str, name: str, since: datetime | None
) -> EventFilter:
    _refuse_unknown("--status", status, STATUSES)
    _refuse_unknown("--kind", kind, KINDS)
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return EventFilter(
        connection,
        status or None,  # type: ignore[arg-type]
        kind or None,  # type: ignore[arg-type]
        name,
        since=None if since is None else since.timestamp(),
    )


def _refuse_unknown(option: str, value: str, known: tuple[str, ...]) -> None:
    if value and value not in known:
        raise typer.BadParameter(f"{option} is one of {', '.join(known)}")


def _described(event: Event) -> dict[str, Any]:
    """All but what it carries, which may be personal."""
    left_out = ("payload", "dedupe_key", "dedupe_seconds", "subscription")
    found = {name: value for name, value in asdict(event).items() if name not in left_out}
    return found | {"occurred_at": event.occurred}


def _parsed(payload: str) -> Any:
    try:
        return json.loads(payload) if payload else None
    except ValueError:
        return payload


def _request(webhook: Webhook) -> dict[str, Any]:
    return asdict(webhook) | {"body": webhook.body.decode(errors="backslashreplace")}


def _show_webhook(webhook: Webhook, as_json: bool) -> None:
    request = _request(webhook)
    if as_json:
        print_json(request)
        return
    print_records([{n: v for n, v in request.items() if n != "body"}])
    _print_text("body", request["body"])


def _print_text(title: str, text: str) -> None:
    console.rule(title, align="left")
    console.print(escape(text), highlight=False, soft_wrap=True)
