"""What was asked of the app, and what goes wrong at which request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from membrane_sync.testing.simulator.content import mix
from membrane_sync.testing.simulator.switches import FaultName, Faults

SHARES: tuple[FaultName, ...] = (
    "error",
    "rate_limit",
    "slow",
    "truncate",
    "reset",
    "duplicate",
    "html",
    "unauthorized",
)


@dataclass(frozen=True)
class Entry:
    """One request: `at` in seconds of a monotonic clock, its fault if it had one."""

    number: int
    at: float
    account: str
    method: str
    path: str
    query: str
    status: int
    fault: str = ""


class Log:
    """Every request in its order; `count` goes on when the entries are cleared."""

    def __init__(self) -> None:
        self.count = 0
        self.entries: list[Entry] = []
        self.listeners: list[Callable[[Entry], None]] = []
        """Called with each entry, in the server's thread."""

    def add(self, entry: Entry) -> None:
        """Note a request that was answered."""
        self.entries.append(entry)
        for listener in self.listeners:
            listener(entry)

    def statuses(self) -> Counter[int]:
        """How many answers of each status."""
        return Counter(entry.status for entry in self.entries)

    def most_within(self, seconds: float, account: str | None = None) -> int:
        """The most requests answered without a refusal in any window so long."""
        times = [
            entry.at
            for entry in self.entries
            if entry.status not in (403, 429) and account in (None, entry.account)
        ]
        return most_within(times, seconds)


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of these sorted times in any half-open window.

    >>> most_within([0.0, 0.5, 1.0, 1.2], 1.0)
    3
    """
    first = most = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Dice:
    """Which fault a request has: the same for the same seed and number."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self._seed = seed

    def fault(self, number: int) -> FaultName | None:
        """The request's fault; a scripted one goes first."""
        scripted = self.faults.at.get(number)
        if scripted is not None:
            return scripted
        drawn = mix(self._seed, number, 11) / 2**32
        for name in SHARES:
            share = float(getattr(self.faults, name))
            if drawn < share:
                return name
            drawn -= share
        return None

    def pick(self, number: int, choices: int) -> int:
        """One of so many choices, for details of a fault."""
        return mix(self._seed, number, 13) % choices
