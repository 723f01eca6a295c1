"""A batch of records compared with what the lake has of them, before any of it is written.

The records stay in the Arrow arrays that they came in, of which `incoming_records` is a view. The
temporary tables are small: `matched` has what was there of them before, and `staged` says what is
to become of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from membrane_sync.arrow import json_array
from membrane_sync.content import same_content
from membrane_sync.records import Batch, RawRecord, RawRecords, StoreCounts
from membrane_sync.stores.lake.columns import literal
from membrane_sync.stores.lake.contract import discarded
from membrane_sync.stores.lake.file import Column, LakeFile
from membrane_sync.stores.lake.typed_table import TypedTable

IS_WRITTEN = "kind IN ('created', 'updated')"
"""Condition of what is to be written."""

KEPT = ("kind", "hash", "first_seen_at")
"""What the queries give beside ids and JSON."""

_ALL = f"""
SELECT i.external_id, i.payload, {", ".join(f"s.{name}" for name in KEPT)}
FROM incoming_records i JOIN staged s ON s.position = i.position
"""

WRITTEN = f"{_ALL} WHERE {IS_WRITTEN}"
"""Query of what is to be written."""


def to_parse(stream: str) -> str:
    """Query of what is to be parsed: the records to be written, and a few more.

    An unchanged record has dead letters at times, which may have to be written again.
    """
    return _TO_PARSE.format(stream=literal(stream))


class Incoming:
    """One batch, of each id the last record; `discards` counts the fields that aren't kept."""

    def __init__(self, file: LakeFile, batch: Batch, discard: set[str] | None) -> None:
        self._file = file
        self._batch = batch
        came = RawRecords.of(batch.records)
        records: Sequence[RawRecord] = _last_of_each(came)
        self._told: Sequence[RawRecord] = came if batch.part and len(records) < len(came) else ()
        self.discards: Mapping[str, int] = {}
        if discard is not None:
            records, self.discards = discarded(records, discard)
        self._records = RawRecords.of(records)
        self._source = ""

    def __len__(self) -> int:
        return len(self._records)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The view `incoming_records` is there meanwhile."""
        records, count = self._records, len(self._records)
        gone = records.gone
        columns: dict[str, Column] = {
            "external_id": records.ids,
            "payload": json_array(records.payloads),
        }
        if gone:
            columns["gone"] = ["x" if position in gone else None for position in range(count)]
        self._source = f"({_IDS.format(gone='gone IS NOT NULL' if gone else 'false')})"
        with self._file.lent("incoming", columns):
            self._file.execute(_INCOMING)
            yield

    def compare(self, table: TypedTable) -> None:
        """Say in `staged` what is new, changed, deleted or as it was; needs a transaction."""
        if self._batch.part:
            self._pass_old_tombstones()
        with self._file.sparing():
            self._file.execute(_MATCHED.format(source=self._source, table=table.sql))
        self._file.execute(_STAGED.format(source=self._source))
        if self._file.number("SELECT count(*) FROM staged WHERE kind = 'updated'"):
            self._leave_unchanged(table)

    def missed(self) -> int:
        """How many of those that the cursor had passed are new or changed."""
        if not self._batch.known:
            return 0
        self._file.stage("known", {"external_id": list(self._batch.known)})
        return self._file.number(
            "SELECT count(*) FROM staged SEMI JOIN known USING (external_id) "
            "WHERE kind IN ('created', 'updated')"
        )

    def counts(self) -> StoreCounts:
        """How many are of each kind."""
        found = dict(self._file.rows("SELECT kind, count(*) FROM staged GROUP BY kind"))
        return StoreCounts(**{kind: found.get(kind, 0) for kind in _KINDS})

    def _pass_old_tombstones(self) -> None:
        """A list of deletions may tell one again and again, though its record is there again."""
        stream = self._batch.stream
        self._file.execute(_UNTOLD.format(source=self._source), [stream])
        self._source = "untold"
        self._file.execute(
            "INSERT INTO lake.tombstones SELECT ?, external_id, hash FROM untold", [stream]
        )
        if self._told:
            self._note_earlier_tombstones()

    def _note_earlier_tombstones(self) -> None:
        """Of a record that was deleted several times, each may be told again, by itself."""
        told = RawRecords.of(self._told)
        columns = {"external_id": told.ids, "payload": json_array(told.payloads)}
        with self._file.lent("told", columns):
            self._file.execute(_EARLIER, [self._batch.stream, self._batch.stream])

    def _leave_unchanged(self, table: TypedTable) -> None:
        """Of records whose text differs, those that say the same in other words count as equal.

        Both texts are read only where no time says already that the record changed.
        """
        ignored = self._batch.ignored
        moved = table.moved("i.payload", "r", ignored)
        self._file.execute(_DOUBTFUL.format(table=table.sql, moved=moved))
        differing = self._file.each(_DIFFERING.format(table=table.sql))
        same = [row[0] for row in differing if same_content(row[1], row[2], ignored)]
        if same:
            self._file.stage("same", {"external_id": same})
            self._file.execute(
                "UPDATE staged SET kind = 'unchanged' FROM same "
                "WHERE staged.external_id = same.external_id"
            )


def _last_of_each(records: RawRecords) -> RawRecords:
    if len(set(records.ids)) == len(records):
        return records
    last = {external_id: position for position, external_id in enumerate(records.ids)}
    return records.at(sorted(last.values()))


_KINDS = ("created", "updated", "deleted", "unchanged")

_INCOMING = """
CREATE OR REPLACE TEMP VIEW incoming_records AS
SELECT external_id, payload, position FROM incoming
"""

_IDS = "SELECT external_id, position, hash(payload) AS hash, {gone} AS deleted FROM incoming"

_UNTOLD = """
CREATE OR REPLACE TEMP TABLE untold AS
SELECT * FROM {source} i ANTI JOIN (SELECT * FROM lake.tombstones WHERE stream = ?) t
ON t.external_id = i.external_id AND t.hash = i.hash
"""

_EARLIER = """
INSERT INTO lake.tombstones
SELECT DISTINCT ?, external_id, hash(payload) AS hash FROM told t
ANTI JOIN (SELECT * FROM lake.tombstones WHERE stream = ?) k
ON k.external_id = t.external_id AND k.hash = hash(t.payload)
"""

# The payload of a stored record is read by its row number, of those alone that need it: to look
# for ids in a column of payloads would read the whole of it.
_MATCHED = """
CREATE OR REPLACE TEMP TABLE matched AS
SELECT i.position, r.rowid AS row, r._hash AS hash, r._first_seen_at AS first_seen_at,
    r._deleted_at IS NOT NULL AS was_deleted
