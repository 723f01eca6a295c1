"""The command that serves the HTTP API."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, ProjectOption
from membrane_sync.cli.output import console, failures
from membrane_sync.errors import Fatal, LedgerUnavailable

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime

PORT = 8700
PortOption = Annotated[int, typer.Option("--port", help="Port of the API.", min=1, max=65535)]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: PortOption = PORT,
    project: ProjectOption = HERE,
) -> None:
    """Serve the HTTP API, for the product's backend and its tenants. Ctrl+C stops it."""
    with failures():
        serve_api(project, host, port)


def serve_api(start: Path, host: str, port: int) -> None:
    """Serve the API of the project that `start` is in, until it's interrupted.

    Raises Fatal where nobody could ask it, since there's neither a key nor a secret.
    """
    import uvicorn

    from membrane_sync.bootstrap import find_root, open_runtime
    from membrane_sync.server.app import create_app

    runtime = open_runtime(find_root(start))
    if not runtime.settings.server.is_open:
        raise Fatal(
            "nobody could ask the API: there's no key for it",
            hint="set MEMBRANE_API_KEYS to a secret of 32 characters or more; docs/api.md says how",
        )
    refuse_newer_ledger(runtime)
    app = create_app(runtime)
    _log_requests()
    console.print(f"API: [bold]http://{escape(host)}:{port}[/]  (Ctrl+C stops it)")
    # No access log of uvicorn's: it has whole addresses, and they may hold secrets.
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


def refuse_newer_ledger(runtime: Runtime) -> None:
    """Raise Fatal where a newer version has the ledger; one that's away now may come back."""
    with suppress(LedgerUnavailable):
        runtime.ledger.living()


def _log_requests() -> None:
    """A line for each request, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("membrane_sync.server")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
