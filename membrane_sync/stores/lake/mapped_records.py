"""Mapped records in the lake: what a mapping made, and the feed of it that push reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from membrane_sync.records import DeadLetter, MappedRecord
from membrane_sync.stores.lake.feeds import counter, now, reach
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import TypedTable

REFUSED = (
    "_external_id IN (SELECT external_id FROM lake.dead_letters "
    "WHERE verb IN ('link', 'push') AND element = ?)"
)
"""Condition of those that couldn't be linked or pushed, by the sync."""

_CHANGED_MAPPED = """
CREATE OR REPLACE TEMP TABLE changed_mapped AS
SELECT s.external_id, s.value, s.hash, s.position, m.rowid AS row
FROM staged_mapped s
LEFT JOIN {table} m ON m._external_id = s.external_id
WHERE CASE
    WHEN s.value IS NULL THEN m._external_id IS NOT NULL AND m._deleted_at IS NULL
    ELSE m._external_id IS NULL OR m._deleted_at IS NOT NULL OR m._hash <> s.hash
END
"""


def stage_mapped(
    file: LakeFile, records: Sequence[MappedRecord], dead_letters: Sequence[DeadLetter]
) -> None:
    """Stage what a mapping made in `staged_mapped`, and the ids it took in `handled`."""
    ids = [record.external_id for record in records]
    file.stage(
        "staged_mapped",
        {
            "external_id": ids,
            "value": [record.value for record in records],
            "hash": [record.hash for record in records],
        },
    )
    failed = [letter.external_id for letter in dead_letters]
    file.stage("handled", {"external_id": [*ids, *failed]})


def write_mapped(file: LakeFile, sync: str, table: TypedTable) -> tuple[int, int]:
    """Write what is staged and differs; gives how many that is, and how many of them are gone."""
    with file.sparing():
        file.execute(_CHANGED_MAPPED.format(table=table.sql))
    changed = file.number("SELECT count(*) FROM changed_mapped")
    deleted = file.number("SELECT count(*) FROM changed_mapped WHERE value IS NULL")
    if changed:
        _write_changed(file, sync, table, changed)
    return changed, deleted


def mapped_records(
    file: LakeFile, table: TypedTable, which: str, parameter: Any, limit: int
) -> list[MappedRecord]:
    """Mapped records that a condition chooses, in order of their feed."""
    rows = file.rows(
        f"SELECT _external_id, CASE WHEN _deleted_at IS NULL THEN _value END, _hash, _seq "
        f"FROM {table.sql} WHERE {which} ORDER BY _seq LIMIT ?",
        [parameter, limit],
    )
    return [MappedRecord(*row) for row in rows]


def _write_changed(file: LakeFile, sync: str, table: TypedTable, changed: int) -> None:
    first = counter(file, "mapped")
    table.parse(
        "SELECT external_id, value, hash, position FROM changed_mapped",
        keep=["hash", "position"],
    )
    file.execute(f"DELETE FROM {table.sql} WHERE rowid IN (SELECT row FROM changed_mapped)")
    table.insert(
        f"external_id, json, hash, {first} + row_number() OVER (ORDER BY position), "
        "?, CASE WHEN json IS NULL THEN CAST(? AS TIMESTAMP) END",
        [now(), now()],
    )
    file.execute("UPDATE lake.counters SET value = ? WHERE name = 'mapped'", [first + changed])
    reach(file, f"mapped/{sync}", first + changed)
