"""What mappings ask of a lake: records by their fields, and which mapped records still wait.

Each question is one join over a staged batch; the file is attached by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from membrane_sync.stores.lake.columns import literal, quoted
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import TypedTable


def found_records(
    file: LakeFile,
    table: TypedTable,
    fields: Sequence[Sequence[str | int]],
    values: Sequence[Sequence[str]],
) -> list[str | None]:
    """For each row of values the record that has them in these fields; of several the oldest."""
    names = [f"v{number}" for number in range(len(fields))]
    file.stage("wanted", {name: [row[i] for row in values] for i, name in enumerate(names)})
    same = " AND ".join(
        f"json_extract_string(r._payload, {literal(_pointer(field))}) = w.{quoted(name)}"
        for field, name in zip(fields, names, strict=True)
    )
    found: dict[int, str] = dict(
        file.rows(
            f"SELECT w.position, arg_min(r._external_id, (r._first_seen_at, r._external_id)) "
            f"FROM wanted w JOIN {table.sql} r ON {same} WHERE r._deleted_at IS NULL GROUP BY 1"
        )
    )
    return [found.get(position) for position in range(len(values))]


def keep_waiting(file: LakeFile, sync: str, handled: str, waiting: Sequence[str]) -> None:
    """Of the `handled` ids, which SQL selects, those of `waiting` are to be mapped again."""
    file.execute("CREATE TABLE IF NOT EXISTS lake.waiting (sync VARCHAR, external_id VARCHAR)")
    file.execute(f"DELETE FROM lake.waiting WHERE sync = ? AND external_id IN ({handled})", [sync])
    if waiting:
        file.stage("waiting_ids", {"external_id": list(waiting)})
        file.execute("INSERT INTO lake.waiting SELECT ?, external_id FROM waiting_ids", [sync])


def waiting_records(
    file: LakeFile, table: TypedTable, sync: str, after: str, limit: int
) -> list[Any]:
    """Id and payload of the next records that wait, in order of their ids."""
    kept = file.number(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'lake' "
        "AND schema_name = 'main' AND table_name = 'waiting'"
    )
    if not kept:
        return []
    return file.rows(
        f"SELECT w.external_id, CASE WHEN r._deleted_at IS NULL THEN r._payload END "
        f"FROM lake.waiting w LEFT JOIN {table.sql} r ON r._external_id = w.external_id "
        "WHERE w.sync = ? AND w.external_id > ? ORDER BY w.external_id LIMIT ?",
        [sync, after, limit],
    )


def _pointer(field: Sequence[str | int]) -> str:
    """A JSON pointer, in which a number stands for a name as well as for an index."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in field)
