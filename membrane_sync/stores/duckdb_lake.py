"""The lake of one connection: a DuckDB file of records, cursors, mapped records and links.

Tables have no primary keys or indexes: `DELETE` and `INSERT` of a staged batch is many times
cheaper than `ON CONFLICT`, and the file's lock makes it safe.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa

from membrane_sync.errors import Fatal, IncompleteScan, NotFound
from membrane_sync.records import (
    Batch,
    Change,
    DeadLetter,
    Known,
    Level,
    Link,
    LinkKey,
    MappedCounts,
    MappedRecord,
    Offset,
    Parent,
    StoreCounts,
)
from membrane_sync.stores import notes
from membrane_sync.stores.contract import note_discarded, refused
from membrane_sync.stores.event_marks import known_records, mark_seen, write_marks
from membrane_sync.stores.incoming import IS_WRITTEN, KEPT, WRITTEN, Incoming, to_parse
from membrane_sync.stores.lake_file import LakeFile, Memory
from membrane_sync.stores.lake_lookups import found_records, keep_waiting, waiting_records
from membrane_sync.stores.lake_state import LakeState
from membrane_sync.stores.page_log import FilePageLog
from membrane_sync.stores.partitions import (
    forget_parents,
    found_parents,
    orphans,
    write_partitions,
)
from membrane_sync.stores.retention import Retention, drop_old
from membrane_sync.stores.stream_rules import StreamRules
from membrane_sync.stores.stream_tables import StreamTables
from membrane_sync.stores.typed_table import HISTORY, MAPPED, RECORDS, Misfit, TypedTable

COMPACT_BYTES = 32 * 2**20
"""Smaller files are left alone; DuckDB uses free room in them again."""

_DEFAULT_RULES = StreamRules()
_KEEP_ALL = Retention()
_READABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_HANDLED = "SELECT external_id FROM handled"


class DuckDbLake:
    """The lake in one DuckDB file; implements `ports.Lake`.

    `schemas` are the collections' field schemas by stream: their properties become typed columns.
    `rules` say by stream what happens to undeclared fields, old versions and deleted records;
    `retention` what `tidy` drops of the past.
    `epoch` is that of the lease it's written under, `memory` one to work in that others use, too.
    """

    def __init__(
        self,
        path: Path,
        *,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        rules: Mapping[str, StreamRules] | None = None,
        retention: Retention = _KEEP_ALL,
        wait_seconds: float = 60.0,
        epoch: int | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.path = path
        self._schemas = schemas or {}
        self._rules = rules or {}
        self._retention = retention
        self._file = LakeFile(path, wait_seconds, epoch=epoch, memory=memory)
        self._leased = epoch is not None
        self._known: tuple[int, LakeState] | None = None

    def close(self) -> None:
        """Give back memory; the file isn't open."""
        self._file.close()

    def let_go(self) -> None:
        """Let others at the file while something takes long, as a request does."""
        self._file.let_go()

    def fence_off(self) -> None:
        """Refuse from now on what an earlier lease still wants to write; makes the lake."""
        with self._file.writing("take the connection over"), self._file.transaction():
            self._file.leave_epoch()

    # --- 2 store ---------------------------------------------------------------------------------

    def cursor(self, stream: str) -> Any:
        return self._state().cursors.get(stream)

    def store(self, batch: Batch) -> StoreCounts:
        new = (batch.records, batch.dead_letters, batch.partitions, batch.marks)
        if not any(new) and batch.cursor is None:
            # Pages without anything new aren't worth a commit: they'd be read again as quickly.
            return StoreCounts()
        rules = self._rules.get(batch.stream, _DEFAULT_RULES)
        discard = self._declared(batch.stream, rules) if rules.contract == "discard" else None
        incoming = Incoming(self._file, batch, discard)
        with (
            incoming.lent(),
            self._file.writing(f"store {batch.stream}"),
            self._file.transaction(),
        ):
            tables = self._tables(batch.stream, batch.run_id)
            self._ensure(batch.stream, tables)
            incoming.compare(tables.records)
            missed = incoming.missed()
            misfits: list[Misfit] = []
            if not tables.is_plain:
                misfits += tables.parse(to_parse(batch.stream), WRITTEN, keep=KEPT)
            letters = [*batch.dead_letters]
            if rules.contract == "freeze":
                letters += self._refuse(batch.stream, rules, misfits)
            counts = replace(incoming.counts(), missed=missed)
            if counts.written:
                misfits += self._write_records(batch, tables, counts)
            letters += _misfit_letters(batch.stream, misfits)
            if batch.scan:
                self._mark_seen(batch, letters)
            if batch.marks:
                mark_seen(self._file, batch.stream)
                write_marks(self._file, batch)
            if incoming.discards:
                note_discarded(self._file, batch.stream, incoming.discards)
            staged = "SELECT external_id FROM staged"
            self._replace_dead_letters("pull", batch.stream, staged, letters)
            write_partitions(self._file, batch)
            self._write_cursor(batch)
            self._write_pages(batch)
        failed = len({letter.external_id for letter in letters})
        return replace(counts, failed=failed)

    def known(self, stream: str, external_ids: Sequence[str]) -> Mapping[str, Known]:
        with self._file.reading(f"look for records of {stream}") as there:
            if not there or not external_ids:
                return {}
            return known_records(self._file, self._records(stream), stream, external_ids)

    def pages(self, stream: str, reading: str) -> int | None:
        with self._file.reading("read a reading's pages") as there:
            rows = self._rows(
                "SELECT pages FROM lake.readings WHERE stream = ? AND reading = ?",
                stream,
                reading,
                if_=there,
            )
        return rows[0][0] if rows else 0

    def page_log(self, stream: str) -> FilePageLog:
        return FilePageLog(self.path.with_suffix(f".{quote(stream, safe='')}.pages"))

    def finish_scan(
        self,
        stream: str,
        scan: str,
        max_share: float,
        run_id: str,
        *,
        expected: int | None = None,
    ) -> StoreCounts:
        table = self._records(stream)
        with self._file.reading(f"finish the scan of {stream}") as there:
            if not there or not table.exists():
                return StoreCounts()
        with self._file.writing(f"finish the scan of {stream}"), self._file.transaction():
            self._refuse_incomplete(stream, scan, expected)
            self._file.execute(_UNSEEN.format(table=table.sql), [stream, scan])
            gone = self._file.number("SELECT count(*) FROM gone")
            if gone:
                self._refuse_mass_deletion(stream, table, gone, max_share)
                tables = self._tables(stream, run_id)
                tables.keep_history()
                tables.history.close("SELECT external_id FROM gone")
                self._delete(stream, tables, "SELECT external_id FROM gone")
                self._append_changes(stream, run_id, "SELECT external_id, 'deleted' FROM gone")
            self._file.execute("DELETE FROM lake.scans WHERE stream = ?", [stream])
            self._write_scanned(stream)
        return StoreCounts(deleted=gone)

    def note_scan(self, stream: str) -> None:
        with self._file.writing(f"note the scan of {stream}"), self._file.transaction():
            self._write_scanned(stream)

    def parents(
        self, stream: str, above: Sequence[Level], *, since: int | None = None, reading: str = ""
    ) -> Collection[Parent]:
        with self._file.reading(f"read the parents of {stream}") as there:
            if not there or not all(self._records(level.stream).exists() for level in above):
                return []
            return found_parents(self._file, stream, above, since, reading)

    def latest_change(self, stream: str, after: int = 0) -> int:
        with self._file.reading("read the newest change") as there:
            if not there:
                return after
            return self._file.number(
                "SELECT coalesce(max(seq), ?) FROM lake.changes WHERE stream = ? AND seq > ?",
                [after, stream, after],
            )

    def orphan(
        self, stream: str, above: str, *, since: int | None, delete: bool, run_id: str
    ) -> StoreCounts:
        table = self._records(stream)
        with self._file.reading(f"look for orphans of {stream}") as there:
            if not there or not (table.exists() and self._records(above).exists()):
                return StoreCounts()
            children, known = orphans(self._file, stream, above, since)
        gone = children if delete else 0
        if gone or known:
            with self._file.writing(f"delete orphans of {stream}"), self._file.transaction():
                if gone:
                    tables = self._tables(stream, run_id)
                    tables.keep_history()
                    tables.history.close("SELECT external_id FROM gone")
                    self._delete(stream, tables, "SELECT external_id FROM gone")
                    self._append_changes(stream, run_id, "SELECT external_id, 'deleted' FROM gone")
                forget_parents(self._file, stream, children=delete)
        return StoreCounts(deleted=gone)

    def move(self, offset: Offset) -> None:
        with self._file.writing(f"move {offset.consumer}"), self._file.transaction():
            self._write_offset(offset)

    def scanned_at(self, stream: str) -> datetime | None:
        return self._state().scanned_at(stream)

    # --- what is known of a stream ---------------------------------------------------------------

    def note(self, stream: str, name: str) -> Any:
        with self._file.reading(f"read a note of {stream}") as there:
            return notes.note(self._file, stream, name) if there else None

    def keep_note(self, stream: str, name: str, value: Any) -> None:
        with self._file.writing(f"keep a note of {stream}"), self._file.transaction():
            notes.keep_note(self._file, stream, name, value)

    def declare(self, stream: str, schema: Mapping[str, Any]) -> None:
        self._schemas = {**self._schemas, stream: schema}
        table = self._records(stream)
        with self._file.reading(f"look at the columns of {stream}") as there:
            if not there or table.is_as_declared():
                return
        with self._file.writing(f"fill columns of {stream}"), self._file.transaction():
            self._ensure(stream, self._tables(stream, ""))

    # --- the change feed -------------------------------------------------------------------------

    def changes(self, stream: str, after: int, limit: int) -> Sequence[Change]:
        state = self._state()
        if f"records.{stream}" not in state.tables or not state.reaches(f"changes/{stream}", after):
            return []
        table = self._records(stream)
        with self._file.reading(f"read changes of {stream}"):
            rows = self._file.rows(_CHANGES.format(table=table.sql), [stream, after, limit])
        return [Change(*row) for row in rows]

    # --- history ---------------------------------------------------------------------------------

    def as_of(self, stream: str, at: datetime, limit: int) -> pa.Table:
        """The records as they were at a time, in order of their ids; raises NotFound without."""
        moment = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
        return self._versions(
            stream,
            "_valid_from <= ? AND (_valid_to IS NULL OR _valid_to > ?) ORDER BY _external_id",
            [moment, moment, limit],
        )

    def versions(self, stream: str, external_id: str, limit: int) -> pa.Table:
        """A record's versions, oldest first; raises NotFound where the stream has no history."""
        which = "_external_id = ? ORDER BY _valid_from, _valid_to NULLS LAST"
        return self._versions(stream, which, [external_id, limit])

    def _versions(self, stream: str, which: str, parameters: Sequence[Any]) -> pa.Table:
        with self._file.reading(f"read the history of {stream}") as there:
            table = TypedTable(self._file, HISTORY, stream)
            if not there or not table.exists():
                raise NotFound(
                    f"the lake has no history of {stream!r}",
                    hint="set `history: true` in its data source; it begins with the next sync",
                )
            return self._answer(f"SELECT * FROM {table.sql} WHERE {which} LIMIT ?", parameters)

    def offset(self, consumer: str) -> Offset:
        return self._state().offsets.get(consumer, Offset(consumer))

    # --- 3 map -----------------------------------------------------------------------------------

    def keep_mapped(
        self,
        sync: str,
        records: Sequence[MappedRecord],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        schema: Mapping[str, Any],
        *,
        waiting: Sequence[str] = (),
    ) -> MappedCounts:
        table = TypedTable(self._file, MAPPED, sync, schema)
        latest = list({record.external_id: record for record in records}.values())
        self._stage_mapped(latest, dead_letters)
        with self._file.writing(f"map {sync}"), self._file.transaction():
            table.ensure()
            self._file.execute(_CHANGED_MAPPED.format(table=table.sql))
            changed = self._file.number("SELECT count(*) FROM changed_mapped")
            deleted = self._file.number("SELECT count(*) FROM changed_mapped WHERE value IS NULL")
            if changed:
                self._write_mapped(sync, table, changed)
            self._replace_dead_letters("map", sync, _HANDLED, dead_letters)
            keep_waiting(self._file, sync, _HANDLED, waiting)
            self._write_offset(offset)
        return MappedCounts(changed - deleted, len(latest) - changed, deleted)

    def mapped(self, sync: str, after: int, limit: int) -> Sequence[MappedRecord]:
        if not self._state().reaches(f"mapped/{sync}", after):
            return []
        return self._mapped(sync, "_seq > ?", after, limit)

    def waiting(self, sync: str, stream: str, after: str, limit: int) -> Sequence[Change]:
        table = self._records(stream)
        with self._file.reading(f"read what waits of {sync}") as there:
            if not there or not table.exists():
                return []
            rows = waiting_records(self._file, table, sync, after, limit)
        return [Change(0, external_id, "updated", payload) for external_id, payload in rows]

    def find_records(
        self, stream: str, fields: Sequence[Sequence[str | int]], values: Sequence[Sequence[str]]
    ) -> Sequence[str | None] | None:
        table = self._records(stream)
        with self._file.reading(f"look up records of {stream}") as there:
            if not there or not table.exists():
                return None
            return found_records(self._file, table, fields, values)

    # --- 4 link, 5 push --------------------------------------------------------------------------

    def refused(self, sync: str, limit: int) -> Sequence[MappedRecord]:
        if sync not in self._state().refused:
            return []
        return self._mapped(sync, _REFUSED, sync, limit)

    def links(self, key: LinkKey, external_ids: Sequence[str]) -> Mapping[str, Link]:
        return {row[0]: Link(*row) for row in self._links_by("external_id", key, external_ids)}

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
        self._stage_links(list({link.external_id: link for link in links}.values()))
        self._file.stage("gone_links", {"external_id": list(unlink)})
        self._file.stage("handled", {"external_id": list(handled)})
        sync = offset.consumer.removeprefix("push:")
        with self._file.writing(f"link {key.table}"), self._file.transaction():
            self._write_links(key)
            for verb in ("link", "push"):
                letters = [letter for letter in dead_letters if letter.verb == verb]
                self._replace_dead_letters(verb, sync, _HANDLED, letters)
            self._write_offset(offset)

    # --- upkeep ----------------------------------------------------------------------------------

    def tidy(self) -> None:
        """After a sync: once a day, drop what needn't be kept; compact a file that's mostly free.

        Raises LockTimeout where another process stays at work on the lake.
        """
        with self._file.reading("look whether to tidy") as there:
            if not there:
                return
            used, free = self._file.room()
            tidied = self._counter("tidied_on") if self._retention.is_on else 0
        today = datetime.now(UTC).date().toordinal()
        if self._retention.is_on and tidied != today:
            self._drop_old(today)
        if free > used and used + free > COMPACT_BYTES:
            self._file.compact()

    def compact(self) -> int:
        """Drop what needn't be kept, and the room that it took; gives how many rows went."""
        with self._file.reading("look for a lake") as there:
            if not there:
                return 0
        dropped = self._drop_old(0) if self._retention.is_on else 0
        self._file.compact()
        return dropped

    def _drop_old(self, day: int) -> int:
        with self._file.writing("drop what is old"), self._file.transaction():
            dropped = drop_old(self._file, self._retention)
            self._file.execute("DELETE FROM lake.counters WHERE name = 'tidied_on'")
            self._file.execute("INSERT INTO lake.counters VALUES ('tidied_on', ?)", [day])
        return dropped

    # --- for people ------------------------------------------------------------------------------

    def select(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one query; tables are `records.<stream>`, `mapped.<sync>`, `links`.

        Nothing can be written. Raises NotFound where the query names a table that isn't there, or
        the lake is empty, and Fatal where it isn't a query.
        """
        try:
            statements = self._file.memory.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in _READABLE:
                raise Fatal("a lake can only be read", hint="write one SELECT")
            with self._file.reading("answer a query") as there:
                if not there:
                    raise NotFound("the lake is empty", hint="sync the connection first")
                return self._answer(sql, parameters)
        except duckdb.CatalogException as error:
            raise NotFound(_first_line(error), hint="sync the connection first") from None
        except duckdb.Error as error:
            raise Fatal(
                f"the query can't be answered: {_first_line(error)}", hint="mend the query"
            ) from None

    def streams(self) -> list[str]:
        """Streams that have records, in order."""
        with self._file.reading("list streams") as there:
            rows = self._rows(
                "SELECT substr(name, 9) FROM lake.declarations WHERE starts_with(name, ?) "
                "ORDER BY name",
                "records.",
                if_=there,
            )
        return [row[0] for row in rows]

    def count(self, sql: str) -> int:
        """The number that a query answers; 0 where its table isn't there yet."""
        try:
            return int(self.select(sql).column(0)[0].as_py() or 0)
        except NotFound:
            return 0

    # --- how -------------------------------------------------------------------------------------

    def _state(self) -> LakeState:
        """What the lake has where; kept while nobody else can write, until we do."""
        if self._known is None or self._known[0] != self._file.writes or not self._leased:
            with self._file.reading("read what is there") as there:
                state = LakeState.read(self._file) if there else LakeState()
            self._known = (self._file.writes, state)
        return self._known[1]

    def _records(self, stream: str) -> TypedTable:
        return TypedTable(self._file, RECORDS, stream, self._schemas.get(stream))

    def _mapped(self, sync: str, which: str, parameter: Any, limit: int) -> list[MappedRecord]:
        if f"mapped.{sync}" not in self._state().tables:
            return []
        table = TypedTable(self._file, MAPPED, sync)
        with self._file.reading(f"read mapped {sync}"):
            rows = self._file.rows(
                f"SELECT _external_id, CASE WHEN _deleted_at IS NULL THEN _value END, _hash, _seq "
                f"FROM {table.sql} WHERE {which} ORDER BY _seq LIMIT ?",
                [parameter, limit],
            )
        return [MappedRecord(*row) for row in rows]

    def _rows(self, sql: str, *parameters: str, if_: bool) -> list[Any]:
        return self._file.rows(sql, parameters) if if_ else []

    def _answer(self, sql: str, parameters: Sequence[Any]) -> pa.Table:
        self._file.execute("USE lake")
        try:
            return self._file.memory.sql(sql, params=list(parameters) or None).to_arrow_table()
        finally:
            self._file.execute("USE memory")

    def _tables(self, stream: str, run_id: str) -> StreamTables:
        rules = self._rules.get(stream, _DEFAULT_RULES)
        return StreamTables(self._file, stream, self._schemas.get(stream, {}), rules, run_id)

    def _ensure(self, stream: str, tables: StreamTables) -> None:
        """The tables with their columns; if they're filled anew, what doesn't fit is said."""
        refilled = tables.ensure()
        if refilled is not None:
            all_ids = f"SELECT _external_id FROM {tables.records.sql}"
            letters = _misfit_letters(stream, refilled)
            self._replace_dead_letters("pull", stream, all_ids, letters)

    def _refuse(
        self, stream: str, rules: StreamRules, misfits: Sequence[Misfit]
    ) -> list[DeadLetter]:
        """Take what breaks a frozen contract out of what is staged; its dead letters."""
        declared = self._declared(stream, rules)
        letters = refused(self._file, stream, WRITTEN, declared)
        ids = {letter.external_id for letter in letters} | {m.external_id for m in misfits}
        if ids:
            self._file.stage("refused", {"external_id": sorted(ids)})
            for table in ("staged", "typed"):
                self._file.execute(
                    f"DELETE FROM {table} WHERE {IS_WRITTEN} AND external_id IN "
                    "(SELECT external_id FROM refused)"
                )
        return letters

    def _declared(self, stream: str, rules: StreamRules) -> set[str]:
        return {*self._schemas.get(stream, {}).get("properties", {}), rules.id_field}

    def _write_records(
        self, batch: Batch, tables: StreamTables, counts: StoreCounts
    ) -> list[Misfit]:
        """Write the batch's changes; gives what misfits, unless it's known."""
        now, table = _now(), tables.records
        tables.history.keep(batch.run_id)
        if counts.deleted:
            gone = "SELECT external_id FROM staged WHERE kind = 'deleted'"
            self._delete(batch.stream, tables, gone)
        if counts.updated or self._file.number("SELECT count(*) FROM matched"):
            self._file.execute(
                f"DELETE FROM {table.sql} USING staged s WHERE _external_id = s.external_id "
                "AND s.kind IN ('created', 'updated')"
            )
        misfits = tables.write(
            WRITTEN,
            KEPT,
            "external_id, json, hash, coalesce(first_seen_at, ?), ?, NULL, ?",
            [now, now, batch.run_id],
        )
        self._append_changes(
            batch.stream,
            batch.run_id,
            "SELECT external_id, kind FROM staged WHERE kind <> 'unchanged' ORDER BY position",
        )
        return misfits

    def _delete(self, stream: str, tables: StreamTables, ids: str) -> None:
        tables.delete(ids)
        self._replace_dead_letters("pull", stream, ids, [])

    def _refuse_incomplete(self, stream: str, scan: str, expected: int | None) -> None:
        if expected is None:
            return
        seen = self._file.number(
            "SELECT count(DISTINCT external_id) FROM lake.scans WHERE stream = ? AND scan = ?",
            [stream, scan],
        )
        if seen < expected:
            raise IncompleteScan(
                f"the full scan of {stream} saw {seen} of the {expected} records that the app says "
                "it has; nothing was deleted",
                hint="records moved between pages while it read: it scans again at the next sync; "
                "if it never agrees, the app's total counts more than its list shows: leave out "
                "`deletes.exact_total`",
            )

    def _refuse_mass_deletion(
        self, stream: str, table: TypedTable, gone: int, max_share: float
    ) -> None:
        alive = self._file.number(f"SELECT count(*) FROM {table.sql} WHERE _deleted_at IS NULL")
        if gone > alive * max_share:
            raise Fatal(
                f"the full scan of {stream} would delete {gone} of {alive} records, more than "
                f"its max_share of {max_share:.0%}; nothing was deleted",
                hint="if they are really gone over there, raise `deletes.max_share`",
            )

    def _append_changes(self, stream: str, run_id: str, changed: str) -> None:
        """Append to the feed; `changed` selects external ids and kinds in their order."""
        first = self._counter("changes")
        self._file.execute(
            f"INSERT INTO lake.changes SELECT {first} + row_number() OVER (), ?, external_id, "
            f"kind, ?, ? FROM ({changed}) AS c(external_id, kind)",
            [stream, run_id, _now()],
        )
        self._file.execute(
            "UPDATE lake.counters SET value = coalesce((SELECT max(seq) FROM lake.changes), 0) "
            "WHERE name = 'changes'"
        )
        self._reach(f"changes/{stream}", self._counter("changes"))

    def _reach(self, feed: str, seq: int) -> None:
        """Note how far a feed reaches, so that nobody looks for more in vain."""
        self._file.execute("DELETE FROM lake.counters WHERE name = ?", [feed])
        self._file.execute("INSERT INTO lake.counters VALUES (?, ?)", [feed, seq])

    def _counter(self, name: str) -> int:
        sql = "SELECT coalesce(max(value), 0) FROM lake.counters WHERE name = ?"
        return self._file.number(sql, [name])

    def _mark_seen(self, batch: Batch, letters: Sequence[DeadLetter]) -> None:
        self._file.execute(
            "DELETE FROM lake.scans WHERE stream = ? AND scan <> ?", [batch.stream, batch.scan]
        )
        # What came is there, even if it couldn't be taken.
        self._file.stage("untaken", {"external_id": [x.external_id for x in letters]})
        self._file.execute(
            "INSERT INTO lake.scans SELECT ?, ?, external_id FROM (SELECT external_id FROM staged "
            "WHERE NOT deleted UNION SELECT external_id FROM untaken)",
            [batch.stream, batch.scan],
        )

    def _write_cursor(self, batch: Batch) -> None:
        if batch.cursor is None:
            return
        stream = batch.stream + batch.part
        self._file.execute("DELETE FROM lake.cursors WHERE stream = ?", [stream])
        self._file.execute(
            "INSERT INTO lake.cursors VALUES (?, ?, ?, ?)",
            [stream, json.dumps(batch.cursor), batch.run_id, _now()],
        )

    def _write_pages(self, batch: Batch) -> None:
        if batch.reading:
            stream = batch.stream + batch.part
            self._file.execute("DELETE FROM lake.readings WHERE stream = ?", [stream])
            self._file.execute(
                "INSERT INTO lake.readings VALUES (?, ?, ?)", [stream, batch.reading, batch.pages]
            )

    def _write_scanned(self, stream: str) -> None:
        self._file.execute("UPDATE lake.readings SET pages = NULL WHERE stream = ?", [stream])
        self._file.execute("DELETE FROM lake.finished_scans WHERE stream = ?", [stream])
        self._file.execute("INSERT INTO lake.finished_scans VALUES (?, ?)", [stream, _now()])

    def _write_offset(self, offset: Offset) -> None:
        self._file.execute("DELETE FROM lake.offsets WHERE consumer = ?", [offset.consumer])
        self._file.execute(
            "INSERT INTO lake.offsets VALUES (?, ?, ?, ?)",
            [offset.consumer, offset.seq, offset.version, _now()],
        )

    def _stage_mapped(
        self, records: Sequence[MappedRecord], dead_letters: Sequence[DeadLetter]
    ) -> None:
        ids = [record.external_id for record in records]
        self._file.stage(
            "staged_mapped",
            {
                "external_id": ids,
                "value": [record.value for record in records],
                "hash": [record.hash for record in records],
            },
        )
        failed = [letter.external_id for letter in dead_letters]
        self._file.stage("handled", {"external_id": [*ids, *failed]})

    def _write_mapped(self, sync: str, table: TypedTable, changed: int) -> None:
        first = self._counter("mapped")
        table.parse(
            "SELECT external_id, value, hash, position FROM changed_mapped",
            keep=["hash", "position"],
        )
        self._file.execute(
            f"DELETE FROM {table.sql} USING typed WHERE _external_id = typed.external_id"
        )
        table.insert(
            f"external_id, json, hash, {first} + row_number() OVER (ORDER BY position), "
            "?, CASE WHEN json IS NULL THEN CAST(? AS TIMESTAMP) END",
            [_now(), _now()],
        )
        self._file.execute(
            "UPDATE lake.counters SET value = ? WHERE name = 'mapped'", [first + changed]
        )
        self._reach(f"mapped/{sync}", first + changed)

    def _stage_links(self, links: Sequence[Link]) -> None:
        self._file.stage(
            "staged_links",
            {
                "external_id": [link.external_id for link in links],
                "app_id": [link.app_id for link in links],
                "external_hash": [link.external_hash for link in links],
                "app_hash": [link.app_hash for link in links],
                "base": [link.base for link in links],
            },
        )

    def _links_by(self, column: str, key: LinkKey, ids: Sequence[str]) -> list[Any]:
        if not ids:
            return []
        self._file.stage("wanted", {"id": list(ids)})
        with self._file.reading(f"read links of {key.table}") as there:
            if not there:
                return []
            return self._file.rows(
                f"SELECT external_id, app_id, external_hash, app_hash, base, direction "
                f"FROM lake.links WHERE {_SAME_TABLE} AND {column} IN (SELECT id FROM wanted)",
                _names(key),
            )

    def _write_links(self, key: LinkKey) -> None:
        self._file.execute(_LINKED_BEFORE, _names(key))
        self._file.execute(
            f"DELETE FROM lake.links WHERE {_SAME_TABLE} AND external_id IN "
            "(SELECT external_id FROM staged_links UNION ALL SELECT external_id FROM gone_links)",
            _names(key),
        )
        self._file.execute(
            "INSERT INTO lake.links SELECT ?, ?, s.external_id, s.app_id, ?, s.external_hash, "
            "s.app_hash, s.base, coalesce(b.linked_at, ?), ? FROM staged_links s "
            "LEFT JOIN linked_before b ON b.external_id = s.external_id",
            [*_names(key), _now(), _now()],
        )

    def _replace_dead_letters(
        self, verb: str, element: str, handled: str, letters: Sequence[DeadLetter]
    ) -> None:
        """A record's old dead letters go when it's handled again, and its new ones come."""
        self._file.stage(
            "letters",
            {
                name: [getattr(letter, name) for letter in letters]
                for name in ("external_id", "field", "reason", "value", "formula")
            },
        )
        self._file.execute(
            f"DELETE FROM lake.dead_letters WHERE verb = ? AND element = ? AND external_id IN "
            f"({handled} UNION ALL SELECT external_id FROM letters)",
            [verb, element],
        )
        self._file.execute(
            "INSERT INTO lake.dead_letters SELECT ?, ?, external_id, field, reason, value, "
            "formula, ? FROM letters ORDER BY position",
            [verb, element, _now()],
        )


_UNSEEN = """
CREATE OR REPLACE TEMP TABLE gone AS
SELECT _external_id AS external_id FROM {table} r
ANTI JOIN (SELECT external_id FROM lake.scans WHERE stream = ? AND scan = ?) seen
ON seen.external_id = r._external_id
WHERE _deleted_at IS NULL
"""

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

_REFUSED = (
    "_external_id IN (SELECT external_id FROM lake.dead_letters "
    "WHERE verb IN ('link', 'push') AND element = ?)"
)

_SAME_TABLE = "link_table = ? AND instance_key = ? AND direction = ?"

_LINKED_BEFORE = f"""
CREATE OR REPLACE TEMP TABLE linked_before AS
SELECT external_id, linked_at FROM lake.links
WHERE {_SAME_TABLE} AND external_id IN (SELECT external_id FROM staged_links)
"""


def _names(key: LinkKey) -> list[str]:
    return [key.table, key.instance_key, key.direction]


def _misfit_letters(stream: str, misfits: Sequence[Misfit]) -> list[DeadLetter]:
    return [
        DeadLetter(
            verb="pull",
            element=stream,
            external_id=misfit.external_id,
            field=misfit.field,
            reason=f"the value is no {misfit.type}, as fields_schema says it is",
            value=misfit.value,
        )
        for misfit in misfits
    ]


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
