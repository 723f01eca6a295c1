"""The tables of one stream: its records, and their versions where it has a history.

Their columns are those of the declaration. Where that is open, they follow what comes: fields are
taken up, and types widen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from membrane_sync.stores.lake.contract import FoundFields
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.history import History
from membrane_sync.stores.lake.incoming import IS_WRITTEN
from membrane_sync.stores.lake.stream_rules import StreamRules
from membrane_sync.stores.lake.typed_table import RECORDS, Misfit, TypedTable


class StreamTables:
    """They need the file attached for writing, in the transaction that changes the records."""

    def __init__(
        self,
        file: LakeFile,
        stream: str,
        schema: Mapping[str, Any],
        rules: StreamRules,
        run_id: str,
    ) -> None:
        self._file = file
        self._stream = stream
        self._rules = rules
        self._run_id = run_id
        self._is_parsed = False
        self.has_moved = False
        """Whether records were written anew: row numbers that were read before aren't theirs."""
        self._fields = FoundFields(file, stream, schema)
        self._follow()

    def ensure(self) -> list[Misfit] | None:
        """Create them, or bring them to the declaration as it is now.

        Gives None if no record was read again; else what doesn't fit, of all the stream's records.
        """
        if self._fields.is_begun and not self._rules.is_open:
            self._fields.forget()
            self._follow()
        refilled = self.records.ensure(self._run_id)
        if self._rules.is_open and (refilled is not None or not self._fields.is_begun):
            # Records that are there may have fields that weren't looked for, or were declared.
            self._fields.look(f"SELECT _external_id, _payload FROM {self.records.sql}")
            refilled = self._refill() or refilled
        while refilled and self._rules.is_open and self._fields.widen(refilled):
            refilled = self._refill()
        self.keep_history()
        self._forget_deleted()
        return refilled

    def keep_history(self) -> None:
        """Begin or end the history, if the rules say otherwise than before."""
        self.history.turn(on=self._rules.history, run_id=self._run_id)

    def parse(self, source: str, written: str, keep: Sequence[str]) -> list[Misfit]:
        """Parse what the query `source` gives for the next `write`; gives what doesn't fit.

        Fields are taken up from those of them that `written` gives.
        """
        self._is_parsed = True
        if self._rules.is_open and self._fields.look(written):
            self._refill(absent=True)
        misfits = self.records.parse(source, keep=keep)
        refilled: Sequence[Misfit] = ()
        while self._rules.is_open and self._fields.widen([*misfits, *refilled]):
            refilled = self._refill() or ()
            misfits = self.records.parse(source, keep=keep)
        return misfits

    @property
    def is_plain(self) -> bool:
        """Whether nobody must know what misfits before it's written: `parse` needn't be asked."""
        if self._rules.is_open or self._rules.contract == "freeze" or self.history.is_on:
            return False
        letters = "SELECT count(*) FROM lake.dead_letters WHERE verb = 'pull' AND element = ?"
        return not self._file.number(letters, [self._stream])

    def write(
        self, written: str, keep: Sequence[str], system: str, parameters: Sequence[Any]
    ) -> list[Misfit]:
        """Insert the records that `written` gives; gives what doesn't fit, if `parse` hasn't."""
        if not self._is_parsed:
            return self.records.fill(written, keep, system, parameters)
        self.records.insert(system, parameters, where=IS_WRITTEN)
        return []

    def delete(self, ids: str) -> None:
        """Mark records as deleted, or leave nothing of them; `ids` is a query."""
        if self._rules.hard_deletes:
            self._file.execute(f"DELETE FROM {self.records.sql} WHERE _external_id IN ({ids})")
            self.history.forget(ids)
            return
        now = datetime.now(UTC).replace(tzinfo=None)
        self._file.execute(
            f"UPDATE {self.records.sql} SET _deleted_at = ?, _changed_at = ?, _run_id = ? "
            f"WHERE _external_id IN ({ids})",
            [now, now, self._run_id],
        )

    def _forget_deleted(self) -> None:
        """Where deletions have become hard, nothing is left of what was deleted before."""
        mark = f"hard_deletes.{self._stream}"
        noted = self._file.number("SELECT count(*) FROM lake.counters WHERE name = ?", [mark])
        if self._rules.hard_deletes is bool(noted):
            return
        if self._rules.hard_deletes:
            deleted = f"FROM {self.records.sql} WHERE _deleted_at IS NOT NULL"
            self.history.forget(f"SELECT _external_id {deleted}")
            self._file.execute(f"DELETE {deleted}")
            self._file.execute("INSERT INTO lake.counters VALUES (?, 1)", [mark])
        else:
            self._file.execute("DELETE FROM lake.counters WHERE name = ?", [mark])

    def _refill(self, *, absent: bool = False) -> list[Misfit] | None:
        """Write down the found fields, and give both tables their columns."""
        self._fields.keep()
        self.has_moved = True
        was_on = self.history.is_on
        self._follow()
        misfits = self.records.ensure(self._run_id, absent=absent)
        if was_on:
            self.keep_history()
        return misfits

    def _follow(self) -> None:
        schema = self._fields.schema
        self.records = TypedTable(self._file, RECORDS, self._stream, schema)
        self.history = History(self._file, self._stream, schema)
