"""The lake's feeds: changes of records, in order, and how far each consumer has read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from membrane_sync.records import Offset
from membrane_sync.stores.lake.file import LakeFile

# Payloads are read by their row numbers: those of a batch lie together, as their changes do.
_CHANGES = """
WITH c AS (
    SELECT * FROM lake.changes WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?),
found AS MATERIALIZED (
    SELECT c.seq, r.rowid AS row FROM c JOIN {table} r ON r._external_id = c.external_id
    WHERE r._deleted_at IS NULL),
texts AS (SELECT f.seq, r._payload FROM found f JOIN {table} r ON r.rowid = f.row)
SELECT c.seq, c.external_id, c.kind, t._payload
FROM c LEFT JOIN texts t ON t.seq = c.seq
ORDER BY c.seq
"""


def changes_after(file: LakeFile, table: str, stream: str, after: int, limit: int) -> list[Any]:
    """The stream's next changes, each with the record as it is now; `table` holds the records."""
    return file.rows(_CHANGES.format(table=table), [stream, after, limit])


def append_changes(file: LakeFile, stream: str, run_id: str, changed: str) -> None:
    """Append to the feed; `changed` selects external ids, kinds and their places, 1 and on."""
    first = counter(file, "changes")
    written = file.number(
        f"INSERT INTO lake.changes SELECT {first} + place, ?, external_id, kind, ?, ? "
        f"FROM ({changed}) AS c(external_id, kind, place)",
        [stream, run_id, now()],
    )
    last = first + written
    file.execute("UPDATE lake.counters SET value = ? WHERE name = 'changes'", [last])
    reach(file, f"changes/{stream}", last)


def reach(file: LakeFile, feed: str, seq: int) -> None:
    """Note how far a feed reaches, so that nobody looks for more in vain."""
    file.execute("DELETE FROM lake.counters WHERE name = ?", [feed])
    file.execute("INSERT INTO lake.counters VALUES (?, ?)", [feed, seq])


def counter(file: LakeFile, name: str) -> int:
    """Where a counter stands; 0 if it was never set."""
    sql = "SELECT coalesce(max(value), 0) FROM lake.counters WHERE name = ?"
    return file.number(sql, [name])


def write_offset(file: LakeFile, offset: Offset) -> None:
    """How far a consumer has come."""
    file.execute("DELETE FROM lake.offsets WHERE consumer = ?", [offset.consumer])
    file.execute(
        "INSERT INTO lake.offsets VALUES (?, ?, ?, ?)",
        [offset.consumer, offset.seq, offset.version, now()],
    )


def now() -> datetime:
    """The time as the lake keeps it: in UTC, and without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)
