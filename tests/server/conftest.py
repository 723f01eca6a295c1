"""One API for each test module, with two tenants who have an account each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from membrane_sync.bootstrap import Runtime
from membrane_sync.server.app import create_app
from tests.server.helpers import (
    API_KEY,
    PIN,
    SETTINGS,
    TOKEN,
    Caller,
    EchoApp,
    echo_app,
    project_with_echo,
    serving,
    token,
)


@dataclass
class Api:
    """A running API."""

    url: str
    runtime: Runtime
    echo: EchoApp

    def tenant(self, key: str = "acme") -> Caller:
        return Caller(self.url, token(key))

    def workspace(self, tenant: str = "") -> Caller:
        return Caller(self.url, API_KEY, tenant)

    def nobody(self) -> Caller:
        return Caller(self.url)

    def connect(self, tenant: str = "acme", path: str = "", **more: object) -> str:
        """A connection of the tenant to the app; gives its key."""
        body = {
            "integration": "echo",
            "input": {"url": self.echo.url + path, "pin": PIN},
            "credentials": {"token": TOKEN},
            **more,
        }
        made = self.tenant(tenant)("POST", "/connections", body)
        assert made.status_code == 201, made.text
        return str(made.json()["key"])


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoApp]:
    with echo_app() as running:
        yield running


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, echo: EchoApp) -> Iterator[Api]:
    with open_api(tmp_path_factory.mktemp("api"), echo) as opened:
        yield opened


@contextmanager
def open_api(
    root: Path,
    echo: EchoApp,
    *,
    server: str = "",
    files: Mapping[str, str] | None = None,
    **environ: str,
) -> Iterator[Api]:
    """An API of a new project on a free port; `server` are lines of its settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SETTINGS, **environ}.items():
            patch.setenv(name, value)
        workspace = project_with_echo(root)
        workspace.write("pyproject.toml", f"[tool.membrane_sync.server]\n{server}")
        for path, text in (files or {}).items():
            workspace.write(path, text)
        runtime = workspace.runtime
    with serving(create_app(runtime)) as url:
        yield Api(url, runtime, echo)
