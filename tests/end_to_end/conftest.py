"""Every test here has a project of its own, which nothing in the environment changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.end_to_end.helpers import Workspace, new_workspace


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MEMBRANE_") and name != "MEMBRANE_APPS_DIR":
            monkeypatch.delenv(name)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return new_workspace(tmp_path / "project")
