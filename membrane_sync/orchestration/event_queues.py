"""The events of many connections, applied in threads; nothing here knows Dagster.

Each connection is held while its events are applied, chunk by chunk, and what took effect is
settled at once, so that whoever dies on the way loses nothing of it.
"""

import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Lock, Thread

from membrane_sync.bootstrap import Opened, Runtime
from membrane_sync.errors import MembraneError
from membrane_sync.events.apply import Applied, Applying
from membrane_sync.events.settling import failures, looks, rests_until
from membrane_sync.orchestration.failures import hidden_values
from membrane_sync.orchestration.memories import Memories
from membrane_sync.ports import RunRecord
from membrane_sync.ports.events import Event, EventQueue, Failure
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Report

THREADS = 4
CHUNK_EVENTS, CHUNK_BYTES = 8_000, 8_000_000
"""At most so many events, of about so many bytes, are in memory for each thread."""

TURN_SECONDS = 15.0
"""A queue that isn't through by then goes to the end of the line, and what it did is told."""

BUSY_WAIT_SECONDS = 0.5
MOST_DEATHS = 2
"""A queue whose holder died more often is gone through event by event: one may be what kills it."""


@dataclass
class Drained:
    """What became of one queue in its turn."""

    queue: EventQueue
    integration: str = ""
    done: int = 0
    failed: int = 0
    dead: int = 0
    missing: int = 0
    ignored: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    reports: list[tuple[ResolvedSync, Report]] = field(default_factory=list)
    error: MembraneError | None = None

    @property
    def changed(self) -> list[tuple[ResolvedSync, Report]]:
        """The syncs of which something was written, or failed."""
        return [(sync, report) for sync, report in self.reports if report.written or report.failed]


class Drainer:
    """Applies the events of queues that are claimed, in any thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._inbox = runtime.ledger.inbox
        self._most = runtime.settings.event_attempts
        self._stop = Flag()
        self._memories = Memories(runtime)

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End each queue's turn after the chunk that's under way."""
        self._stop.set()

    def close(self) -> None:
        """Give back memory, once no thread works."""
        self._memories.close()

    def drain(self, batch: str, queue: EventQueue, run_id: str) -> Drained:
        """Apply what waits, settle it, and let go of the queue."""
        drained = Drained(queue)
        try:
            with hidden_values():
                self._hold(drained, run_id)
        except MembraneError as error:
            drained.error = error
        again_at = None
        if drained.error is not None:
            again_at = rests_until(drained.error, queue.attempts, time.time())
        self._record(drained, run_id)
        self._inbox.release(batch, queue.connection, again_at=again_at)
        if drained.done >= CHUNK_EVENTS:
            self._memories.forget_mine()
        return drained

    def _hold(self, drained: Drained, run_id: str) -> None:
        if self.is_stopped:
            return
        connection = self._runtime.ledger.connection(drained.queue.connection)
        drained.integration = connection.integration
        syncs = self._runtime.syncs(connection)
        with self._runtime.opened(
            connection,
            syncs,
            what=f"events, {run_id}",
            wait_seconds=BUSY_WAIT_SECONDS,
            memory=self._memories.mine(),
            priority="interactive",
        ) as opened:
            self._chunks(drained, syncs, opened, run_id)

    def _chunks(
        self, drained: Drained, syncs: Sequence[ResolvedSync], opened: Opened, run_id: str
    ) -> None:
        queue, until = drained.queue, time.monotonic() + TURN_SECONDS
        most = 1 if queue.deaths > MOST_DEATHS else CHUNK_EVENTS
        applying = Applying(syncs, opened.parties, run_id)
        by_key = {sync.sync.key: sync for sync in syncs}
        try:
            while not self.is_stopped and drained.error is None and time.monotonic() < until:
                events = self._inbox.pending(queue.connection, most, CHUNK_BYTES)
                if most == 1:
                    events = self._try(events, run_id)
                if not events:
                    break
                opened.lease.check()
                applied = applying.apply(events)
                self._settle(drained, events, applied, run_id)
                drained.error = applied.rest
        finally:
            drained.reports = [(by_key[key], report) for key, report in applying.reports.items()]

    def _try(self, events: Sequence[Event], run_id: str) -> Sequence[Event]:
        """Count the attempt before it begins: nobody else will, if it's the last thing done."""
        reason = "whoever applied it ended before it was through"
        told = failures(events, dict.fromkeys([e.id for e in events], reason), self._most, 0.0)
        now = time.time()
        again = [f if f.again_at is None else replace(f, again_at=now) for f in told]
        self._inbox.settle((), again, run_id)
        alive = {failure.event for failure in again if failure.again_at is not None}
        return [event for event in events if event.id in alive]

    def _settle(
        self, drained: Drained, events: Sequence[Event], applied: Applied, run_id: str
    ) -> None:
        failed: list[Failure] = failures(events, applied.refused, self._most, time.time())
        missing = looks(events, applied.missing, time.time())
        self._inbox.settle(applied.done, [*failed, *missing], run_id, ignored=applied.ignored)
        drained.done += len(applied.done)
        drained.ignored += len(applied.ignored)
        drained.failed += len(failed)
        drained.missing += len(missing)
        drained.dead += sum(failure.again_at is None for failure in failed)

    def _record(self, drained: Drained, run_id: str) -> None:
        """The runs as `membrane status` shows them."""
        error = drained.error.message if drained.error else ""
        runs = [
            RunRecord(
                run_id,
                drained.queue.connection,
                sync.sync.key,
                drained.started_at,
                datetime.now(UTC),
                replace(report),
                error,
            )
            for sync, report in drained.changed
        ]
        if runs:
            self._runtime.ledger.runs.record(runs)


class Claims:
    """Renews the claims of batches in a thread of its own, until it's closed."""

    def __init__(self, runtime: Runtime, seconds: float) -> None:
        self._inbox = runtime.ledger.inbox
        self._seconds = seconds
        self._batches: set[str] = set()
        self._lock = Lock()
        self._done = Flag()
        self._keeper = Thread(target=self._renew, name="claims", daemon=True)
        self._keeper.start()

    def add(self, batch: str) -> None:
        """Keep this one, too."""
        with self._lock:
            self._batches.add(batch)

    def drop(self, batch: str) -> None:
        """It's through."""
        with self._lock:
            self._batches.discard(batch)

    def close(self) -> None:
        """Renew no more."""
        self._done.set()
        self._keeper.join()

    def _renew(self) -> None:
        while not self._done.wait(self._seconds / 3):
            with self._lock:
                batches = [*self._batches]
            for batch in batches:
                with suppress(MembraneError):
                    self._inbox.renew(batch, self._seconds)


def drained(
    runtime: Runtime, batch: str, run_id: str, *, threads: int = THREADS, seconds: float
) -> Generator[Drained, None, None]:
    """Apply the events of all the batch's queues; gives each when it's through.

    Leaving it early ends after the chunks that are under way. If this process dies, the queues are
    someone else's after so many seconds.
    """
    inbox = runtime.ledger.inbox
    inbox.renew(batch, seconds)
    queues = inbox.queues(batch)
    drainer, claims = Drainer(runtime), Claims(runtime, seconds)
    claims.add(batch)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="events")
    try:
        yield from _as_completed(pool.submit(drainer.drain, batch, q, run_id) for q in queues)
    finally:
        drainer.stop()
        pool.shutdown(wait=True)
        claims.close()
        drainer.close()


def _as_completed(futures: Iterable[Future[Drained]]) -> Generator[Drained, None, None]:
    running = set(futures)
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
