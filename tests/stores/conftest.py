"""An empty database of each kind, and a ledger with two connections in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import fresh_database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    with fresh_database(request.param, tmp_path, server) as url:
        yield url


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    opened = SqlLedger(url, AesVault(b"a key of the tests"))
    for key in ("acme", "globex"):
        opened.connect(ConnectionRecord(key, "kinto", key))
    yield opened
    opened.close()
