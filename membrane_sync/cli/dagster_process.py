"""Dagster as processes of its own; nothing here imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def dagster_environment(root: Path) -> dict[str, str]:
    """The environment in which Dagster uses the project's dagster.yaml, and sends nothing home."""
    (root / ".membrane" / "dagster").mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "DAGSTER_HOME": str(root),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }


def dagster(arguments: Sequence[str]) -> list[str]:
    """The command line for a Dagster command, in this Python."""
    return [sys.executable, "-m", "dagster", *arguments]


def run_dev(root: Path, host: str, port: int) -> int:
    """Run `dagster dev` until it's interrupted; gives its exit code."""
    arguments = ["dev", "-w", "workspace.yaml", "--host", host, "--port", str(port)]
    return _run(dagster(arguments), root, dagster_environment(root))


def _run(command: Sequence[str], root: Path, environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(command, cwd=root, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(timeout=15)
        return 0
