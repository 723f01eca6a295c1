"""Every test here has a project of its own, made as `membrane init` makes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from membrane_sync.cli.scaffold import scaffold
from tests.end_to_end.helpers import Workspace


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MEMBRANE_", "DAGSTER_")) and name != "MEMBRANE_APPS_DIR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "crm"
    scaffold(root)
    return Workspace(root)


@pytest.fixture
def dagster_home(tmp_path: Path) -> Path:
    """Where `instance` keeps everything."""
    home = tmp_path / "dagster"
    home.mkdir()
    return home


@pytest.fixture
def instance(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with storage in files, as a user's own."""
    quiet = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(dagster_home), overrides=quiet) as opened:
        yield opened
