"""How many webhooks came to each endpoint, and what became of them, since the server started."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from membrane_sync.events.intake import Taken

MOST_ENDPOINTS = 10_000
QUIET_SECONDS = 10.0
"""Between two lines of the log about what's refused at one endpoint."""

log = logging.getLogger("membrane_sync.webhooks")


@dataclass
class Count:
    """What came to one endpoint; `refused` proved nothing, and nothing is kept of it."""

    title: str
    received: int = 0
    duplicates: int = 0
    unmatched: int = 0
    failed: int = 0
    challenges: int = 0
    refused: int = 0
    unavailable: int = 0
    last_refused_at: datetime | None = None
    last_reason: str = ""
    logged_at: float = 0.0


class Tally:
    """Counts by endpoint; only the event loop's thread counts."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, Count] = OrderedDict()

    def counts(self) -> list[Count]:
        """All of them; the ones that were last used come last."""
        return list(self._counts.values())

    def add(self, title: str, taken: Taken) -> None:
        """Count what became of a request."""
        count = self._counts.setdefault(title, Count(title))
        self._counts.move_to_end(title)
        if len(self._counts) > MOST_ENDPOINTS:
            self._counts.popitem(last=False)
        if taken.outcome == "taken":
            count.received += 1
            count.duplicates += taken.put.duplicates if taken.put else 0
            count.unmatched += taken.status == "unmatched"
            count.failed += taken.status == "failed"
        elif taken.outcome == "challenge":
            count.challenges += 1
        elif taken.outcome == "refused":
            self._refused(count, taken.reason)
        else:
            count.unavailable += 1

    @staticmethod
    def _refused(count: Count, reason: str) -> None:
        count.refused += 1
        count.last_refused_at = datetime.now(UTC)
        count.last_reason = reason
        if time.monotonic() - count.logged_at > QUIET_SECONDS or count.refused == 1:
            count.logged_at = time.monotonic()
            log.warning(
                "a webhook of %s is refused: %s (%d so far)", count.title, reason, count.refused
            )
