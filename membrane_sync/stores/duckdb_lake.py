"""The lake of one connection: a DuckDB file of records, cursors, mapped records and links.

How it's written, and why: no process keeps the file open. Work is staged in an in-memory DuckDB;
then, under a lock file, the file is attached, one transaction is committed, and it's detached again
(measured under a millisecond each). Tables have no primary keys or indexes: `DELETE` and `INSERT`
of a staged batch is many times cheaper than `ON CONFLICT`, and the lock makes it safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from membrane_sync.errors import Fatal, NotFound
from membrane_sync.records import (
    Batch,
    Change,
    DeadLetter,
    Link,
    LinkKey,
    MappedCounts,
    MappedRecord,
    Offset,
    StoreCounts,
)
from membrane_sync.stores.columns import (
    Column,
    columns_of,
    literal,
    misfit,
    parsed,
    quoted,
    value_of,
)
from membrane_sync.stores.file_lock import held

FORMAT = 1
"""Version of the file's layout; a file of a newer version is refused."""

_RECORD_COLUMNS = {
    "_external_id": "VARCHAR",
    "_payload": "JSON",
    "_hash": "VARCHAR",
    "_first_seen_at": "TIMESTAMP",
    "_changed_at": "TIMESTAMP",
    "_deleted_at": "TIMESTAMP",
    "_run_id": "VARCHAR",
}
_MAPPED_COLUMNS = {
    "_external_id": "VARCHAR",
    "_value": "JSON",
    "_hash": "VARCHAR",
    "_seq": "BIGINT",
    "_mapped_at": "TIMESTAMP",
    "_deleted_at": "TIMESTAMP",
}
_LAYOUT = """
CREATE SCHEMA IF NOT EXISTS lake.records;
CREATE SCHEMA IF NOT EXISTS lake.mapped;
CREATE TABLE IF NOT EXISTS lake.format (version INTEGER);
CREATE TABLE IF NOT EXISTS lake.declarations (name VARCHAR, columns JSON);
CREATE TABLE IF NOT EXISTS lake.counters (name VARCHAR, value BIGINT);
CREATE TABLE IF NOT EXISTS lake.cursors (
    stream VARCHAR, cursor JSON, run_id VARCHAR, updated_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS lake.changes (
    seq BIGINT, stream VARCHAR, external_id VARCHAR, kind VARCHAR, run_id VARCHAR,
    changed_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS lake.scans (stream VARCHAR, scan VARCHAR, external_id VARCHAR);
CREATE TABLE IF NOT EXISTS lake.offsets (
    consumer VARCHAR, seq BIGINT, version VARCHAR, updated_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS lake.links (
    link_table VARCHAR, instance_key VARCHAR, external_id VARCHAR, app_id VARCHAR,
    direction VARCHAR, external_hash VARCHAR, app_hash VARCHAR, base JSON, linked_at TIMESTAMP,
    synced_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS lake.dead_letters (
    verb VARCHAR, element VARCHAR, external_id VARCHAR, field VARCHAR, reason VARCHAR,
    value VARCHAR, formula VARCHAR, failed_at TIMESTAMP);
"""


