"""An empty database of each kind, and a ledger with two connections in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.databases import url as url


@pytest.fixture
def ledger(url: str) -> Iterator[SqlLedger]:
    opened = SqlLedger(url, AesVault(b"a key of the tests"))
    for key in ("acme", "globex"):
        opened.connect(ConnectionRecord(key, "kinto", key))
    yield opened
    opened.close()
