"""The command that applies events as soon as they come."""

from __future__ import annotations

from typing import Annotated

import typer

from membrane_sync.cli.options import HERE, ProjectOption
from membrane_sync.cli.output import failures
from membrane_sync.cli.serve import refuse_newer_ledger


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(worker)


def worker(
    threads: Annotated[
        int, typer.Option(help="Connections that it works for at once.", min=1, max=64)
    ] = 4,
    project: ProjectOption = HERE,
) -> None:
    """Apply events as soon as they come, within a second. Ctrl+C or SIGTERM stops it."""
    from membrane_sync.bootstrap import find_root, open_runtime
    from membrane_sync.cli.dagster_process import become_worker

    with failures():
        root = find_root(project)
        refuse_newer_ledger(open_runtime(root))
        become_worker(root, threads)