class DuckDbLake:
    """The lake in one DuckDB file; implements `ports.Lake`.

    `schemas` are the collections' field schemas by stream: their properties become typed columns.
    """

    def __init__(
        self,
        path: Path,
        *,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        wait_seconds: float = 60.0,
    ) -> None:
        self.path = path
        self._schemas = schemas or {}
        self._wait_seconds = wait_seconds
        self._memory = duckdb.connect(":memory:")
        self._memory.execute("SET TimeZone = 'UTC'; SET threads = 2")
        self._ready = False

    def close(self) -> None:
        """Give back memory; the file isn't open."""
        self._memory.close()

    # --- 2 store ---------------------------------------------------------------------------------

    def cursor(self, stream: str) -> Any:
        with self._attached("read a cursor"):
            found = self._rows("SELECT cursor FROM lake.cursors WHERE stream = ?", [stream])
        return json.loads(found[0][0]) if found else None

    def store(self, batch: Batch) -> StoreCounts:
        if not batch.records and batch.cursor is None and not batch.dead_letters:
            return StoreCounts()
        columns = columns_of(self._schemas.get(batch.stream, {}), list(_RECORD_COLUMNS))
        table = f"lake.records.{quoted(batch.stream)}"
        with self._attached(f"store {batch.stream}"):
            self._ensure_table(table, "records", batch.stream, _RECORD_COLUMNS, columns, "_payload")
            self._stage_records(batch, table)
            counts = self._counts()
            with self._transaction():
                if counts.written:
                    self._write_records(batch, table, columns)
                if batch.scan:
                    self._mark_seen(batch)
                misfits = self._misfits(batch, table, columns) if counts.written else ()
                letters = [*batch.dead_letters, *misfits]
                self._replace_dead_letters("pull", batch.stream, _staged_ids("staged"), letters)
                self._write_cursor(batch)
        failed = len({letter.external_id for letter in letters})
        return StoreCounts(counts.created, counts.updated, counts.deleted, counts.unchanged, failed)

    def finish_scan(self, stream: str, scan: str, max_share: float, run_id: str) -> StoreCounts:
        table = f"lake.records.{quoted(stream)}"
        with self._attached(f"finish the scan of {stream}"):
            if not self._has_table("records", stream):
                return StoreCounts()
            self._memory.execute(
                f"CREATE OR REPLACE TEMP TABLE gone AS SELECT _external_id AS external_id FROM "
                f"{table} WHERE _deleted_at IS NULL AND _external_id NOT IN (SELECT external_id "
                f"FROM lake.scans WHERE stream = ? AND scan = ?)",
                [stream, scan],
            )
            gone = self._number("SELECT count(*) FROM gone")
            alive = self._number(f"SELECT count(*) FROM {table} WHERE _deleted_at IS NULL")
            if gone and gone > alive * max_share and alive > 1:
                raise Fatal(
                    f"the full scan of {stream} would delete {gone} of {alive} records, more than "
                    f"its max_share of {max_share:.0%}; nothing was deleted",
                    hint="if they are really gone over there, raise `deletes.max_share`",
                )
            with self._transaction():
                if gone:
                    self._delete_records(table, "SELECT external_id FROM gone", run_id)
                    self._append_changes(stream, run_id, "SELECT external_id, 'deleted' FROM gone")
                self._memory.execute("DELETE FROM lake.scans WHERE stream = ?", [stream])
        return StoreCounts(deleted=gone)

    # --- the change feed -------------------------------------------------------------------------

    def changes(self, stream: str, after: int, limit: int) -> Sequence[Change]:
        with self._attached(f"read changes of {stream}"):
            if not self._has_table("records", stream):
                return []
            rows = self._rows(
                f"SELECT c.seq, c.external_id, c.kind, "
                f"CASE WHEN r._deleted_at IS NULL THEN r._payload END "
                f"FROM (SELECT * FROM lake.changes WHERE stream = ? AND seq > ? ORDER BY seq "
                f"LIMIT ?) c LEFT JOIN lake.records.{quoted(stream)} r "
                f"ON r._external_id = c.external_id ORDER BY c.seq",
                [stream, after, limit],
            )
        return [Change(seq, external_id, kind, payload) for seq, external_id, kind, payload in rows]

    def offset(self, consumer: str) -> Offset:
        with self._attached("read an offset"):
            rows = self._rows(
                "SELECT seq, version FROM lake.offsets WHERE consumer = ?", [consumer]
            )
        return Offset(consumer, *rows[0]) if rows else Offset(consumer)

    # --- 3 map -----------------------------------------------------------------------------------

    def keep_mapped(
        self,
        sync: str,
        records: Sequence[MappedRecord],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        schema: Mapping[str, Any],
    ) -> MappedCounts:
        columns = columns_of(schema, list(_MAPPED_COLUMNS))
        table = f"lake.mapped.{quoted(sync)}"
        with self._attached(f"map {sync}"):
            self._ensure_table(table, "mapped", sync, _MAPPED_COLUMNS, columns, "_value")
            self._stage(
                "staged_mapped",
                {
                    "external_id": [record.external_id for record in records],
                    "value": [record.value for record in records],
                    "hash": [record.hash for record in records],
                },
            )
            self._memory.execute(_CHANGED_MAPPED.format(table=table))
            changed = self._number("SELECT count(*) FROM changed_mapped")
            deleted = self._number("SELECT count(*) FROM changed_mapped WHERE value IS NULL")
            failed = [letter.external_id for letter in dead_letters]
            self._stage("handled", {"external_id": [*(r.external_id for r in records), *failed]})
            with self._transaction():
                if changed:
                    self._write_mapped(table, columns, changed)
                handled = "SELECT external_id FROM handled"
                self._replace_dead_letters("map", sync, handled, dead_letters)
                self._write_offset(offset)
        return MappedCounts(changed - deleted, len(records) - changed, deleted)

    def mapped(self, sync: str, after: int, limit: int) -> Sequence[MappedRecord]:
        with self._attached(f"read mapped {sync}"):
            if not self._has_table("mapped", sync):
                return []
            rows = self._rows(
                f"SELECT _external_id, CASE WHEN _deleted_at IS NULL THEN _value END, _hash, _seq "
                f"FROM lake.mapped.{quoted(sync)} WHERE _seq > ? ORDER BY _seq LIMIT ?",
                [after, limit],
            )
        return [MappedRecord(*row) for row in rows]

    # --- 4 link, 5 push --------------------------------------------------------------------------

    def links(self, key: LinkKey, external_ids: Sequence[str]) -> Mapping[str, Link]:
        rows = self._links_by("external_id", key, external_ids)
        return {row[0]: Link(*row) for row in rows}

    def linked_apps(self, key: LinkKey, app_ids: Sequence[str]) -> Mapping[str, str]:
        return {row[1]: row[0] for row in self._links_by("app_id", key, app_ids)}

    def keep_links(
        self,
        key: LinkKey,
        links: Sequence[Link],
        unlink: Sequence[str],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        handled: Sequence[str],
    ) -> None:
        self._stage(
            "staged_links",
            {
                "external_id": [link.external_id for link in links],
                "app_id": [link.app_id for link in links],
                "external_hash": [link.external_hash for link in links],
                "app_hash": [link.app_hash for link in links],
                "base": [link.base for link in links],
            },
        )
        self._stage("gone_links", {"external_id": list(unlink)})
        self._stage("handled", {"external_id": list(handled)})
        sync = offset.consumer.removeprefix("push:")
        with self._attached(f"link {key.table}"):
            self._memory.execute(_LINKED_BEFORE, [key.table, key.instance_key, key.direction])
            with self._transaction():
                self._write_links(key)
                for verb in ("link", "push"):
                    letters = [letter for letter in dead_letters if letter.verb == verb]
                    handled_ids = "SELECT external_id FROM handled"
                    self._replace_dead_letters(verb, sync, handled_ids, letters)
                self._write_offset(offset)

    # --- for people ------------------------------------------------------------------------------

    def select(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to a read-only query; tables are `records.<stream>`, `mapped.<sync>`, `links`.

        Raises NotFound where the query names a table that isn't there, or the lake is empty.
        """
        with self._attached("answer a query"):
            try:
                self._memory.execute("USE lake")
                return self._memory.execute(sql, list(parameters)).to_arrow_table()
            except duckdb.CatalogException as error:
                raise NotFound(
                    str(error).splitlines()[0], hint="sync the connection first"
                ) from None
            finally:
                self._memory.execute("USE memory")

    def streams(self) -> list[str]:
        """Streams that have records, in order."""
        return self._tables("records")

    def count(self, sql: str) -> int:
        """The number that a query answers; 0 where its table isn't there yet."""
        try:
            return int(self.select(sql).column(0)[0].as_py() or 0)
        except NotFound:
            return 0

    # --- how -------------------------------------------------------------------------------------

    @contextmanager
    def _attached(self, what: str) -> Iterator[None]:
        """Hold the lock and have the file attached as `lake`, for as short as can be."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f"{self.path.name}.lock")
        with held(lock, what, self._wait_seconds):
            self._memory.execute(f"ATTACH {literal(str(self.path))} AS lake")
            try:
                if not self._ready:
                    self._lay_out()
                yield
            finally:
                self._memory.execute("DETACH lake")

    def _lay_out(self) -> None:
        with self._transaction():
            self._memory.execute(_LAYOUT)
            rows = self._rows("SELECT version FROM lake.format")
            if not rows:
                self._memory.execute("INSERT INTO lake.format VALUES (?)", [FORMAT])
                self._memory.execute("INSERT INTO lake.counters VALUES ('changes', 0)")
                self._memory.execute("INSERT INTO lake.counters VALUES ('mapped', 0)")
            elif rows[0][0] > FORMAT:
                raise Fatal(
                    f"{self.path.name} was written by a newer version (layout {rows[0][0]})",
                    hint="install the newer membrane-sync",
                )
        self._ready = True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._memory.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._memory.execute("ROLLBACK")
            raise
        self._memory.execute("COMMIT")

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._memory.execute(sql, list(parameters)).fetchall()

    def _number(self, sql: str) -> int:
        return int(self._rows(sql)[0][0])

    def _stage(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """A temporary table of texts (and booleans), in order of a column `position`."""
        arrays: dict[str, pa.Array] = {
            key: pa.array(values, pa.bool_() if key == "deleted" else pa.string())
            for key, values in columns.items()
        }
        rows = len(next(iter(columns.values())))
        arrays["position"] = pa.array(range(rows), pa.int64())
        self._memory.register("incoming", pa.table(arrays))
        self._memory.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM incoming")
        self._memory.unregister("incoming")

    def _tables(self, schema: str) -> list[str]:
        with self._attached("list tables"):
            rows = self._rows(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' "
                "AND schema_name = ? ORDER BY table_name",
                [schema],
            )
        return [row[0] for row in rows]

    def _has_table(self, schema: str, name: str) -> bool:
        address = f"{schema}.{name}"
        return bool(self._rows("SELECT 1 FROM lake.declarations WHERE name = ?", [address]))

    def _ensure_table(
        self,
        table: str,
        schema: str,
        name: str,
        system: Mapping[str, str],
        columns: Sequence[Column],
        payload: str,
    ) -> None:
        """Create the table; or, if the declared fields differ, fill its columns anew from the JSON.

        The JSON of each record is kept, so that no change of the declaration needs the app again.
        """
        wanted = {**system, **{column.name: column.type for column in columns}}
        declaration = json.dumps(wanted)
        address = f"{schema}.{name}"
        stored = self._rows("SELECT columns FROM lake.declarations WHERE name = ?", [address])
        if stored and stored[0][0] == declaration:
            return
        declared = ", ".join(f"{quoted(n)} {kind}" for n, kind in wanted.items())
        with self._transaction():
            if stored:
                self._memory.execute(f"CREATE OR REPLACE TEMP TABLE old AS SELECT * FROM {table}")
                self._memory.execute(f"DROP TABLE {table}")
            self._memory.execute(f"CREATE TABLE {table} ({declared})")
            if stored:
                self._refill(table, list(system), columns, payload)
            self._memory.execute("DELETE FROM lake.declarations WHERE name = ?", [address])
            self._memory.execute(
                "INSERT INTO lake.declarations VALUES (?, ?)", [address, declaration]
            )

    def _refill(
        self, table: str, system: Sequence[str], columns: Sequence[Column], payload: str
    ) -> None:
        values = "".join(f", {value_of('parsed', column)}" for column in columns)
        self._memory.execute(
            f"INSERT INTO {table} SELECT {', '.join(system)}{values} FROM "
            f"(SELECT *, {_parse(payload, columns)} AS parsed FROM old)"
        )
        self._memory.execute("DROP TABLE old")

    def _stage_records(self, batch: Batch, table: str) -> None:
        self._stage(
            "incoming_records",
            {
                "external_id": [record.external_id for record in batch.records],
                "payload": [record.payload for record in batch.records],
                "hash": [record.hash for record in batch.records],
                "deleted": [record.deleted for record in batch.records],
            },
        )
        self._memory.execute(_STAGED.format(table=table))

    def _counts(self) -> StoreCounts:
        found = dict(self._rows("SELECT kind, count(*) FROM staged GROUP BY kind"))
        return StoreCounts(**{kind: found.get(kind, 0) for kind in _KINDS})

    def _write_records(self, batch: Batch, table: str, columns: Sequence[Column]) -> None:
        now = _now()
        gone = "SELECT external_id FROM staged WHERE kind = 'deleted'"
        self._delete_records(table, gone, batch.run_id)
        self._memory.execute(
            f"DELETE FROM {table} USING staged WHERE _external_id = staged.external_id "
            f"AND staged.kind IN ('created', 'updated')"
        )
        values = "".join(f", {value_of('parsed', column)}" for column in columns)
        self._memory.execute(
            f"INSERT INTO {table} SELECT external_id, payload, hash, coalesce(first_seen_at, ?), "
            f"?, NULL, ?{values} FROM (SELECT *, {_parse('payload', columns)} AS parsed "
            f"FROM staged WHERE kind IN ('created', 'updated') ORDER BY position)",
            [now, now, batch.run_id],
        )
        self._append_changes(
            batch.stream,
            batch.run_id,
            "SELECT external_id, kind FROM staged WHERE kind <> 'unchanged' ORDER BY position",
        )

    def _delete_records(self, table: str, ids: str, run_id: str) -> None:
        self._memory.execute(
            f"UPDATE {table} SET _deleted_at = ?, _changed_at = ?, _run_id = ? "
            f"WHERE _external_id IN ({ids})",
            [_now(), _now(), run_id],
        )

    def _append_changes(self, stream: str, run_id: str, changed: str) -> None:
        """Append to the feed; `changed` selects external ids and kinds in their order."""
        first = self._counter("changes")
        self._memory.execute(
            f"INSERT INTO lake.changes SELECT {first} + row_number() OVER (), ?, external_id, "
            f"kind, ?, ? FROM ({changed}) AS c(external_id, kind)",
            [stream, run_id, _now()],
        )
        self._memory.execute(
            "UPDATE lake.counters SET value = coalesce((SELECT max(seq) FROM lake.changes), 0) "
            "WHERE name = 'changes'"
        )

    def _counter(self, name: str) -> int:
        return self._number(f"SELECT value FROM lake.counters WHERE name = {literal(name)}")

    def _mark_seen(self, batch: Batch) -> None:
        self._memory.execute(
            "DELETE FROM lake.scans WHERE stream = ? AND scan <> ?", [batch.stream, batch.scan]
        )
        self._memory.execute(
            "INSERT INTO lake.scans SELECT ?, ?, external_id FROM staged WHERE NOT deleted",
            [batch.stream, batch.scan],
        )

    def _misfits(self, batch: Batch, table: str, columns: Sequence[Column]) -> Iterator[DeadLetter]:
        """Values that a typed column couldn't take; the JSON keeps them."""
        for column in columns:
            if column.type == "JSON":
                continue
            name = quoted(column.name)
            rows = self._rows(
                f"SELECT _external_id, json_extract_string(_payload, {literal(column.pointer)}) "
                f"FROM {table} JOIN staged ON _external_id = staged.external_id "
                f"WHERE kind IN ('created', 'updated') AND {misfit('_payload', name, column)}"
            )
            for external_id, value in rows:
                reason = f"the value is no {column.type}, as fields_schema says it is"
                yield DeadLetter("pull", batch.stream, external_id, column.field, reason, value)
            if rows and column.type == "BIGINT":
                self._memory.execute(
                    f"UPDATE {table} SET {name} = NULL WHERE _external_id IN "
                    f"(SELECT external_id FROM staged) AND {misfit('_payload', name, column)}"
                )

    def _write_cursor(self, batch: Batch) -> None:
        if batch.cursor is None:
            return
        self._memory.execute("DELETE FROM lake.cursors WHERE stream = ?", [batch.stream])
        self._memory.execute(
            "INSERT INTO lake.cursors VALUES (?, ?, ?, ?)",
            [batch.stream, json.dumps(batch.cursor), batch.run_id, _now()],
        )

    def _write_offset(self, offset: Offset) -> None:
        self._memory.execute("DELETE FROM lake.offsets WHERE consumer = ?", [offset.consumer])
        self._memory.execute(
            "INSERT INTO lake.offsets VALUES (?, ?, ?, ?)",
            [offset.consumer, offset.seq, offset.version, _now()],
        )

    def _write_mapped(self, table: str, columns: Sequence[Column], changed: int) -> None:
        first = self._counter("mapped")
        self._memory.execute(
            f"DELETE FROM {table} USING changed_mapped c WHERE _external_id = c.external_id"
        )
        values = "".join(f", {value_of('parsed', column)}" for column in columns)
        self._memory.execute(
            f"INSERT INTO {table} SELECT external_id, value, hash, "
            f"{first} + row_number() OVER (ORDER BY position), ?, "
            f"CASE WHEN value IS NULL THEN CAST(? AS TIMESTAMP) END{values} "
            f"FROM (SELECT *, {_parse('value', columns)} AS parsed FROM changed_mapped)",
            [_now(), _now()],
        )
        self._memory.execute(
            "UPDATE lake.counters SET value = ? WHERE name = 'mapped'", [first + changed]
        )

    def _links_by(self, column: str, key: LinkKey, ids: Sequence[str]) -> list[Any]:
        if not ids:
            return []
        self._stage("wanted", {"id": list(ids)})
        with self._attached(f"read links of {key.table}"):
            return self._rows(
                f"SELECT external_id, app_id, external_hash, app_hash, base, direction "
                f"FROM lake.links WHERE link_table = ? AND instance_key = ? AND direction = ? "
                f"AND {column} IN (SELECT id FROM wanted)",
                [key.table, key.instance_key, key.direction],
            )

    def _write_links(self, key: LinkKey) -> None:
        which = "link_table = ? AND instance_key = ? AND direction = ?"
        names = [key.table, key.instance_key, key.direction]
        self._memory.execute(
            f"DELETE FROM lake.links WHERE {which} AND external_id IN (SELECT external_id FROM "
            f"staged_links UNION ALL SELECT external_id FROM gone_links)",
            names,
        )
        self._memory.execute(
            "INSERT INTO lake.links SELECT ?, ?, s.external_id, s.app_id, ?, s.external_hash, "
            "s.app_hash, s.base, coalesce(b.linked_at, ?), ? FROM staged_links s "
            "LEFT JOIN linked_before b ON b.external_id = s.external_id",
            [*names, _now(), _now()],
        )

    def _replace_dead_letters(
        self, verb: str, element: str, handled: str, letters: Sequence[DeadLetter]
    ) -> None:
        """A record's old dead letters go when it's handled again, and its new ones come."""
        present = self._rows(
            "SELECT 1 FROM lake.dead_letters WHERE verb = ? AND element = ? LIMIT 1",
            [verb, element],
        )
        if present:
            failed = [letter.external_id for letter in letters]
            self._memory.execute(
                f"DELETE FROM lake.dead_letters WHERE verb = ? AND element = ? AND "
                f"(external_id IN ({handled}) OR list_contains(?, external_id))",
                [verb, element, failed],
            )
        for letter in letters:
            self._memory.execute(
                "INSERT INTO lake.dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    letter.verb,
                    element,
                    letter.external_id,
                    letter.field,
                    letter.reason,
                    letter.value,
                    letter.formula,
                    _now(),
                ],
            )


