"""Apps take a moment until they show what was written to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 4
"""How often what was written is looked for."""
PAUSE_SECONDS = 1.0

Seen = TypeVar("Seen")


class Patience:
    """Looks again for a while; `sleep` waits so many seconds."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    def until(self, look: Callable[[], Seen], holds: Callable[[Seen], bool]) -> Seen:
        """What is seen once it holds, or at last."""
        for _ in range(ATTEMPTS - 1):
            if holds(seen := look()):
                return seen
            self.pause()
        return look()

    def pause(self) -> None:
        """Wait a moment."""
        self._sleep(PAUSE_SECONDS)
