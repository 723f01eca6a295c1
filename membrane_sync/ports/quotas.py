"""Rate limits that processes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Quota:
    """A number of requests that all who name the same `key` share, in any `per_seconds`.

    With a `burst` it's paced: requests are spread evenly, but for so many after a pause. Without
    one it's counted: requests go as they come until it's used up.
    """

    key: str
    requests: int
    per_seconds: float
    burst: int | None = None

    @property
    def kept_for_late(self) -> int:
        """How many of the burst aren't granted, so that requests may leave as many slots late."""
        return min(2, (self.burst or 0) // 2)


Priority = Literal["interactive", "bulk"]


@dataclass(frozen=True)
class Party:
    """Who asks: parties of the same weight get equal shares of a quota that is short."""

    tenant: str
    priority: Priority = "bulk"


@dataclass(frozen=True)
class Grant:
    """Leave to send `count` requests: the first in `wait` seconds, then one every `every` seconds.

    With a `count` of 0 there's none now: ask again in `wait` seconds.
    """

    count: int
    wait: float
    every: float = 0.0
    reason: str = ""


class Quotas(Protocol):
    """Who may send when, agreed among all processes."""

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        """Leave to send up to `count` requests under all the quotas at once."""
        ...

    def give_back(self, quotas: Sequence[Quota], count: int) -> None:
        """Return requests of a grant that won't be sent."""
        ...

    def hold(self, quotas: Sequence[Quota], seconds: float) -> None:
        """Grant nothing under these quotas before so many seconds have passed."""
        ...

    def pause(self, key: str, seconds: float) -> None:
        """Let all who go by this key know that the app wants to be left alone for so long."""
        ...

    def paused(self, key: str) -> float:
        """For how many more seconds; what another process said may be a second old."""
        ...
