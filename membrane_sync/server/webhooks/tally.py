"""How many webhooks came to each endpoint, and what became of them.

Each server counts in memory, and adds to the ledger's counts every few seconds: a forged request
costs no write of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from starlette.concurrency import run_in_threadpool

from membrane_sync.errors import MembraneError
from membrane_sync.events.intake import Taken
from membrane_sync.ports.event_log import WebhookCount

MOST_ENDPOINTS = 10_000
FLUSH_SECONDS = 5.0
QUIET_SECONDS = 10.0
"""Between two lines of the log about what's refused at one endpoint."""

_NUMBERS = [field.name for field in fields(WebhookCount) if field.type == "int"]

log = logging.getLogger("membrane_sync.webhooks")


class Tally:
    """Counts by endpoint; only the event loop's thread counts. `keep` adds what was counted."""

    def __init__(
        self, keep: Callable[[Sequence[WebhookCount]], None], seconds: float = FLUSH_SECONDS
    ) -> None:
        self._keep = keep
        self._seconds = seconds
        self._counts: OrderedDict[str, WebhookCount] = OrderedDict()
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """When the log last told of an endpoint, and how many were refused there so far."""
        self._flushing = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    def add(self, endpoint: str, taken: Taken) -> None:
        """Count what became of a request."""
        count = self._counts.setdefault(endpoint, WebhookCount(endpoint))
        _bounded(self._counts, endpoint)
        if taken.outcome == "taken":
            count.received += 1
            count.duplicates += taken.put.duplicates if taken.put else 0
            count.unmatched += taken.status == "unmatched"
            count.failed += taken.status == "failed"
        elif taken.outcome == "challenge":
            count.challenges += 1
        elif taken.outcome == "refused":
            count.refused += 1
            count.last_refused_at, count.last_reason = time.time(), taken.reason
            self._say(endpoint, taken.reason)
        else:
            count.unavailable += 1
        if self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._later())

    async def flush(self) -> None:
        """Add to the ledger what was counted; what it can't take now is added later."""
        async with self._flushing:
            counted, self._counts = self._counts, OrderedDict()
            if not counted:
                return
            try:
                await run_in_threadpool(self._keep, list(counted.values()))
            except MembraneError as error:
                log.warning("webhooks can't be counted now: %s", error)
                for count in counted.values():
                    self._give_back(count)

    async def close(self) -> None:
        """Count no more, and keep what was counted."""
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()

    async def _later(self) -> None:
        while self._counts:
            await asyncio.sleep(self._seconds)
            await self.flush()

    def _give_back(self, count: WebhookCount) -> None:
        newer = self._counts.setdefault(count.endpoint, WebhookCount(count.endpoint))
        for name in _NUMBERS:
            setattr(newer, name, getattr(newer, name) + getattr(count, name))
        if newer.last_refused_at is None:
            newer.last_refused_at, newer.last_reason = count.last_refused_at, count.last_reason
        _bounded(self._counts, count.endpoint)

    def _say(self, endpoint: str, reason: str) -> None:
        said_at, refused = self._said.get(endpoint, (float("-inf"), 0))
        is_time = time.monotonic() - said_at > QUIET_SECONDS
        self._said[endpoint] = (time.monotonic() if is_time else said_at, refused + 1)
        _bounded(self._said, endpoint)
        if is_time:
            log.warning("a webhook of %s is refused: %s (%d so far)", endpoint, reason, refused + 1)


def _bounded(kept: OrderedDict[str, Any], newest: str) -> None:
    kept.move_to_end(newest)
    if len(kept) > MOST_ENDPOINTS:
        kept.popitem(last=False)
