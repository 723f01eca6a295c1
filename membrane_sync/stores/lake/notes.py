"""Small values that a lake keeps beside a stream, by name; the file is attached by the caller."""

from __future__ import annotations

import json
from typing import Any

from membrane_sync.stores.lake.file import LakeFile


def note(file: LakeFile, stream: str, name: str) -> Any:
    """The value that was kept last; None if there's none."""
    if not _is_there(file):
        return None
    rows = file.rows("SELECT value FROM lake.notes WHERE stream = ? AND name = ?", [stream, name])
    return json.loads(rows[0][0]) if rows else None


def keep_note(file: LakeFile, stream: str, name: str, value: Any) -> None:
    """Keep a value in the place of the last one; None drops it."""
    # Lakes that were made by an earlier version have no such table.
    file.execute("CREATE TABLE IF NOT EXISTS lake.notes (stream VARCHAR, name VARCHAR, value JSON)")
    file.execute("DELETE FROM lake.notes WHERE stream = ? AND name = ?", [stream, name])
    if value is not None:
        written = json.dumps(value)
        file.execute("INSERT INTO lake.notes VALUES (?, ?, ?)", [stream, name, written])


def _is_there(file: LakeFile) -> bool:
    return bool(
        file.number(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'lake' "
            "AND schema_name = 'main' AND table_name = 'notes'"
        )
    )
