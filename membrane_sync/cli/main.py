"""The `membrane` command: one function a verb, grouped by what they're about."""

from __future__ import annotations

import typer

from membrane_sync.cli import (
    backup,
    connect,
    connections,
    connector,
    development,
    events,
    lake,
    mapping,
    overrides,
    project,
    serve,
    simulate,
    status,
    syncing,
    upkeep,
    vault,
    worker,
)

app = typer.Typer(
    help="Keep your product's data in sync with the apps your customers use.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

for group in (
    project,
    mapping,
    connect,
    connections,
    status,
    overrides,
    syncing,
    lake,
    upkeep,
    vault,
    backup,
    development,
    events,
    serve,
    worker,
    simulate,
    connector,
):
    group.add_commands(app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
