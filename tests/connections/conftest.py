"""A ledger in SQLite and in PostgreSQL, and the OAuth provider with which tokens soon end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from membrane_sync.apps.oidc_provider import OidcProvider, start_oidc_provider
from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from tests.connections.fleet import ACME, Refresher, open_ledger
from tests.connections.provider import CLIENT, connector, grant
from tests.stores.databases import url as url


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    opened = open_ledger(url)
    yield opened
    opened.close()


@pytest.fixture
def granted(ledger: SqlLedger, oidc_provider: OidcProvider) -> Refresher:
    """A connection to the provider, whose access token has ended, and what refreshes it."""
    return connect(ledger, oidc_provider)


def connect(ledger: SqlLedger, provider: OidcProvider) -> Refresher:
    given = grant(provider, f"user-{uuid.uuid4().hex[:8]}").credentials
    ledger.connect(ConnectionRecord(ACME, "app", "acme", credentials=given, expires_at=1.0))
    return Refresher(connector(provider), provider.secret(CLIENT))


@pytest.fixture(scope="session")
def brief_provider(oidc_provider_dir: Path, apps_run: Path) -> Iterator[OidcProvider]:
    """A provider whose access tokens end after 5 seconds."""
    with start_oidc_provider(
        oidc_provider_dir, data=apps_run / "brief_provider", access_token_seconds=5
    ) as running:
        yield running


@pytest.fixture(scope="session")
def keeping_provider(oidc_provider_dir: Path, apps_run: Path) -> Iterator[OidcProvider]:
    """A provider whose refresh tokens stay the same."""
    with start_oidc_provider(
        oidc_provider_dir, data=apps_run / "keeping_provider", rotate=False
    ) as running:
        yield running
