"""2 store: keep raw records in the lake, so that all that follows can be run again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from time import monotonic

from membrane_sync.ports import Lake
from membrane_sync.records import Report, StoreCounts
from membrane_sync.sync.cursor import value_of
from membrane_sync.sync.gathering import Gathering
from membrane_sync.sync.pull import Pulled

FLUSH_ROWS = 122_880
FLUSH_BYTES = 64_000_000
FLUSH_SECONDS = 10.0

Progress = Callable[[str, Report], None]
"""Called with the verb and the numbers so far."""


def store(
    pages: Iterable[Pulled],
    lake: Lake,
    report: Report,
    progress: Progress = lambda _v, _r: None,
    committed: Callable[[int], None] = lambda _pages: None,
) -> bool:
    """Commit pages as they come, each with its cursor; the report counts what changed.

    Gives whether everything that came has an id, so that what didn't come can be told.

    Small pages are committed together, up to some 100,000 records, 64 MB or ten seconds, since a
    commit has a price. Pages that wait when a later one fails are committed first. `committed` is
    told how many of the reading's pages are.
    """
    whole = True
    for gathering in _gathered(_counted(pages, report, progress)):
        whole = whole and gathering.is_named
        batch = gathering.batch()
        if batch is None:
            continue
        add_counts(report, lake.store(batch))
        committed(batch.pages)
        report.pulled += gathering.received
        if batch.cursor is not None:
            report.cursor_to = str(value_of(batch.cursor))
        del batch  # its memory is the next one's
        progress("store", report)
    return whole


def finish_scan(
    lake: Lake,
    stream: str,
    scan: str,
    max_share: float,
    run_id: str,
    report: Report,
    *,
    expected: int | None = None,
) -> None:
    """After a complete full scan, delete the records that are gone over there."""
    counts = lake.finish_scan(stream, scan, max_share, run_id, expected=expected)
    add_counts(report, counts)


def new_scan() -> str:
    """A name for one full scan."""
    return f"scan-{uuid.uuid4().hex[:12]}"


def add_counts(report: Report, counts: StoreCounts) -> None:
    """Add what changed in the lake to a report."""
    report.created += counts.created
    report.updated += counts.updated
    report.deleted += counts.deleted
    report.unchanged += counts.unchanged
    report.failed += counts.failed
    report.missed += counts.missed


def _counted(pages: Iterable[Pulled], report: Report, progress: Progress) -> Iterator[Pulled]:
    for page in pages:
        report.pages += 1
        report.total = max(report.total, page.total)
        progress("pull", report)
        yield page


def _gathered(pages: Iterable[Pulled]) -> Iterator[Gathering]:
    """What was gathered, whenever it's enough to be committed, and at the end."""
    gathering, since = Gathering(), monotonic()
    try:
        for page in pages:
            gathering.add(page)
            late = monotonic() - since >= FLUSH_SECONDS
            if gathering.rows >= FLUSH_ROWS or gathering.size >= FLUSH_BYTES or late:
                yield gathering
                gathering.clear()
                since = monotonic()
    except Exception:
        yield gathering
        raise
    yield gathering
