"""A process that stays, and applies events as soon as they're there.

What it changes is recorded in Dagster as events outside of a run, so that the UI stays true. While
it says that it's there, the sensor `inbox` leaves the events to it.
"""

import argparse
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event as Flag
from typing import Any, Protocol

import dagster as dg

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.errors import MembraneError
from membrane_sync.orchestration.chores import Chores
from membrane_sync.orchestration.event_queues import THREADS, Claims, Drained, Drainer
from membrane_sync.orchestration.events_job import said
from membrane_sync.orchestration.instance import open_instance
from membrane_sync.orchestration.materialize import materializations
from membrane_sync.orchestration.partitions import register

LOOK_SECONDS = 0.1
"""Between two looks for events, while there are none."""
TELL_SECONDS = 5.0
AWAY_SECONDS = 2.0
"""Until it asks again for a ledger that couldn't be reached."""


class Recorder(Protocol):
    """Tells someone what became of a queue."""

    def __call__(self, one: Drained) -> None:
        """Record it."""
        ...


class InDagster:
    """Records materializations in a Dagster instance, outside of any run."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._registered: set[str] = set()

    def __call__(self, one: Drained) -> None:
        """Those of each asset that changed; what Dagster can't take now, it goes without."""
        try:
            self._record(one)
        except Exception as error:
            # Events take effect without it: Dagster shows them late, or not at all.
            _say(f"{one.queue.connection}: not recorded in Dagster: {type(error).__name__}")

    def _record(self, one: Drained) -> None:
        key = one.queue.connection
        if one.changed and key not in self._registered:
            register(self._instance, one.integration, key)
            self._registered.add(key)
        for sync, report in one.changed:
            for made in materializations(sync, report, key):
                self._instance.report_runless_asset_event(made)


class Worker:
    """Claims queues as threads are free, until it's told to stop."""

    def __init__(self, runtime: Runtime, record: Recorder, *, threads: int = THREADS) -> None:
        self._inbox = runtime.ledger.inbox
        self._record = record
        self._threads = threads
        self._seconds = runtime.settings.event_claim_seconds
        self._drainer = Drainer(runtime)
        self._claims = Claims(runtime, self._seconds)
        self._stop = Flag()
        self._told_at = 0.0

    def stop(self, *_: Any) -> None:
        """End after the chunks at hand; may be called by a signal."""
        self._drainer.stop()
        self._stop.set()

    def run(self) -> None:
        """Until it's stopped; a ledger that's away is waited for."""
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="events") as pool:
            while not self._stop.is_set():
                try:
                    self._tell()
                    running |= self._claim(pool, self._threads - len(running))
                except MembraneError as error:
                    _say(str(error))
                    self._stop.wait(AWAY_SECONDS)
                running = self._through(running)
        self._claims.close()
        self._drainer.close()
        self._inbox.attend(0)

    def _through(self, running: set[Future[None]]) -> set[Future[None]]:
        """Wait a little, or for a thread that gets free; those that still run."""
        if not running:
            self._stop.wait(LOOK_SECONDS)
            return running
        done, running = wait(running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        return running

    def _claim(self, pool: ThreadPoolExecutor, free: int) -> set[Future[None]]:
        batches = self._inbox.claim(free, 1, self._seconds) if free else []
        for batch in batches:
            self._claims.add(batch)
        return {pool.submit(self._drain, batch) for batch in batches}

    def _drain(self, batch: str) -> None:
        run_id = f"worker-{batch[:16]}"
        try:
            for queue in self._inbox.queues(batch):
                one = self._drainer.drain(batch, queue, run_id)
                if one.error is not None or one.failed:
                    _say(f"{queue.connection}: {said(one)}")
                self._record(one)
        except MembraneError as error:
            # The claim runs out, and then it's done again.
            _say(str(error))
        finally:
            self._claims.drop(batch)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS or not self._told_at:
            self._inbox.attend(3 * TELL_SECONDS)
            self._told_at = now


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Work for the project at the given path, until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--threads", type=int, default=THREADS)
    given = parser.parse_args()
    runtime = open_runtime(given.root)
    with open_instance() as instance:
        worker = Worker(runtime, InDagster(instance), threads=given.threads)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, worker.stop)
        chores = Chores(runtime, _say)
        chores.start()
        _say("worker: waits for events")
        worker.run()
        chores.stop()
    runtime.close()


if __name__ == "__main__":
    main()
