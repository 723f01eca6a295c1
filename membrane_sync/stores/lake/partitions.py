"""Lists below parents: which record is whose child, and how far each parent's list was read.

The tables are made when they are first needed. The file is attached by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from membrane_sync.records import Batch, Level, Parent, Partition
from membrane_sync.stores.lake.columns import literal, quoted
from membrane_sync.stores.lake.file import LakeFile

_SLICE = 1_000
"""So many parents are Python values at once; the others are columns."""

_TABLES = """
CREATE TABLE IF NOT EXISTS lake.children (
    stream VARCHAR, external_id VARCHAR, parent_id VARCHAR);
CREATE TABLE IF NOT EXISTS lake.partitions (
    stream VARCHAR, parent_id VARCHAR, cursor JSON, began JSON, reading VARCHAR, pages BIGINT,
    done BOOLEAN, seq BIGINT)
"""


def write_partitions(file: LakeFile, batch: Batch) -> None:
    """Write whose children the batch's records are, and how far its parents' lists were read."""
    if not batch.parents and not batch.partitions:
        return
    file.execute(_TABLES)
    if batch.parents:
        _write_children(file, batch)
    if batch.partitions:
        _write_marks(file, batch.stream + batch.part, batch.partitions)


def _write_children(file: LakeFile, batch: Batch) -> None:
    ids = [record.external_id for record in batch.records]
    above = dict(zip(ids, batch.parents, strict=True))
    file.stage("members", {"external_id": list(above), "parent_id": list(above.values())})
    file.execute(
        "CREATE OR REPLACE TEMP TABLE moved AS SELECT m.external_id, m.parent_id, "
        "c.external_id IS NOT NULL AS known FROM members m LEFT JOIN "
        "(SELECT * FROM lake.children WHERE stream = ?) c ON c.external_id = m.external_id "
        "WHERE c.parent_id IS DISTINCT FROM m.parent_id",
        [batch.stream],
    )
    if file.number("SELECT count(*) FROM moved WHERE known"):
        file.execute(
            "DELETE FROM lake.children USING moved WHERE stream = ? "
            "AND children.external_id = moved.external_id",
            [batch.stream],
        )
    file.execute(
        "INSERT INTO lake.children SELECT ?, external_id, parent_id FROM moved", [batch.stream]
    )


def _write_marks(file: LakeFile, stream: str, marks: Sequence[Partition]) -> None:
    file.stage(
        "marks",
        {
            "parent_id": [mark.parent for mark in marks],
            "cursor": [_json(mark.cursor) for mark in marks],
            "began": [_json(mark.began) for mark in marks],
            "reading": [mark.reading for mark in marks],
            "pages": [str(mark.pages) for mark in marks],
            "done": [str(mark.done) for mark in marks],
            "seq": [str(mark.seq) for mark in marks],
        },
    )
    file.execute(
        "DELETE FROM lake.partitions USING marks WHERE stream = ? "
        "AND partitions.parent_id = marks.parent_id",
        [stream],
    )
    file.execute(
        "INSERT INTO lake.partitions SELECT ?, parent_id, cursor, began, reading, "
        "CAST(pages AS BIGINT), CAST(done AS BOOLEAN), CAST(seq AS BIGINT) FROM marks",
        [stream],
    )


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


@dataclass(frozen=True)
class Parents:
    """Parents as columns, made records a slice at a time; implements `Collection`."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, parent: object) -> bool:
        return parent in list(self)

    def __iter__(self) -> Iterator[Parent]:
        for batch in self.table.to_batches(_SLICE):
            yield from map(_parent, batch.to_pylist())


def _parent(row: Mapping[str, Any]) -> Parent:
    partition = None
    if row["done"] is not None:
        partition = Partition(
            row["id"],
            _value(row["cursor"]),
            _value(row["began"]),
            row["reading"],
            row["pages"],
            row["done"],
            row["read_seq"],
        )
    records = tuple(row[name] or "{}" for name in row if name.startswith("record_"))
    return Parent(row["id"], records, partition, row["seq"] or 0)


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def found_parents(
    file: LakeFile, stream: str, above: Sequence[Level], since: int | None, reading: str
) -> Parents:
    """What `ports.Lake.parents` promises; the tables of the levels must be there."""
    file.execute(_partitions_of(file), [stream])
    nearest = _records(above[0])
    if since is None:
        wanted = f"SELECT _external_id AS id, 0 AS seq FROM {nearest}"
        left = "p.parent_id IS NULL OR NOT (p.done AND p.reading = $reading)"
    else:
        file.execute(_CHANGED.format(records=nearest), [above[0].stream, since, since])
        wanted = "SELECT id, max(seq) AS seq FROM changed_parents GROUP BY id"
        left = "p.parent_id IS NULL OR NOT p.done OR w.seq > p.seq"
    selected, joins = _levels(file, above)
    found = file.memory.sql(
        f"SELECT w.id, w.seq, {selected}, p.cursor, p.began, p.reading, p.pages, p.done, "
        f"p.seq AS read_seq FROM ({wanted}) w JOIN {nearest} r0 ON r0._external_id = w.id "
        f"{joins} LEFT JOIN known_partitions p ON p.parent_id = w.id "
        f"WHERE r0._deleted_at IS NULL AND ({left}) ORDER BY w.id",
        params={"reading": reading} if since is None else None,
    )
    return Parents(found.to_arrow_table())


