"""A lock between processes that says who holds it.

The lock is `flock` on a file beside the lake file, never on the database itself: closing any handle
to a live DuckDB file drops DuckDB's own lock, and rows are lost without an error. The kernel frees
the lock when its holder dies, so there is nothing to clean up after a crash.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from membrane_sync.errors import LockTimeout
from membrane_sync.machine import is_dead, machine


@contextmanager
def held(path: Path, what: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock file at `path`; `what` tells others what for.

    Raises LockTimeout, which names the holder, after `wait_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_seconds, thread_local=False)
    try:
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise LockTimeout(
            f"{path.name.removesuffix('.lock')} is held by {_holder(path)}; waited "
            f"{wait_seconds:g} s",
            hint="let it finish and try again, or raise lock_wait_seconds in the settings",
        ) from None
    try:
        _sign(path, what)
        yield
    finally:
        _holder_file(path).unlink(missing_ok=True)
        lock.release()


def _sign(path: Path, what: str) -> None:
    """Write who holds the lock, beside it: the lock file itself belongs to the lock."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "machine": machine(),
        "what": what,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _holder_file(path).write_text(json.dumps(holder), encoding="utf-8")


def _holder(path: Path) -> str:
    """Who signed last; not if it's dead, for then the lock is another's who hasn't signed yet."""
    try:
        holder = json.loads(_holder_file(path).read_text(encoding="utf-8"))
        if is_dead(holder["pid"], holder["machine"]):
            return "another process"
        return (
            f"process {holder['pid']} on {holder['host']} "
            f"({holder['what']}, since {holder['since']})"
        )
    except (OSError, ValueError, KeyError):
        return "another process"


def _holder_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")
