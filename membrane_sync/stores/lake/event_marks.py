"""Which events were applied to which records, so that an older one never follows.

A mark is written in the transaction that changes its record. The file is attached by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from membrane_sync.records import Batch, Known, Mark
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import TypedTable

KEPT_DAYS = 30
"""An event that comes later than so many days after a newer one isn't told from news."""

_TABLE = """
CREATE TABLE IF NOT EXISTS lake.event_marks (
    stream VARCHAR, external_id VARCHAR, event BIGINT, occurred_at DOUBLE, noted_at DOUBLE,
    asked_at DOUBLE)
"""
_LATER = ("asked_at",)
"""Columns that marks of older lakes don't have."""


def write_marks(file: LakeFile, batch: Batch) -> None:
    """Keep the batch's marks in the place of those that its records had."""
    if not batch.marks:
        return
    file.execute(_TABLE)
    for name in _LATER:
        if name not in _columns(file):
            file.execute(f"ALTER TABLE lake.event_marks ADD COLUMN {name} DOUBLE")
    file.stage(
        "given_marks",
        {
            "external_id": [mark.external_id for mark in batch.marks],
            "event": [str(mark.event) for mark in batch.marks],
            "occurred_at": [_text(mark.occurred_at) for mark in batch.marks],
            "asked_at": [_text(mark.asked_at) for mark in batch.marks],
        },
    )
    now = datetime.now(UTC).timestamp()
    file.execute(
        "DELETE FROM lake.event_marks WHERE stream = ? AND (noted_at < ? OR external_id IN "
        "(SELECT external_id FROM given_marks))",
        [batch.stream, now - KEPT_DAYS * 86_400],
    )
    file.execute(
        "INSERT INTO lake.event_marks SELECT ?, external_id, CAST(event AS BIGINT), "
        "CAST(occurred_at AS DOUBLE), ?, CAST(asked_at AS DOUBLE) FROM given_marks",
        [batch.stream, now],
    )


def mark_seen(file: LakeFile, stream: str) -> None:
    """What an event brought is there, also for a full scan that was cut off before it."""
    file.execute(
        "INSERT INTO lake.scans SELECT stream, scan, external_id FROM "
        "(SELECT DISTINCT stream, scan FROM lake.scans WHERE stream = ?), "
        "(SELECT external_id FROM staged WHERE NOT deleted)",
        [stream],
    )


def known_records(
    file: LakeFile, table: TypedTable, stream: str, external_ids: Sequence[str]
) -> Mapping[str, Known]:
    """What the lake has of these records; of those that it doesn't know, nothing."""
    file.stage("wanted", {"id": list(external_ids)})
    marks = {row[0]: Mark(*row) for row in _marks(file, stream)}
    records = file.rows(_RECORDS.format(table=table.sql)) if table.exists() else []
    found = {
        external_id: Known(payload, deleted, changed_at, marks.get(external_id))
        for external_id, payload, deleted, changed_at in records
    }
    return {**{name: Known(mark=mark) for name, mark in marks.items()}, **found}


def _marks(file: LakeFile, stream: str) -> list[tuple[str, int, float | None, float, float | None]]:
    there = _columns(file)
    if not there:
        return []
    later = ", ".join(name if name in there else "NULL" for name in _LATER)
    return file.rows(
        f"SELECT external_id, event, occurred_at, noted_at, {later} FROM lake.event_marks "
        "WHERE stream = ? AND external_id IN (SELECT id FROM wanted)",
        [stream],
    )


def _columns(file: LakeFile) -> set[str]:
    """Those of the table of marks; none if it isn't there."""
    rows = file.rows(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = 'lake' "
        "AND schema_name = 'main' AND table_name = 'event_marks'"
    )
    return {row[0] for row in rows}


# Payloads are read by row number: to look for ids beside a column of payloads reads all of it.
_RECORDS = """
WITH found AS MATERIALIZED (
    SELECT rowid AS row FROM {table} SEMI JOIN wanted ON wanted.id = _external_id)
SELECT r._external_id, r._payload, r._deleted_at IS NOT NULL, epoch_us(r._changed_at) / 1000000
FROM found JOIN {table} r ON r.rowid = found.row
"""


def _text(number: float | None) -> str | None:
    return None if number is None else repr(number)