def orphans(file: LakeFile, stream: str, above: str, since: int | None) -> tuple[int, bool]:
    """Stage parents that are gone in `gone_parents`, and ids of their children in `gone`.

    Gives how many children that are, and whether a parent is to be forgotten.
    """
    if not _has(file, "children"):
        return 0, False
    records = _records(Level(above))
    if since is None:
        ids = (
            "SELECT DISTINCT parent_id FROM (SELECT stream, parent_id FROM lake.children UNION ALL "
            f"SELECT stream, parent_id FROM lake.partitions) WHERE stream = {literal(stream)}"
        )
    else:
        ids = (
            "SELECT DISTINCT external_id FROM lake.changes "
            f"WHERE stream = {literal(above)} AND seq > {int(since)}"
        )
    file.execute(
        f"CREATE OR REPLACE TEMP TABLE gone_parents AS SELECT id FROM ({ids}) AS i(id) ANTI JOIN "
        f"(SELECT _external_id FROM {records} WHERE _deleted_at IS NULL) r ON r._external_id = i.id"
    )
    file.execute(
        "CREATE OR REPLACE TEMP TABLE gone AS SELECT c.external_id FROM lake.children c "
        f"JOIN {_records(Level(stream))} r ON r._external_id = c.external_id "
        "WHERE c.stream = ? AND r._deleted_at IS NULL "
        "AND c.parent_id IN (SELECT id FROM gone_parents)",
        [stream],
    )
    children = file.number("SELECT count(*) FROM gone")
    known = file.number(
        "SELECT count(*) FROM lake.partitions WHERE stream = ? "
        "AND parent_id IN (SELECT id FROM gone_parents)",
        [stream],
    )
    return children, bool(known)


def forget_parents(file: LakeFile, stream: str, *, children: bool) -> None:
    """Forget how far the lists of `gone_parents` were read, and whose `gone` were."""
    file.execute(
        "DELETE FROM lake.partitions WHERE stream = ? "
        "AND parent_id IN (SELECT id FROM gone_parents)",
        [stream],
    )
    if children:
        file.execute(
            "DELETE FROM lake.children WHERE stream = ? "
            "AND external_id IN (SELECT external_id FROM gone)",
            [stream],
        )


def _partitions_of(file: LakeFile) -> str:
    if _has(file, "partitions"):
        which = "SELECT * FROM lake.partitions WHERE stream = ?"
    else:
        which = (
            "SELECT ? AS stream, '' AS parent_id, NULL AS cursor, NULL AS began, '' AS reading, "
            "0 AS pages, false AS done, 0 AS seq WHERE false"
        )
    return f"CREATE OR REPLACE TEMP TABLE known_partitions AS {which}"


# Before the first reading is over, everything that's there has changed, whether or not the feed
# still tells.
_CHANGED = """
CREATE OR REPLACE TEMP TABLE changed_parents AS
SELECT external_id AS id, seq FROM lake.changes WHERE stream = ? AND seq > ?
UNION ALL SELECT parent_id, 0 FROM known_partitions WHERE NOT done
UNION ALL SELECT _external_id, 0 FROM {records} WHERE ? = 0
"""


def _levels(file: LakeFile, above: Sequence[Level]) -> tuple[str, str]:
    """The JSON of each level, and the joins that lead to it from the nearest one, `r0`."""
    has_children = _has(file, "children")
    selected, joins = [_needed(above[0], "r0", 0)], []
    for i in range(1, len(above)):
        if not has_children:
            selected.append(f"NULL AS record_{i}")
            continue
        below = literal(above[i - 1].stream)
        joins.append(
            f"LEFT JOIN (SELECT * FROM lake.children WHERE stream = {below}) c{i} "
            f"ON c{i}.external_id = r{i - 1}._external_id "
            f"LEFT JOIN {_records(above[i])} r{i} ON r{i}._external_id = c{i}.parent_id"
        )
        selected.append(_needed(above[i], f"r{i}", i))
    return ", ".join(selected), " ".join(joins)


def _needed(level: Level, table: str, number: int) -> str:
    if level.fields is None:
        return f"{table}._payload AS record_{number}"
    pairs = "".join(
        f"{literal(name)}, json_extract({table}._payload, {literal(_pointer(name))}), "
        for name in level.fields
    )
    return f"json_object({pairs.rstrip(', ')}) AS record_{number}"


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _records(level: Level) -> str:
    return f"lake.records.{quoted(level.stream)}"


def _has(file: LakeFile, table: str) -> bool:
    return bool(
        file.number(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'lake' "
            "AND schema_name = 'main' AND table_name = ?",
            [table],
        )
    )
