"""A lease is held by one process at a time, and fenced by its epoch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Lease(Protocol):
    """The right to write for a connection, held by one process until it's released or runs out."""

    connection: str
    epoch: int
    """Higher at each acquisition, for ever."""
    taken_over: bool
    """The last holder never released it: it's dead, or it may wake up and write."""

    def check(self) -> None:
        """Renew it; raises Fenced if another process has taken it over."""
        ...


class Leases(Protocol):
    """Keeps two runs of one connection apart, also if one of them is frozen and wakes up late."""

    def hold(
        self, connection: str, purpose: str, wait_seconds: float
    ) -> AbstractContextManager[Lease]:
        """Hold the connection, and renew it in the background.

        Waits for others, then raises LockTimeout, which names the holder. A holder that's dead, or
        did not renew in time, is taken over.
        """
        ...
