"""Where a stage stands, in the run's log: every ten seconds, even if it waits, and at its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import dagster as dg

if TYPE_CHECKING:
    from membrane_sync.records import Report

PROGRESS_SECONDS = 10.0
WAITS = "waits until whoever works with the connection is through"


class HasQuota(Protocol):
    """An app that may say how many requests it allows yet."""

    quota_left: int | None


class Teller:
    """Writes a stage's numbers to the log; with an `app`, how fast they come and what it allows.

    Until it's told that the stage `has_begun`, it says that this waits for the connection.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        name: str,
        numbers: Sequence[str],
        report: "Report",
    ) -> None:
        self.app: HasQuota | None = None
        self.has_begun = False
        self._context = context
        self._name = name
        self._numbers = numbers
        self._report = report
        self._began = monotonic()

    @property
    def seconds(self) -> float:
        """How long the stage has been going on."""
        return monotonic() - self._began

    def tell(self) -> None:
        """Write one line."""
        said = ", ".join(self._numbers_so_far()) if self.has_begun else WAITS
        self._context.log.info(f"{self._context.partition_key}: {self._name}: {said}")

    def _numbers_so_far(self) -> list[str]:
        from membrane_sync.sync.pace import pace

        said = [
            f"{name} {number:,}"
            for name in self._numbers
            if (number := getattr(self._report, name))
        ] or ["nothing new"]
        if self.app is not None:
            said += filter(None, [pace(self._report, self.seconds, self.app.quota_left)])
        return said

    @contextmanager
    def telling(self) -> Iterator["Teller"]:
        """While its block runs, and once more at its end, unless it fails."""
        done = Event()

        def keep_telling() -> None:
            while not done.wait(PROGRESS_SECONDS):
                self.tell()

        thread = Thread(target=keep_telling, name="progress", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
        self.tell()
