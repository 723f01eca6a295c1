"""When events that failed, and queues that can't go on, are tried again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from membrane_sync.errors import Fenced, LockTimeout, MembraneError, RateLimited, Retryable
from membrane_sync.ports.events import Event, Failure

FIRST_SECONDS, LONGEST_SECONDS = 30.0, 3_600.0
"""Between two tries of an event that failed by itself."""

FIRST_LOOK_SECONDS, LOOKS_GROW = 2.0, 4.0
"""Before a record that wasn't found yet is asked for again, and how much longer each time."""

BUSY_SECONDS = 2.0
"""A connection that another run holds is tried again after so long."""

FIRST_REST, LONGEST_REST = {True: 5.0, False: 60.0}, 300.0
"""Of a whole queue: where another try may mend it, and where it won't."""


def failures(
    events: Sequence[Event], refused: Mapping[int, str], most: int, now: float
) -> list[Failure]:
    """The refused ones of the events; each is tried `most` times, later each time."""
    found = []
    for event in events:
        if event.id in refused:
            wait = min(FIRST_SECONDS * 2.0 ** min(event.attempts, 20), LONGEST_SECONDS)
            again_at = None if event.attempts + 1 >= most else now + wait
            found.append(Failure(event.id, refused[event.id], again_at))
    return found


def looks(events: Sequence[Event], missing: Mapping[int, str], now: float) -> list[Failure]:
    """When those of records that weren't found yet are tried again; none of them is dead by it."""
    return [
        Failure(
            event.id,
            missing[event.id],
            now + min(FIRST_LOOK_SECONDS * LOOKS_GROW**event.attempts, LONGEST_SECONDS),
        )
        for event in events
        if event.id in missing
    ]


def rests_until(error: MembraneError, attempts: int, now: float) -> float:
    """When a queue goes on that `error` stopped, after so many attempts in a row."""
    if isinstance(error, LockTimeout | Fenced):
        return now + BUSY_SECONDS
    first = FIRST_REST[isinstance(error, Retryable)]
    wait = min(first * 2.0 ** min(attempts, 20), LONGEST_REST)
    # Those that an app's failure stopped together don't come back together.
    wait *= random.uniform(0.75, 1.25)  # noqa: S311
    asked = error.retry_after if isinstance(error, RateLimited) else None
    return now + max(wait, asked or 0.0)
