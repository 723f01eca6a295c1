"""CPU, time and memory of this process, as one line of JSON."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Fills the dictionary at the end: seconds of CPU and of time."""
    figures: dict[str, float] = {}
    cpu, wall = process_time(), perf_counter()
    yield figures
    figures["cpu"] = process_time() - cpu
    figures["wall"] = perf_counter() - wall


def say(figures: dict[str, float], **more: float) -> None:
    """Print the figures, and the most memory that was ever held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**figures, **more, "peak_mb": peak}), flush=True)
