"""Waits for leave to send: takes it from the shared quotas a few requests at a time.

Where no quota is declared, only a pause that the app asked for is shared.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from membrane_sync.elements.connector import Connector, RateLimit
from membrane_sync.errors import RateLimited
from membrane_sync.ports import ConnectionRecord, Grant, Party, Quota, Quotas

LONGEST_PACED_SECONDS = 60
"""A limit over a longer time is counted, unless it has a burst."""
LEASE_SECONDS = 0.25
"""How much of a quota one process takes in advance, at most."""
LATE_SECONDS = 0.02
"""A slot may be used so much late, or as late as the burst allows, whichever is more."""
TRIES = 3
SHORTEST_PAUSE = 1.0
"""What is over sooner isn't worth telling other processes."""


def shared_quotas(connector: Connector, connection: ConnectionRecord) -> list[Quota]:
    """The connector's `rate_limits` as quotas; those of scope `app` are one for all connections."""
    return [_quota(limit, connection) for limit in connector.rate_limits]


def _quota(limit: RateLimit, connection: ConnectionRecord) -> Quota:
    whose = f"connection/{connection.key}" if limit.scope == "connection" else "app"
    size = f"{limit.requests}/{limit.per_seconds:g}/{limit.burst or ''}"
    key = f"{connection.integration}/{whose}/{size}"
    burst = limit.burst
    if burst is None and limit.per_seconds <= LONGEST_PACED_SECONDS:
        burst = max(1, min(10, limit.requests // 10))
    return Quota(key, limit.requests, limit.per_seconds, burst)


class Pacer:
    """Lets one request through at a time, when all the quotas allow it. For many threads."""

    def __init__(
        self,
        shared: Quotas,
        quotas: Sequence[Quota],
        party: Party,
        *,
        longest_wait: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._quotas = quotas
        self._party = party
        self._longest_wait = longest_wait
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: deque[float] = deque()
        self._late = LATE_SECONDS
        self._slots_late = 1 + min((q.kept_for_late for q in quotas if q.burst), default=0)
        self._used = 0
        self._reserved_at = 0.0
        paced = [q.requests / q.per_seconds for q in quotas if q.burst] or [100.0]
        self._largest_lease = max(1, int(min(paced) * LEASE_SECONDS))

    def wait(self) -> None:
        """Return when a request may be sent; raises RateLimited if that would take too long."""
        for _ in range(TRIES):
            slot = self._take()
            pause = slot - self._clock()
            if pause > 0:
                self._sleep(pause)
            if self._clock() - slot <= self._late:
                return

    def hold(self, seconds: float) -> None:
        """Nobody sends under these quotas before so many seconds have passed."""
        with self._lock:
            self._slots.clear()
        self._shared.hold(self._quotas, seconds)

    def close(self) -> None:
        """Give back what was taken in advance."""
        with self._lock:
            if self._slots:
                self._shared.give_back(self._quotas, len(self._slots))
            self._slots.clear()

    def _take(self) -> float:
        with self._lock:
            begun = self._clock()
            while True:
                oldest = self._clock() - self._late
                while self._slots:
                    slot = self._slots.popleft()
                    if slot >= oldest:
                        self._used += 1
                        return slot
                grant = self._shared.reserve(self._quotas, self._party, self._lease())
                if grant.count:
                    self._keep(grant)
                else:
                    self._refuse_long(grant, self._clock() - begun)
                    self._sleep(grant.wait)

    def _keep(self, grant: Grant) -> None:
        now = self._clock()
        self._slots.extend(now + grant.wait + n * grant.every for n in range(grant.count))
        self._late = max(LATE_SECONDS, grant.every * self._slots_late)
        self._reserved_at, self._used = now, 0

    def _lease(self) -> int:
        """Twice what the last lease was used for, if it was used up quickly; else one."""
        quick = self._clock() - self._reserved_at < 2 * LEASE_SECONDS
        return min(2 * self._used, self._largest_lease) if quick and self._used else 1

    def _refuse_long(self, grant: Grant, waited: float) -> None:
        if waited + grant.wait > self._longest_wait:
            raise RateLimited(
                f"{grant.reason}; the next request may go in {grant.wait:,.0f} s",
                retry_after=grant.wait,
                hint="what was read is kept; the next sync goes on from there",
            )


class Pauses:
    """For an app without declared limits: waits while the connection is paused in any process."""

    def __init__(
        self,
        shared: Quotas,
        connection: ConnectionRecord,
        *,
        longest_wait: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._shared = shared
        self._key = f"{connection.integration}/connection/{connection.key}"
        self._longest_wait = longest_wait
        self._sleep = sleep

    def wait(self) -> None:
        """Return when a request may be sent; raises RateLimited if that would take too long."""
        seconds = self._shared.paused(self._key)
        if seconds > self._longest_wait:
            raise RateLimited(
                f"the app asked to wait; the next request may go in {seconds:,.0f} s",
                retry_after=seconds,
                hint="what was read is kept; the next sync goes on from there",
            )
        if seconds > 0:
            self._sleep(seconds)

    def hold(self, seconds: float) -> None:
        """No process sends for this connection before so many seconds have passed."""
        if seconds >= SHORTEST_PAUSE:
            self._shared.pause(self._key, seconds)

    def close(self) -> None:
        """Nothing to give back."""
