"""Commands about connections: connections list, show, test, pause and so on, and disconnect."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from membrane_sync.bootstrap import Runtime, find_root, open_runtime
from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json, print_records, print_table
from membrane_sync.errors import Fatal
from membrane_sync.events.polling import ways
from membrane_sync.ports import ConnectionRecord

connections_app = typer.Typer(help="Look after connections.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(help="Key of the connection.")]
TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="Only this customer's.")]
IntegrationOption = Annotated[str, typer.Option("--integration", "-i", help="Only this one's.")]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(disconnect)
    connections_app.command("list")(list_connections)
    connections_app.command("show")(show)
    connections_app.command("test")(prove)
    connections_app.command("refresh")(refresh)
    connections_app.command("pause")(pause)
    connections_app.command("resume")(resume)
    connections_app.command("archive")(archive)
    connections_app.command("subscriptions")(subscriptions)
    connections_app.command("resubscribe")(resubscribe)
    app.add_typer(connections_app, name="connections")


def disconnect(
    connection: KeyArgument,
    project: ProjectOption = HERE,
) -> None:
    """Archive a connection and forget it: its key is free again; its lake file stays."""
    with failures():
        runtime = open_runtime(find_root(project))
        done = runtime.archive(connection)
        runtime.ledger.disconnect(connection)
    console.print(f"[green]✓[/] disconnected {escape(connection)}")
    if done.warning:
        console.print(f"[yellow]warning[/]: {escape(done.warning)}", soft_wrap=True)
    console.print(f"Its records are still in {escape(str(runtime.stores.lake_path(connection)))}")


def list_connections(
    tenant: TenantOption = "",
    integration: IntegrationOption = "",
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List connections: whether they sync, why not, and when their credentials end."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        found = [
            _described(runtime, record)
            for record in runtime.ledger.connections(integration)
            if tenant in ("", record.tenant)
        ]
    if as_json:
        print_json(found)
        return
    if not found:
        console.print("no connection")
        return
    columns = ["key", "tenant", "integration", "status", "reason", "expires_at"]
    rows = [[record[column] for column in columns] for record in found]
    print_table("", [*columns[:-1], "expires"], rows, whole=["key", "status"])


def show(
    connection: KeyArgument, project: ProjectOption = HERE, as_json: JsonOption = False
) -> None:
    """Show all that is known of a connection but its secrets."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        record = runtime.ledger.known(connection)
        found = _described(runtime, record) | {"lake": str(runtime.stores.lake_path(connection))}
    if as_json:
        print_json(found)
        return
    print_records([found])


def prove(
    connection: KeyArgument, project: ProjectOption = HERE, as_json: JsonOption = False
) -> None:
    """Call the app with the connection's credentials, to see whether they work."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        record = runtime.ledger.connection(connection)
        if record.status == "archived":
            raise Fatal(
                f"connection {connection!r} is archived, and has no credentials",
                hint=f"connect it again: membrane connect {record.integration}",
            )
        declared = runtime.project.connector(record.integration).test is not None
        runtime.apps.prove(record)
    said = "its credentials work" if declared else "not tested, since its connector has no test"
    _say(f"{connection}: {said}", {"key": connection, "tested": declared}, as_json)


def refresh(
    connection: KeyArgument, project: ProjectOption = HERE, as_json: JsonOption = False
) -> None:
    """Get new credentials from the app now, without the user."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        record = runtime.apps.refresh(connection)
    _say(f"{connection}: its credentials are new", _described(runtime, record), as_json)


def pause(
    connection: KeyArgument,
    reason: Annotated[str, typer.Option(help="Why; `status` and Dagster show it.")] = "",
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Let none of its syncs run until it's resumed."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        runtime.pause(connection, reason)
        record = runtime.ledger.known(connection)
    _say(f"paused {connection}", _described(runtime, record), as_json)


def resume(
    connection: KeyArgument, project: ProjectOption = HERE, as_json: JsonOption = False
) -> None:
    """Let a paused connection's syncs run again, from where they stood."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        runtime.resume(connection)
        record = runtime.ledger.known(connection)
    _say(f"resumed {connection}", _described(runtime, record), as_json)


def archive(
    connection: KeyArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Tell the app that a connection ends, and wipe its credentials; its lake stays."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        runtime.ledger.known(connection)
        if not yes:
            _confirm(connection)
        done = runtime.archive(connection)
        record = runtime.ledger.known(connection)
        lake = str(runtime.stores.lake_path(connection))
    said = _described(runtime, record) | {"lake": lake, "warning": done.warning}
    _say(f"archived {connection}; its credentials are wiped", said, as_json)
    if not as_json:
        if done.warning:
            console.print(f"[yellow]warning[/]: {escape(done.warning)}", soft_wrap=True)
        console.print(f"Its records are still in {escape(lake)}", soft_wrap=True)


def subscriptions(
    connection: KeyArgument, project: ProjectOption = HERE, as_json: JsonOption = False
) -> None:
    """Show how a connection's changes reach us, and what its app was asked to tell of."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        record = runtime.ledger.known(connection)
        covered = runtime.events.subscriptions.covered(connection)
        by = {sync.sync.key: ways(sync, covered) for sync in runtime.syncs(record)}
        found = [_subscription(one) for one in runtime.events.subscriptions.of(connection)]
    _show_subscriptions({"syncs": by, "subscriptions": found}, as_json)


def resubscribe(
    connection: KeyArgument, project: ProjectOption = HERE, as_json: JsonOption = False
) -> None:
    """Ask the app anew for everything it's to tell of, though that may work."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        looked = runtime.events.subscriptions.one(connection, anew=True)
        if looked.error:
            raise Fatal(looked.error)
        found = [_subscription(one) for one in runtime.events.subscriptions.of(connection)]
    _show_subscriptions({"subscriptions": found}, as_json)


def _subscription(one: Any) -> dict[str, Any]:
    at = one.renews_at
    renews_at = datetime.fromtimestamp(at, UTC) if at else None
    return {**vars(one), "renews_at": renews_at}


def _show_subscriptions(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for sync, said in found.get("syncs", {}).items():
        console.print(f"{escape(sync)}: {escape(said)}", highlight=False)
    if not found["subscriptions"]:
        console.print("no subscription")
        return
    columns = ["about", "change", "status", "renews_at", "error"]
    rows = [[one[column] for column in columns] for one in found["subscriptions"]]
    titles = ["about", "change", "status", "renewed", "error"]
    print_table("", titles, rows, whole=["about", "status"])


def _confirm(connection: str) -> None:
    if not sys.stdin.isatty():
        raise Fatal(
            f"archiving {connection!r} wipes its credentials, and nobody can be asked",
            hint="say it with --yes",
        )
    typer.confirm(f"Wipe the credentials of {connection}? It then has to be connected", abort=True)


def _described(runtime: Runtime, record: ConnectionRecord) -> dict[str, Any]:
    """What may be shown to anybody who works with the project."""
    ends, secret = record.expires_at, runtime.apps.secret_input(record.integration)
    return {
        "key": record.key,
        "tenant": record.tenant,
        "integration": record.integration,
        "name": record.name,
        "status": record.status,
        "reason": record.reason,
        "expires_at": None if ends is None else datetime.fromtimestamp(ends, UTC),
        "connected_at": record.connected_at,
        "option": record.option,
        "account": record.account,
        "input": {n: value for n, value in record.plain_input.items() if n not in secret},
    }


def _say(words: str, value: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        console.print(f"[green]✓[/] {escape(words)}", highlight=False)
