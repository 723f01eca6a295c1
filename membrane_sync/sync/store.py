"""2 store: keep raw records in the lake, so that all that follows can be run again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from time import monotonic

from membrane_sync.ports import Lake
from membrane_sync.records import Batch, Report, StoreCounts
from membrane_sync.sync.pull import Pulled

FLUSH_ROWS = 20_000
FLUSH_SECONDS = 2.0

Progress = Callable[[str, Report], None]
"""Called with the verb and the numbers so far."""


def store(
    pages: Iterable[Pulled], lake: Lake, report: Report, progress: Progress = lambda _v, _r: None
) -> None:
    """Commit pages as they come, each with its cursor; the report counts what changed.

    Small pages are committed together, up to 20,000 records or two seconds: a commit has a price,
    and a crash repeats at most so much.
    """
    for batch, received in _grouped(_counted(pages, report, progress)):
        counts = lake.store(batch)
        _add(report, counts)
        report.pulled += received
        if batch.cursor is not None:
            report.cursor_to = str(batch.cursor)
        progress("store", report)


def finish_scan(
    lake: Lake, stream: str, scan: str, max_share: float, run_id: str, report: Report
) -> None:
    """After a complete full scan, delete the records that are gone over there."""
    _add(report, lake.finish_scan(stream, scan, max_share, run_id))


def new_scan() -> str:
    """A name for one full scan."""
    return f"scan-{uuid.uuid4().hex[:12]}"


def _add(report: Report, counts: StoreCounts) -> None:
    report.created += counts.created
    report.updated += counts.updated
    report.deleted += counts.deleted
    report.unchanged += counts.unchanged
    report.failed += counts.failed


def _counted(pages: Iterable[Pulled], report: Report, progress: Progress) -> Iterator[Pulled]:
    for page in pages:
        report.pages += 1
        progress("pull", report)
        yield page


def _grouped(pages: Iterable[Pulled]) -> Iterator[tuple[Batch, int]]:
    waiting: list[Pulled] = []
    rows, since = 0, monotonic()
    for page in pages:
        waiting.append(page)
        rows += len(page.batch.records)
        if rows >= FLUSH_ROWS or monotonic() - since >= FLUSH_SECONDS:
            yield _joined(waiting)
            waiting, rows, since = [], 0, monotonic()
    if waiting:
        yield _joined(waiting)


def _joined(pages: list[Pulled]) -> tuple[Batch, int]:
    """One batch of several pages; the last one's cursor stands for all."""
    records = [raw for page in pages for raw in page.batch.records]
    dead = [letter for page in pages for letter in page.batch.dead_letters]
    cursors = [page.batch.cursor for page in pages if page.batch.cursor is not None]
    batch = replace(
        pages[-1].batch,
        records=records,
        dead_letters=dead,
        cursor=cursors[-1] if cursors else None,
    )
    return batch, sum(page.received for page in pages)
