"""localstripe (PyPI), a fake of Stripe's API in memory, with webhooks signed as Stripe signs them.

It sends each webhook once, about a second after the change. Its own command listens everywhere, so
it's started as the application that it is.
"""

from __future__ import annotations

from pathlib import Path

import httpx

from membrane_sync.apps.install import install
from membrane_sync.apps.process import HOST, AppProcess, answers, free_port

REQUIREMENT = "localstripe==1.15.10"
KEY = "sk_test_12345"
_SERVE = """
import sys
from aiohttp import web
from localstripe.server import app
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


class LocalStripe:
    """A running server; use it as a context manager."""

    def __init__(self, process: AppProcess, port: int) -> None:
        self.process = process
        self.url = f"http://{HOST}:{port}"
        self._client = httpx.Client(
            base_url=f"{self.url}/v1", auth=(KEY, ""), trust_env=False, timeout=30
        )

    def create(self, **fields: str) -> str:
        """A new customer; gives its id."""
        answer = self._client.post("/customers", data=fields).raise_for_status()
        return str(answer.json()["id"])

    def update(self, id: str, **fields: str) -> None:
        """Change a customer."""
        self._client.post(f"/customers/{id}", data=fields).raise_for_status()

    def delete(self, id: str) -> None:
        """Delete a customer."""
        self._client.delete(f"/customers/{id}").raise_for_status()

    def __enter__(self) -> LocalStripe:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self.process.stop()


def start_localstripe(directory: Path, *, data: Path) -> LocalStripe:
    """Install it below `directory`, if it isn't, and start it; `data` holds its log."""
    install(directory, REQUIREMENT, "localstripe")
    port = free_port()
    process = AppProcess(
        name="localstripe",
        command=[str(directory.resolve() / "venv" / "bin" / "python"), "-c", _SERVE, str(port)],
        directory=data,
        ready=answers(f"http://{HOST}:{port}/js.stripe.com/v3/"),
    ).start()
    return LocalStripe(process, port)
