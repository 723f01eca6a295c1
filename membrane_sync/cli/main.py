"""The `membrane` command: one function a verb, grouped by what they're about."""

from __future__ import annotations

import typer

from membrane_sync.cli import connections, development, lake, mapping, overrides, project, syncing
from membrane_sync.cli.output import errors

app = typer.Typer(
    help="Keep your product's data in sync with the apps your customers use.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

for group in (project, mapping, connections, overrides, syncing, lake, development):
    group.add_commands(app)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        errors.print("interrupted; what was committed stays, and the next sync goes on from there")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
