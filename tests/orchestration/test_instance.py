"""Dagster's storage is made once, whoever is first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.helpers import Workspace

OPENING = """
from membrane_sync.orchestration.instance import open_instance
with open_instance() as instance:
    instance.get_run_records(limit=1)
"""


@pytest.mark.parametrize("_round", range(2))
def test_processes_that_start_together_share_a_new_storage(
    workspace: Workspace, _round: int
) -> None:
    """Without the lock more than one in three of them fails, and the storage is broken for good."""
    environ = {**os.environ, "DAGSTER_HOME": str(workspace.root)}
    started = [_open(workspace.root, environ) for _ in range(4)]
    said = [process.communicate(timeout=120)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, "\n".join(said)


def _open(root: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", OPENING]
    return subprocess.Popen(
        command, cwd=root, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
