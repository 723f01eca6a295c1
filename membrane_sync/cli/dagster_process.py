"""Dagster as processes of its own; nothing here imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn


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


def run_dev(root: Path, host: str, port: int, api_port: int | None = None) -> int:
    """Run `dagster dev`, a worker, and the API on its port, until it's interrupted."""
    arguments = ["dev", "-w", "workspace.yaml", "--host", host, "--port", str(port)]
    environment = dagster_environment(root)
    beside = [worker(root)]
    if api_port is not None:
        beside.append(_serve(host, api_port))
    making = [sys.executable, "-m", "membrane_sync.orchestration.instance"]
    if subprocess.run(making, cwd=root, env=environment, check=False).returncode:
        return 1
    started = [subprocess.Popen(command, cwd=root, env=environment) for command in beside]
    try:
        return _run(dagster(arguments), root, environment)
    finally:
        for process in started:
            _end(process)


def become_worker(root: Path, threads: int) -> NoReturn:
    """Go on as a worker for events: whoever ends or kills this process ends that one."""
    command = [*worker(root), "--threads", str(threads)]
    os.chdir(root)
    os.execve(command[0], command, dagster_environment(root))


def worker(root: Path) -> list[str]:
    """The command line of a worker, in this Python."""
    return [sys.executable, "-m", "membrane_sync.orchestration.worker", str(root)]


def _serve(host: str, port: int) -> list[str]:
    program = [sys.executable, "-m", "membrane_sync.cli.main", "serve"]
    return [*program, "--host", host, "--port", str(port)]


def _run(command: Sequence[str], root: Path, environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(command, cwd=root, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process, patience=30)
        return 0


def _end(process: subprocess.Popen[bytes], patience: float = 0.0) -> None:
    """Wait so long for it to end by itself, then end it."""
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(timeout=15)
