"""What a worker does beside applying events: it reads outboxes, and keeps subscriptions in step.

The sensors `outboxes` and `subscriptions` do the same; whoever comes first does it.
"""

from collections.abc import Callable
from threading import Event, Thread

from membrane_sync.bootstrap import Runtime
from membrane_sync.errors import MembraneError

OUTBOX_SECONDS = 0.5
SUBSCRIPTION_SECONDS = 10.0
AWAY_SECONDS = 10.0
"""Until it tries again what failed as a whole."""

Say = Callable[[str], None]


class Chores:
    """Two threads, until they're stopped."""

    def __init__(self, runtime: Runtime, say: Say) -> None:
        self._runtime = runtime
        self._say = say
        self._stop = Event()
        self._told: dict[str, str] = {}
        self._threads = [
            self._thread("outboxes", self._read_outboxes, OUTBOX_SECONDS),
            self._thread("subscriptions", self._look_after, SUBSCRIPTION_SECONDS),
        ]

    def start(self) -> None:
        """Begin, in threads of their own: nothing here makes events wait."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after what's at hand."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _thread(self, name: str, chore: Callable[[], bool], every: float) -> Thread:
        def go_on() -> None:
            while not self._stop.is_set():
                try:
                    more, wait = chore(), every
                except MembraneError as error:
                    self._tell(name, str(error))
                    more, wait = False, AWAY_SECONDS
                if not more:
                    self._stop.wait(wait)

        return Thread(target=go_on, name=name, daemon=True)

    def _read_outboxes(self) -> bool:
        readings = self._runtime.events.read_outboxes()
        for reading in readings:
            self._tell(f"outbox of {reading.event}", reading.error)
        return any(reading.more for reading in readings)

    def _look_after(self) -> bool:
        looked = self._runtime.events.reconcile_subscriptions()
        for one in looked:
            self._tell(f"subscriptions of {one.connection}", "; ".join(one.errors))
        return False

    def _tell(self, what: str, error: str) -> None:
        """Say what's wrong, once until it's something else."""
        if error and self._told.get(what) != error:
            self._say(f"{what}: {error}")
        self._told[what] = error
