"""Writing one batch of records: what is new of them, and all that must commit with it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from membrane_sync.records import Batch, DeadLetter, StoreCounts
from membrane_sync.stores.lake import event_marks
from membrane_sync.stores.lake.contract import note_discarded, refused
from membrane_sync.stores.lake.dead_letters import (
    misfit_letters,
    replace_dead_letters,
    replace_misfits,
)
from membrane_sync.stores.lake.feeds import append_changes, now
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.incoming import IS_WRITTEN, KEPT, WRITTEN, Incoming, to_parse
from membrane_sync.stores.lake.partitions import write_partitions
from membrane_sync.stores.lake.scans import begin_scan, mark_seen
from membrane_sync.stores.lake.stream_tables import StreamTables
from membrane_sync.stores.lake.typed_table import Misfit


class RecordWriter:
    """Writes batches and deletions of one stream, in the transaction that the caller holds."""

    def __init__(self, file: LakeFile, stream: str, tables: StreamTables, run_id: str) -> None:
        self._file = file
        self._stream = stream
        self._tables = tables
        self._run_id = run_id

    def ensure(self) -> None:
        """The tables with their columns; if they're filled anew, what doesn't fit is said."""
        refilled = self._tables.ensure()
        if refilled is not None:
            replace_misfits(self._file, self._stream, self._tables.records.sql, refilled)

    def write(
        self, batch: Batch, incoming: Incoming, frozen: Collection[str] | None
    ) -> StoreCounts:
        """All of the batch; `frozen` are the fields that it may have, if only those."""
        tables = self._tables
        if batch.scan:
            begin_scan(self._file, batch.stream)
        self.ensure()
        incoming.compare(tables.records)
        missed = incoming.missed()
        misfits: list[Misfit] = []
        if not tables.is_plain:
            misfits += tables.parse(to_parse(batch.stream), WRITTEN, keep=KEPT)
        letters = [*batch.dead_letters]
        if frozen is not None:
            letters += self._refuse(frozen, misfits)
        counts = replace(incoming.counts(), missed=missed)
        if counts.written:
            misfits += self._write_records(counts, len(incoming))
        letters += misfit_letters(batch.stream, misfits)
        if batch.scan:
            mark_seen(self._file, batch, letters)
        if batch.marks:
            event_marks.mark_seen(self._file, batch.stream)
            event_marks.write_marks(self._file, batch)
        if incoming.discards:
            note_discarded(self._file, batch.stream, incoming.discards)
        staged = "SELECT external_id FROM staged"
        replace_dead_letters(self._file, "pull", batch.stream, staged, letters)
        write_partitions(self._file, batch)
        _write_cursor(self._file, batch)
        _write_pages(self._file, batch)
        failed = len({letter.external_id for letter in letters})
        return replace(counts, failed=failed)

    def delete_gone(self) -> None:
        """Delete the records whose ids are in `gone`."""
        self._tables.keep_history()
        self._tables.history.close("SELECT external_id FROM gone")
        self._delete("SELECT external_id FROM gone")
        append_changes(
            self._file,
            self._stream,
            self._run_id,
            "SELECT external_id, 'deleted', row_number() OVER () FROM gone",
        )

    def _refuse(self, declared: Collection[str], misfits: Sequence[Misfit]) -> list[DeadLetter]:
        """Take what breaks a frozen contract out of what is staged; its dead letters."""
        letters = refused(self._file, self._stream, WRITTEN, declared)
        ids = {letter.external_id for letter in letters} | {m.external_id for m in misfits}
        if ids:
            self._file.stage("refused", {"external_id": sorted(ids)})
            for table in ("staged", "typed"):
                self._file.execute(
                    f"DELETE FROM {table} WHERE {IS_WRITTEN} AND external_id IN "
                    "(SELECT external_id FROM refused)"
                )
        return letters

    def _write_records(self, counts: StoreCounts, came: int) -> list[Misfit]:
        """Write the batch's changes, of all that `came`; gives what misfits, unless it's known."""
        moment, tables = now(), self._tables
        tables.history.keep(self._run_id)
        if counts.deleted:
            self._delete("SELECT external_id FROM staged WHERE kind = 'deleted'")
        if counts.updated or self._file.number("SELECT count(*) FROM matched"):
            self._drop_older()
        misfits = tables.write(
            WRITTEN,
            KEPT,
            "external_id, json, hash, coalesce(first_seen_at, ?), ?, NULL, ?",
            [moment, moment, self._run_id],
        )
        changed = _ALL_CHANGED if counts.written == came else _CHANGED
        append_changes(self._file, self._stream, self._run_id, changed)
        return misfits

    def _drop_older(self) -> None:
        """Delete the rows that the batch's records take the place of.

        By their numbers, which `compare` found: to look for the ids again would read all of them.
        """
        records = self._tables.records.sql
        taken = f"staged s JOIN matched m ON m.position = s.position WHERE s.{IS_WRITTEN}"
        if self._tables.has_moved:
            by, rows = "_external_id", f"SELECT s.external_id FROM {taken}"
        else:
            by, rows = "rowid", f"SELECT m.row FROM {taken}"
        self._file.execute(f"DELETE FROM {records} WHERE {by} IN ({rows})")

    def _delete(self, ids: str) -> None:
        self._tables.delete(ids)
        replace_dead_letters(self._file, "pull", self._stream, ids, [])


_CHANGED = """
SELECT external_id, kind, row_number() OVER ()
FROM (SELECT external_id, kind FROM staged WHERE kind <> 'unchanged' ORDER BY position)
"""

_ALL_CHANGED = "SELECT external_id, kind, position + 1 FROM staged"
"""The same where nothing is left out: to sort them takes a third of what the feed does."""


def _write_cursor(file: LakeFile, batch: Batch) -> None:
    if batch.cursor is None:
        return
    stream = batch.stream + batch.part
    file.execute("DELETE FROM lake.cursors WHERE stream = ?", [stream])
    file.execute(
        "INSERT INTO lake.cursors VALUES (?, ?, ?, ?)",
        [stream, json.dumps(batch.cursor), batch.run_id, now()],
    )


def _write_pages(file: LakeFile, batch: Batch) -> None:
    if batch.reading:
        stream = batch.stream + batch.part
        file.execute("DELETE FROM lake.readings WHERE stream = ?", [stream])
        file.execute(
            "INSERT INTO lake.readings VALUES (?, ?, ?)", [stream, batch.reading, batch.pages]
        )
