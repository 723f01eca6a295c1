"""Many syncs of many connections in one process: for schedules, where a run each costs too much.

Each connection is held once for all its items, and its items run by the same verb as everything
else. What is finished is settled at once, so a batch that dies loses nothing of it.
"""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from threading import Event, Thread

from membrane_sync.bootstrap import Opened, Runtime
from membrane_sync.errors import Defunct, MembraneError, NotFound, Retryable
from membrane_sync.orchestration.due import failed, is_time_to_look, was_stopped, went_well
from membrane_sync.orchestration.failures import hidden_values
from membrane_sync.orchestration.memories import Memories
from membrane_sync.orchestration.progress import numbers_so_far
from membrane_sync.ports import Api, DueItem, RunRecord, Settled
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Report
from membrane_sync.sync.run import run_sync

THREADS = 4
"""The work is Python's, so more threads only help to wait for more apps at once."""

CLAIM_SECONDS = 30.0
"""Renewed as long as the process lives: what a dead one leaves is due again so much later."""

TURN_SECONDS = 60.0
"""So long an item reads while others of the batch wait for a thread; then it's due again at once.

The reading goes on where it was: its pages are kept.
"""

LONGEST_TURN_SECONDS = 900.0
"""And so long if none of them waits: others may be due that no batch has room for."""

BUSY_WAIT_SECONDS = 0.5
"""A connection that another run holds is left for later, rather than waited for."""

NOTHING_CHANGED = "nothing-changed"
"""Id of the run that stands for all of a sync that changed nothing: one row, however often."""


class Stopped(Retryable):
    """An item ends before its end; what was committed stays, and the next batch reads on."""

    code = "stopped"


@dataclass(frozen=True)
class Finished:
    """One item that ran, or could not."""

    item: DueItem
    report: Report
    started_at: datetime
    sync: ResolvedSync | None = None
    error: MembraneError | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was written, or failed."""
        return bool(self.report.written or self.report.failed or self.error)

    @property
    def was_stopped(self) -> bool:
        """Whether it ended before its end, for no fault of its own."""
        return isinstance(self.error, Stopped)


@dataclass
class UnderWay:
    """An item that runs now; its report grows meanwhile."""

    item: DueItem
    report: Report
    api: Api
    verb: str = ""
    began: float = field(default_factory=time.monotonic)
    asks_since: float | None = None
    """When it had sent a request: before, it only goes through pages that were kept."""

    def __post_init__(self) -> None:
        self._requests = self.api.requests

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self.began

    def has_had(self, turn: float) -> bool:
        """Whether it has read for so long, and no less than it took to get where it was before."""
        if self.asks_since is None and self.api.requests > self._requests:
            self.asks_since = time.monotonic()
        if self.asks_since is None:
            return False
        return time.monotonic() - self.asks_since >= max(turn, self.asks_since - self.began)

    @property
    def said(self) -> str:
        """Where it stands, for the run's log."""
        app = self.api if self.verb in ("", "pull", "store") else None
        numbers = numbers_so_far(self.report, TOLD, self.seconds, app)
        who = f"{self.item.connection} {self.item.sync}"
        return ": ".join(filter(None, [who, self.verb, numbers]))


TOLD = ("pages", "pulled", "mapped", "delivered")