FROM {source} i JOIN {table} r ON r._external_id = i.external_id
"""

_STAGED = """
CREATE OR REPLACE TEMP TABLE staged AS
SELECT i.external_id, i.hash, i.deleted, i.position, m.first_seen_at,
    CASE
        WHEN i.deleted AND (m.position IS NULL OR m.was_deleted) THEN 'unchanged'
        WHEN i.deleted THEN 'deleted'
        WHEN m.position IS NULL OR m.was_deleted THEN 'created'
        WHEN m.hash IS DISTINCT FROM i.hash THEN 'updated'
        ELSE 'unchanged'
    END AS kind
FROM {source} i LEFT JOIN matched m ON m.position = i.position
"""

_DOUBTFUL = """
CREATE OR REPLACE TEMP TABLE doubtful AS
SELECT s.external_id, s.position, m.row
FROM (SELECT * FROM staged WHERE kind = 'updated') s JOIN matched m ON m.position = s.position
JOIN {table} r ON r.rowid = m.row
JOIN incoming_records i ON i.position = s.position
WHERE NOT ({moved})
"""

_DIFFERING = """
SELECT d.external_id, r._payload, i.payload
FROM doubtful d JOIN {table} r ON r.rowid = d.row
JOIN incoming_records i ON i.position = d.position
"""

_TO_PARSE = f"""
{_ALL} WHERE {IS_WRITTEN} OR (
    kind = 'unchanged' AND NOT s.deleted AND s.external_id IN (
        SELECT external_id FROM lake.dead_letters WHERE verb = 'pull' AND element = {{stream}}))
"""
