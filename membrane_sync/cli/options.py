"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

ProjectOption = Annotated[
    Path,
    typer.Option(
        "--project",
        "-p",
        help="A folder of the project.",
        envvar="MEMBRANE_PROJECT",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, for scripts.")]
ConnectionOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this annotation at run time
    typer.Option("--connection", "-c", help="Key of the connection."),
]

HERE = Path()
