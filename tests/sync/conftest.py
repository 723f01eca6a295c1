"""An empty lake of each kind, for tests of what both must do alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from membrane_sync.ports import Lake
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.testing import MemoryLake


@pytest.fixture(params=["memory", "duckdb"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "memory":
        yield MemoryLake()
        return
    opened = DuckDbLake(tmp_path / "acme.duckdb")
    yield opened
    opened.close()
