"""The processes that events pass through, forked from one that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.serve import serve_api
from membrane_sync.orchestration import events_job
from membrane_sync.orchestration.event_queues import Drained, drained
from membrane_sync.orchestration.worker import Worker

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])

CLAIM_SECONDS = 1.5
"""What a killed process had in hand is another one's after so long."""


class Part:
    """A process that's started again after each kill."""

    def __init__(
        self, work: Callable[..., None], root: Path, environ: Mapping[str, str], *given: Any
    ) -> None:
        self._arguments = (work, root, dict(environ), *given)
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self._process = _context.Process(target=_begin, args=self._arguments, daemon=True)
        self._process.start()

    def kill(self) -> None:
        """As by the kernel."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(timeout=60)


def _begin(work: Callable[..., None], root: Path, environ: Mapping[str, str], *given: Any) -> None:
    os.environ.update(environ)
    log = (root.parent / f"{work.__name__}.log").open("a", buffering=1, encoding="utf-8")
    sys.stdout = sys.stderr = log
    work(root, *given)


def server(root: Path, port: int) -> None:
    """`membrane serve`."""
    serve_api(root, "127.0.0.1", port)


def worker(root: Path) -> None:
    """`membrane worker`, which has no Dagster to tell."""
    Worker(open_runtime(root), _tell, claim_seconds=CLAIM_SECONDS).run()


def runs(root: Path) -> None:
    """What the sensor claims, the job's runs apply, one after another, beside the worker."""
    events_job.OVERDUE_SECONDS = 0.0
    runtime = open_runtime(root)
    while True:
        for batch in events_job.claimed(runtime, 1, 1.0):
            for one in drained(runtime, batch, f"run-{batch[:8]}", seconds=CLAIM_SECONDS):
                _tell(one)


def _tell(one: Drained) -> None:
    print(one.queue.connection, one.done, one.failed, one.error, flush=True)