class Batch:
    """The items claimed as `name`, run in `threads`; `run_id` is the run that people find it by."""

    def __init__(self, runtime: Runtime, name: str, run_id: str, *, threads: int = THREADS) -> None:
        self._runtime = runtime
        self._name = name
        self._run_id = run_id
        self._threads = threads
        self._stop = Event()
        self._done = Event()
        self._memories = Memories(runtime)
        self._under_way: dict[str, UnderWay] = {}
        self._begun: set[str] = set()
        self._connections = 0
        # First, so that nobody else claims meanwhile what is read here.
        runtime.ledger.due.renew(name, CLAIM_SECONDS)
        self._items = runtime.ledger.due.items(name)

    @property
    def total(self) -> int:
        """How many items it still had when it began."""
        return len(self._items)

    @property
    def under_way(self) -> Sequence[UnderWay]:
        """The items that run now, at most one for each connection."""
        return list(self._under_way.values())

    def stop(self) -> None:
        """End at the next page of each item; items that had not begun are due at once."""
        self._stop.set()

    def finished(self) -> Generator[Sequence[Finished], None, None]:
        """Run all items; gives those of one connection when they are settled.

        Leaving it early stops the rest, and waits until that has been settled too.
        """
        groups = [list(group) for _, group in groupby(self._items, key=lambda i: i.connection)]
        self._connections = len(groups)
        keeper = Thread(target=self._renew, name="claims", daemon=True)
        keeper.start()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="batch")
        try:
            running: set[Future[Sequence[Finished]]] = {
                pool.submit(self._connection, group) for group in groups
            }
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            self.stop()
            pool.shutdown(wait=True)
            self._done.set()
            keeper.join()
            self._memories.close()

    def _renew(self) -> None:
        while not self._done.wait(CLAIM_SECONDS / 3):
            with suppress(MembraneError):
                self._runtime.ledger.due.renew(self._name, CLAIM_SECONDS)

    def _connection(self, items: Sequence[DueItem]) -> Sequence[Finished]:
        self._begun.add(items[0].connection)
        done: list[Finished] = []
        try:
            with hidden_values():
                self._run(items, done)
        except MembraneError as error:
            done += [_not_begun(item, error) for item in items[len(done) :]]
        self._settle(done)
        return done

    def _run(self, items: Sequence[DueItem], done: list[Finished]) -> None:
        if self._stop.is_set():
            raise Stopped("the batch was stopped before it began")
        connection = self._runtime.ledger.connection(items[0].connection)
        syncs = self._runtime.syncs(connection)
        by_key = {sync.sync.key: sync for sync in syncs}
        with self._runtime.opened(
            connection,
            syncs,
            what=f"Dagster run {self._run_id}",
            wait_seconds=BUSY_WAIT_SECONDS,
            memory=self._memories.mine(),
        ) as opened:
            for item in items:
                done.append(self._item(item, by_key.get(item.sync), opened))
                if isinstance(done[-1].error, Defunct):
                    raise done[-1].error  # of no use for the others either

    def _item(self, item: DueItem, sync: ResolvedSync | None, opened: Opened) -> Finished:
        connection = opened.connection
        report = Report(item.sync, connection.integration, connection.key)
        started, error = datetime.now(UTC), None
        self._under_way[item.connection] = UnderWay(item, report, opened.api)
        try:
            with hidden_values():
                if sync is None:
                    raise NotFound(f"{item.connection} takes part in sync {item.sync!r} no more")
                self._stop_here("", report)
                parties = opened.parties(sync)
                run_sync(
                    sync,
                    parties,
                    run_id=self._run_id,
                    progress=self._stop_here,
                    report=report,
                    look=is_time_to_look(item, time.time()),
                )
        except MembraneError as caught:
            error = caught
        finally:
            self._under_way.pop(item.connection, None)
        return Finished(item, report, started, sync, error)

    def _stop_here(self, verb: str, report: Report) -> None:
        if self._stop.is_set():
            raise Stopped("the batch was stopped at the end of a page")
        one = self._under_way[report.connection]
        one.verb = verb
        turn = TURN_SECONDS if len(self._begun) < self._connections else LONGEST_TURN_SECONDS
        if verb == "pull" and one.has_had(turn):
            raise Stopped("it has had its turn, and reads on in the next batch")

    def _settle(self, done: Sequence[Finished]) -> None:
        moment = time.time()
        self._runtime.ledger.runs.record([self._record(one) for one in done if _ran(one)])
        self._runtime.ledger.due.settle(self._name, [_settled(one, moment) for one in done])

    def _record(self, one: Finished) -> RunRecord:
        """The run as `membrane status` shows it."""
        run_id = self._run_id if one.changed else NOTHING_CHANGED
        return RunRecord(
            run_id,
            one.item.connection,
            one.item.sync,
            one.started_at,
            datetime.now(UTC),
            replace(one.report),
            one.error.message if one.error else "",
        )


def _not_begun(item: DueItem, error: MembraneError) -> Finished:
    report = Report(item.sync, connection=item.connection)
    return Finished(item, report, datetime.now(UTC), error=error)


def _ran(one: Finished) -> bool:
    return not one.was_stopped


def _settled(one: Finished, moment: float) -> Settled:
    if one.error is None:
        return went_well(one.item, moment)
    if one.was_stopped:
        return was_stopped(one.item, moment)
    return failed(one.item, one.error, moment)
