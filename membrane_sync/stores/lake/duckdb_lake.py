"""The lake of one connection: a DuckDB file of records, cursors, mapped records and links.

Tables have no primary keys or indexes: `DELETE` and `INSERT` of a staged batch is many times
cheaper than `ON CONFLICT`, and the file's lock makes it safe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from membrane_sync.errors import NotFound
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
from membrane_sync.stores.lake import notes
from membrane_sync.stores.lake.answers import selected, versions
from membrane_sync.stores.lake.dead_letters import replace_dead_letters
from membrane_sync.stores.lake.event_marks import known_records
from membrane_sync.stores.lake.feeds import changes_after, counter, write_offset
from membrane_sync.stores.lake.file import LakeFile, Memory
from membrane_sync.stores.lake.incoming import Incoming
from membrane_sync.stores.lake.links import links_by, stage_links, write_links
from membrane_sync.stores.lake.lookups import found_records, keep_waiting, waiting_records
from membrane_sync.stores.lake.mapped_records import (
    REFUSED,
    mapped_records,
    stage_mapped,
    write_mapped,
)
from membrane_sync.stores.lake.page_log import FilePageLog
from membrane_sync.stores.lake.partitions import forget_parents, found_parents, orphans
from membrane_sync.stores.lake.record_writer import RecordWriter
from membrane_sync.stores.lake.retention import Retention, drop_old
from membrane_sync.stores.lake.scans import (
    end_scan,
    refuse_incomplete,
    refuse_mass_deletion,
    stage_unseen,
    write_scanned,
)
from membrane_sync.stores.lake.state import LakeState
from membrane_sync.stores.lake.stream_rules import StreamRules
from membrane_sync.stores.lake.stream_tables import StreamTables
from membrane_sync.stores.lake.typed_table import MAPPED, RECORDS, TypedTable

COMPACT_BYTES = 32 * 2**20
"""Smaller files are left alone; DuckDB uses free room in them again."""

_DEFAULT_RULES = StreamRules()
_KEEP_ALL = Retention()
_HANDLED = "SELECT external_id FROM handled"


class DuckDbLake:
    """The lake in one DuckDB file; implements `ports.Lake`.

    `schemas` are the collections' field schemas by stream: their properties become typed columns.
    `rules` say by stream what happens to undeclared fields, old versions and deleted records;
    `retention` what `tidy` drops of the past, and `consumers` which stream each reads, of those
    that it waits for.
    `epoch` is that of the lease it's written under, `memory` one to work in that others use, too.
    """

    def __init__(
        self,
        path: Path,
        *,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        rules: Mapping[str, StreamRules] | None = None,
        retention: Retention = _KEEP_ALL,
        consumers: Mapping[str, str] | None = None,
        wait_seconds: float = 60.0,
        epoch: int | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.path = path
        self._schemas = schemas or {}
        self._rules = rules or {}
        self._retention = retention
        self._consumers = consumers
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
        declared = self._declared(batch.stream, rules)
        incoming = Incoming(self._file, batch, declared if rules.contract == "discard" else None)
        with (
            incoming.lent(),
            self._file.writing(f"store {batch.stream}"),
            self._file.transaction(),
        ):
            writer = self._writer(batch.stream, batch.run_id)
            return writer.write(batch, incoming, declared if rules.contract == "freeze" else None)

    def known(self, stream: str, external_ids: Sequence[str]) -> Mapping[str, Known]:
        with self._file.reading(f"look for records of {stream}") as there:
            if not there or not external_ids:
                return {}
            return known_records(self._file, self._records(stream), stream, external_ids)

    def pages(self, stream: str, reading: str) -> int | None:
        with self._file.reading("read a reading's pages") as there:
            if not there:
                return 0
            rows = self._file.rows(
                "SELECT pages FROM lake.readings WHERE stream = ? AND reading = ?",
                [stream, reading],
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
            refuse_incomplete(self._file, stream, scan, expected)
            gone = stage_unseen(self._file, table, stream, scan)
            if gone:
                refuse_mass_deletion(self._file, stream, table, gone, max_share)
                self._writer(stream, run_id).delete_gone()
            end_scan(self._file, stream)
        return StoreCounts(deleted=gone)

    def note_scan(self, stream: str) -> None:
        with self._file.writing(f"note the scan of {stream}"), self._file.transaction():
            write_scanned(self._file, stream)

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
                    self._writer(stream, run_id).delete_gone()
                forget_parents(self._file, stream, children=delete)
        return StoreCounts(deleted=gone)

    def move(self, offset: Offset) -> None:
        with self._file.writing(f"move {offset.consumer}"), self._file.transaction():
            write_offset(self._file, offset)

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
            self._writer(stream, "").ensure()

    # --- the change feed -------------------------------------------------------------------------

    def changes(self, stream: str, after: int, limit: int) -> Sequence[Change]:
        state = self._state()
        if f"records.{stream}" not in state.tables or not state.reaches(f"changes/{stream}", after):
            return []
        table = self._records(stream)
        with self._file.reading(f"read changes of {stream}"):
            rows = changes_after(self._file, table.sql, stream, after, limit)
        return [Change(*row) for row in rows]

    # --- history ---------------------------------------------------------------------------------

    def as_of(self, stream: str, at: datetime, limit: int) -> pa.Table:
        """The records as they were at a time, in order of their ids; raises NotFound without."""
        moment = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
        return versions(
            self._file,
            stream,
            "_valid_from <= ? AND (_valid_to IS NULL OR _valid_to > ?) ORDER BY _external_id",
            [moment, moment, limit],
        )

    def versions(self, stream: str, external_id: str, limit: int) -> pa.Table:
        """A record's versions, oldest first; raises NotFound where the stream has no history."""
        which = "_external_id = ? ORDER BY _valid_from, _valid_to NULLS LAST"
        return versions(self._file, stream, which, [external_id, limit])

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
        stage_mapped(self._file, latest, dead_letters)
        with self._file.writing(f"map {sync}"), self._file.transaction():
            table.ensure()
            changed, deleted = write_mapped(self._file, sync, table)
            replace_dead_letters(self._file, "map", sync, _HANDLED, dead_letters)
            keep_waiting(self._file, sync, _HANDLED, waiting)
            write_offset(self._file, offset)
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
        return self._mapped(sync, REFUSED, sync, limit)

    def links(self, key: LinkKey, external_ids: Sequence[str]) -> Mapping[str, Link]:
        rows = links_by(self._file, "external_id", key, external_ids)
        return {row[0]: Link(*row) for row in rows}

    def linked_apps(self, key: LinkKey, app_ids: Sequence[str]) -> Mapping[str, str]:
        return {row[1]: row[0] for row in links_by(self._file, "app_id", key, app_ids)}

    def keep_links(
        self,
        key: LinkKey,
        links: Sequence[Link],
        unlink: Sequence[str],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        handled: Sequence[str],
    ) -> None:
        latest = list({link.external_id: link for link in links}.values())
        stage_links(self._file, latest, unlink)
        self._file.stage("handled", {"external_id": list(handled)})
        sync = offset.consumer.removeprefix("push:")
        with self._file.writing(f"link {key.table}"), self._file.transaction():
            write_links(self._file, key)
            for verb in ("link", "push"):
                letters = [letter for letter in dead_letters if letter.verb == verb]
                replace_dead_letters(self._file, verb, sync, _HANDLED, letters)
            write_offset(self._file, offset)

    # --- upkeep ----------------------------------------------------------------------------------

    def tidy(self) -> None:
        """After a sync: once a day, drop what needn't be kept; compact a file that's mostly free.

        That waits where the disk has no room for it. Raises LockTimeout where another process stays
        at work on the lake.
        """
        with self._file.reading("look whether to tidy") as there:
            if not there:
                return
            used, free = self._file.room()
            tidied = counter(self._file, "tidied_on") if self._retention.is_on else 0
        today = datetime.now(UTC).date().toordinal()
        if self._retention.is_on and tidied != today:
            self._drop_old(today)
        worth_it = free > used and used + free > COMPACT_BYTES
        if worth_it and self._file.disk_has(used):
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
            dropped = drop_old(self._file, self._retention, self._consumers)
            self._file.execute("DELETE FROM lake.counters WHERE name = 'tidied_on'")
            self._file.execute("INSERT INTO lake.counters VALUES ('tidied_on', ?)", [day])
        return dropped

    # --- for people ------------------------------------------------------------------------------

    def select(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The answer to one query; tables are `records.<stream>`, `mapped.<sync>`, `links`.

        Nothing can be written. Raises NotFound where the query names a table that isn't there, or
        the lake is empty, and Fatal where it isn't a query.
        """
        return selected(self._file, sql, parameters)

    def streams(self) -> list[str]:
        """Streams that have records, in order."""
        with self._file.reading("list streams") as there:
            if not there:
                return []
            rows = self._file.rows(
                "SELECT substr(name, 9) FROM lake.declarations WHERE starts_with(name, ?) "
                "ORDER BY name",
                ["records."],
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
            return mapped_records(self._file, table, which, parameter, limit)

    def _writer(self, stream: str, run_id: str) -> RecordWriter:
        rules = self._rules.get(stream, _DEFAULT_RULES)
        schema = self._schemas.get(stream, {})
        tables = StreamTables(self._file, stream, schema, rules, run_id)
        return RecordWriter(self._file, stream, tables, run_id)

    def _declared(self, stream: str, rules: StreamRules) -> set[str]:
        return {*self._schemas.get(stream, {}).get("properties", {}), rules.id_field}
