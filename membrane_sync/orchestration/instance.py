"""Dagster's own storage, opened so that processes which start together don't make it twice.

Dagster marks the version of a new SQLite storage without a lock: two processes that do it at once
leave two marks, and none can open the storage from then on ("more than one head present").

    python -m membrane_sync.orchestration.instance    # makes it, before others start
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock

LOCK = Path(".membrane", "dagster", "instance.lock")


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of DAGSTER_HOME; whoever comes first makes its storage, and others wait."""
    lock = Path(os.environ.get("DAGSTER_HOME", ".")) / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        instance = dg.DagsterInstance.get()
    with instance:
        yield instance


if __name__ == "__main__":
    with open_instance():
        pass
