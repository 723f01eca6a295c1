"""Commands for one machine: dev starts Dagster, demo shows everything on a real app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures
from membrane_sync.cli.serve import PORT, refuse_newer_ledger


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(dev)
    app.command()(demo)


def dev(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port of Dagster's UI.")] = 3000,
    api_port: Annotated[int, typer.Option(help="Port of the API.", min=1, max=65535)] = PORT,
    project: ProjectOption = HERE,
) -> None:
    """Start everything on this machine: Dagster's webserver and daemon, and the HTTP API."""
    from membrane_sync.bootstrap import find_root, open_runtime
    from membrane_sync.cli.dagster_process import run_dev

    with failures():
        root = find_root(project)
        runtime = open_runtime(root)
        refuse_newer_ledger(runtime)
        settings = runtime.settings.server
        console.print(f"Dagster's UI: [bold]http://{escape(host)}:{port}[/]  (Ctrl+C stops it)")
        if not settings.is_open:
            console.print("API: off, until MEMBRANE_API_KEYS is set (docs/api.md)")
        raise typer.Exit(run_dev(root, host, port, api_port if settings.is_open else None))


def demo(
    directory: Annotated[Path, typer.Argument(help="Where to make the demo's own project.")] = Path(
        ".membrane/demo"
    ),
    records: Annotated[int, typer.Option("--records", "-n", min=250, help="Per account.")] = 3000,
    ui: Annotated[
        bool, typer.Option("--ui", help="Keep the apps running and open Dagster's UI at the end.")
    ] = False,
    port: Annotated[int, typer.Option("--port", help="Port of Dagster's UI.")] = 3000,
    as_json: JsonOption = False,
) -> None:
    """Start real apps, connect two customers, sync in Dagster, and show what happened."""
    from membrane_sync.cli.demo.demo import run_demo

    with failures(as_json):
        run_demo(directory, records, as_json=as_json, ui=ui, port=port)
