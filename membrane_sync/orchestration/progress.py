"""Where a run stands, in its log: every ten seconds, even if it waits, and at its end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import dagster as dg

if TYPE_CHECKING:
    from membrane_sync.records import Report

PROGRESS_SECONDS = 10.0
WAITS = "waits until whoever works with the connection is through"


@contextmanager
def repeated(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` every ten seconds while the block runs."""
    done = Event()

    def keep_telling() -> None:
        while not done.wait(PROGRESS_SECONDS):
            tell()

    thread = Thread(target=keep_telling, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class HasQuota(Protocol):
    """An app that may say how many requests it allows yet."""

    quota_left: int | None


def numbers_so_far(
    report: "Report", names: Sequence[str], seconds: float, app: HasQuota | None = None
) -> str:
    """The report's numbers that aren't zero; with an `app`, how fast they come, and its quota."""
    from membrane_sync.sync.pace import pace

    numbers = [f"{name} {number:,}" for name in names if (number := getattr(report, name))]
    paced = "" if app is None else pace(report, seconds, app.quota_left)
    return ", ".join(filter(None, [", ".join(numbers) or "nothing new", paced]))


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
        said = self._numbers_so_far() if self.has_begun else WAITS
        self._context.log.info(f"{self._context.partition_key}: {self._name}: {said}")

    def _numbers_so_far(self) -> str:
        return numbers_so_far(self._report, self._numbers, self.seconds, self.app)

    @contextmanager
    def telling(self) -> Iterator["Teller"]:
        """While its block runs, and once more at its end, unless it fails."""
        with repeated(self.tell):
            yield self
        self.tell()
