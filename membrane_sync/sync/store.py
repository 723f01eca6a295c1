"""2 store: keep raw records in the lake, so that all that follows can be run again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from time import monotonic

from membrane_sync.ports import Lake
from membrane_sync.records import Batch, DeadLetter, RawRecords, Report, StoreCounts
from membrane_sync.sync.cursor import value_of
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
    for group in _grouped(_counted(pages, report, progress)):
        whole = whole and all(page.named for page in group)
        fresh = [page for page in group if not page.stored]
        if not fresh:
            continue
        batch = _joined(fresh)
        counts = lake.store(batch)
        committed(batch.pages)
        add_counts(report, counts)
        report.pulled += sum(page.received for page in fresh)
        if batch.cursor is not None:
            report.cursor_to = str(value_of(batch.cursor))
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


def _grouped(pages: Iterable[Pulled]) -> Iterator[list[Pulled]]:
    waiting: list[Pulled] = []
    rows, size, since = 0, 0, monotonic()
    try:
        for page in pages:
            waiting.append(page)
            if not page.stored:
                rows += len(page.batch.records)
                size += RawRecords.of(page.batch.records).payloads.size
            late = monotonic() - since >= FLUSH_SECONDS
            if rows >= FLUSH_ROWS or size >= FLUSH_BYTES or late:
                group, waiting, rows, size = waiting, [], 0, 0
                yield group
                since = monotonic()
    except Exception:
        if waiting:
            yield waiting
        raise
    if waiting:
        yield waiting


def _joined(pages: list[Pulled]) -> Batch:
    """One batch of several pages; the last one's cursor stands for all."""
    records = RawRecords.joined(page.batch.records for page in pages)
    parents = [parent for page in pages for parent in page.batch.parents]
    partitions = [found for page in pages for found in page.batch.partitions]
    cursors = [page.batch.cursor for page in pages if page.batch.cursor is not None]
    known = [external_id for page in pages for external_id in page.batch.known]
    return replace(
        pages[-1].batch,
        known=known,
        records=records,
        dead_letters=_dead_letters(pages),
        cursor=cursors[-1] if cursors else None,
        parents=parents,
        partitions=list({found.parent: found for found in partitions}.values()),
    )


def _dead_letters(pages: list[Pulled]) -> list[DeadLetter]:
    """Of what came on several pages, those that the last of them had, one for each field."""
    found: dict[str, dict[str, DeadLetter]] = {}
    for page in pages:
        if found:
            for external_id in RawRecords.of(page.batch.records).ids:
                found.pop(external_id, None)
        of_page: dict[str, dict[str, DeadLetter]] = {}
        for letter in page.batch.dead_letters:
            of_page.setdefault(letter.external_id, {})[letter.field] = letter
        found.update(of_page)
    return [letter for letters in found.values() for letter in letters.values()]