_KINDS = ("created", "updated", "deleted", "unchanged")

_STAGED = """
CREATE OR REPLACE TEMP TABLE staged AS
SELECT s.external_id, s.payload, s.hash, s.deleted, s.position,
    r._first_seen_at AS first_seen_at,
    CASE
        WHEN s.deleted AND (r._external_id IS NULL OR r._deleted_at IS NOT NULL) THEN 'unchanged'
        WHEN s.deleted THEN 'deleted'
        WHEN r._external_id IS NULL OR r._deleted_at IS NOT NULL THEN 'created'
        WHEN r._hash <> s.hash THEN 'updated'
        ELSE 'unchanged'
    END AS kind
FROM (
    SELECT * FROM incoming_records
    QUALIFY row_number() OVER (PARTITION BY external_id ORDER BY position DESC) = 1
) s
LEFT JOIN {table} r ON r._external_id = s.external_id
"""

_CHANGED_MAPPED = """
CREATE OR REPLACE TEMP TABLE changed_mapped AS
SELECT s.external_id, s.value, s.hash, s.position
FROM staged_mapped s
LEFT JOIN {table} m ON m._external_id = s.external_id
WHERE CASE
    WHEN s.value IS NULL THEN m._external_id IS NOT NULL AND m._deleted_at IS NULL
    ELSE m._external_id IS NULL OR m._deleted_at IS NOT NULL OR m._hash <> s.hash
END
"""

_LINKED_BEFORE = """
CREATE OR REPLACE TEMP TABLE linked_before AS
SELECT external_id, linked_at FROM lake.links
WHERE link_table = ? AND instance_key = ? AND direction = ?
AND external_id IN (SELECT external_id FROM staged_links)
"""


def _staged_ids(table: str) -> str:
    return f"SELECT external_id FROM {table}"


def _parse(payload: str, columns: Sequence[Column]) -> str:
    return parsed(payload, columns) if columns else "NULL"


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
