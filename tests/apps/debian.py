"""Programs that come from Debian packages: found, or installed when that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def find_or_install(
    find: Callable[[], Path | None], package: str, prepare: Callable[[], None] = lambda: None
) -> Path:
    """What `find` finds, after installing `package` if need be; skips the test if that can't be.

    `prepare` runs right before an installation. Two processes must not install at the same time:
    guard the call with a lock.
    """
    if found := find():
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"{package} is not installed: `apt-get install {package}` or your system's own")
    prepare()
    _apt_get("update", "-qq")
    _apt_get("install", "-qq", "-y", "--no-install-recommends", package)
    if found := find():
        return found
    pytest.skip(
        f"{package} was installed, but what the tests need of it is not where Debian has it"
    )


def _apt_get(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"`apt-get {' '.join(arguments)}` failed:\n{done.stdout[-2000:]}")
