"""One server for the module's tests: each test has a tenant of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from membrane_sync.apps.oidc_provider import OidcProvider, start_oidc_provider
from tests.connect.looks import DESKTOP
from tests.connect.world import World, open_world


@pytest.fixture(scope="module")
def provider(oidc_provider_dir: Path, apps_run: Path) -> Iterator[OidcProvider]:
    """An OAuth provider that knows the connect page's callback, and a terminal's."""
    back = ("http://127.0.0.1/oauth/callback", "http://127.0.0.1/callback")
    data = apps_run / "oidc_provider_connect"
    with start_oidc_provider(oidc_provider_dir, data=data, redirect_uris=back) as running:
        yield running


@pytest.fixture(scope="module")
def world(provider: OidcProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The product, its server, and the provider behind Ledgerly."""
    with open_world(tmp_path_factory.mktemp("world"), provider) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same without a provider, for what doesn't go there."""
    with open_world(tmp_path_factory.mktemp("plain"), None) as opened:
        yield opened


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """A customer of its own for each test."""
    return request.node.name[:100]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page in a browser of its own; a script error or a broken policy fails the test."""
    context = chromium.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None,
    )
    yield opened
    context.close()
    assert wrong == []
