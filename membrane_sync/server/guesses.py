"""Credentials that nobody has given out, counted by where they come from.

Who has a good one is never kept waiting, whoever else asks from the same address.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from threading import Lock

from membrane_sync.errors import RateLimited

PERIOD_SECONDS = 60.0
MOST_SOURCES = 10_000
"""Where more than these guess at once, the one seen first is forgotten: memory stays bounded."""


class Guesses:
    """At most so many wrong credentials a minute from one source, in this process."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = Lock()
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> None:
        """Count one more; raises RateLimited where there were too many."""
        source, now = _source(address), self._clock()
        with self._lock:
            ends, count = self._seen.get(source, (0.0, 0))
            if now >= ends:
                self._seen.pop(source, None)
                ends, count = now + PERIOD_SECONDS, 0
            self._seen[source] = (ends, count + 1)
            if len(self._seen) > MOST_SOURCES:
                self._seen.popitem(last=False)
        if count >= self._most:
            raise RateLimited(
                "too many keys and tokens that aren't good here came from this address",
                retry_after=ends - now,
                hint="a good one is answered at once",
            )


def _source(address: str) -> str:
    """The address; of IPv6 its network of 64 bits, as one machine has all the addresses in it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(int(parsed) >> 64)
