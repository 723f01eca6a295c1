"""Commands that copy what a project keeps, and put a copy back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from membrane_sync.bootstrap import Runtime, find_root, open_runtime
from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json
from membrane_sync.stores.backup import Place, back_up
from membrane_sync.stores.backup import restore as put_back


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    directory: Annotated[Path, typer.Argument(help="A new folder.")],
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Copy all lakes and the ledger to a folder; syncs may go on meanwhile."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        made = back_up(_place(runtime), directory)
    if as_json:
        print_json(vars(made))
        return
    console.print(f"{len(made.lakes):,} lakes copied to {directory}", highlight=False)
    if made.ledger:
        console.print("The ledger is in it. Credentials are encrypted in there: keep the key, too.")
    else:
        console.print("[yellow]The ledger isn't in it:[/] copy its database now, as with pg_dump.")


def restore(
    directory: Annotated[Path, typer.Argument(help="A folder that membrane backup made.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Put the lakes and the ledger of a backup in place; let no sync run meanwhile."""
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        made = put_back(_place(runtime), directory, force=force)
    if as_json:
        print_json(vars(made))
        return
    console.print(f"{len(made.lakes):,} lakes restored, as of {made.made_at}", highlight=False)
    if not made.ledger:
        console.print("[yellow]The backup has no ledger:[/] restore its database, too.")


def _place(runtime: Runtime) -> Place:
    settings = runtime.settings
    return Place(settings.data_dir, settings.ledger_url, settings.lock_wait_seconds)
