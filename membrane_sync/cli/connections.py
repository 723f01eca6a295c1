"""Commands about connections: disconnect, status."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json, print_table
from membrane_sync.errors import Fatal


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(disconnect)
    app.command()(status)


def disconnect(
    connection: Annotated[str, typer.Argument(help="Key of the connection.")],
    project: ProjectOption = HERE,
) -> None:
    """Archive a connection and forget it: its key is free again; its lake file stays."""
    from membrane_sync.bootstrap import find_root, open_runtime

    with failures():
        runtime = open_runtime(find_root(project))
        done = runtime.archive(connection)
        runtime.ledger.disconnect(connection)
    console.print(f"[green]✓[/] disconnected {escape(connection)}")
    if done.warning:
        console.print(f"[yellow]warning[/]: {escape(done.warning)}", soft_wrap=True)
    console.print(f"Its records are still in {escape(str(runtime.stores.lake_path(connection)))}")


def status(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Show connections, what each has, and how its last sync went."""
    from membrane_sync.bootstrap import find_root, open_runtime

    with failures(as_json):
        runtime = open_runtime(find_root(project))
        rows = runtime.overview()
    if as_json:
        print_json([vars(row) for row in rows])
        return
    if not rows:
        apps = ", ".join(runtime.project.integrations) or "none"
        console.print(f"No connection yet. Integrations: {escape(apps)}")
        console.print("Next: membrane connect INTEGRATION --tenant TENANT", highlight=False)
        return
    columns = [
        "connection",
        "tenant",
        "sync",
        "records",
        "links",
        "dead letters",
        "last sync",
        "result",
    ]
    print_table(
        "", columns, [_row(row) for row in rows], right=["records", "links", "dead letters"]
    )


def _row(row: Any) -> Sequence[Any]:
    return (
        row.connection,
        row.tenant,
        row.sync,
        row.records,
        row.links,
        row.dead_letters,
        row.last_sync or "never",
        row.result,
    )


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Values by name; a text that isn't name=value is not repeated, as it may be a secret."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Fatal(f"a value of {option} is not name=value", hint=f"write {option} name=value")
        pairs[name] = value
    return pairs


def secrets_of(texts: Sequence[str]) -> Mapping[str, str]:
    """Credentials by name; `env:NAME` and `-` keep them out of the shell's history."""
    return {name: _secret(name, value) for name, value in pairs(texts, "--credential").items()}


def _secret(name: str, value: str) -> str:
    if value == "-":
        return sys.stdin.readline().rstrip("\n")
    if value.startswith("env:"):
        found = os.environ.get(value[4:])
        if found is None:
            raise Fatal(f"credential {name!r}: {value[4:]} is not set in the environment")
        return found
    return value
