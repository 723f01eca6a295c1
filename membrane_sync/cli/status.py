"""The command that shows how all syncs stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from rich.markup import escape

from membrane_sync.bootstrap import find_root, open_runtime
from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json, print_table


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(status)


def status(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Show connections, what each has, and how its last sync went."""
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
