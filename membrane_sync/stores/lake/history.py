"""Every version of a stream's records, with the time it was valid from and to (SCD2).

A version is valid from `_valid_from` on and before `_valid_to`; the present one has no `_valid_to`.
It opens and closes in the transaction that changes the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.incoming import IS_WRITTEN
from membrane_sync.stores.lake.typed_table import HISTORY, RECORDS, TypedTable


class History:
    """The versions of one stream; its methods need the file attached for writing."""

    def __init__(self, file: LakeFile, stream: str, fields: Mapping[str, Any]) -> None:
        self._file = file
        self._table = TypedTable(file, HISTORY, stream, fields)
        self._mark = f"history.{stream}"
        self._newest = f"history_newest.{stream}"
        self._records = TypedTable(file, RECORDS, stream, fields)
        self._on = False

    @property
    def is_on(self) -> bool:
        """Whether versions are kept."""
        return self._on

    def turn(self, *, on: bool, run_id: str) -> None:
        """Begin to keep versions, or stop; before the records change.

        History begins with what the lake holds: each record has been like this since its last
        change. Where it's turned off, its versions end; what comes meanwhile isn't in it.
        """
        was_on = self._was_on()
        if on:
            self._table.ensure(run_id)
            self._on = True
            if not was_on:
                self._begin(since=None if was_on is None else self.moment())
        elif was_on:
            self._file.execute(
                f"UPDATE {self._table.sql} SET _valid_to = ? WHERE _valid_to IS NULL",
                [self.moment()],
            )
        if on is not bool(was_on):
            self._file.execute("DELETE FROM lake.counters WHERE name = ?", [self._mark])
            self._file.execute("INSERT INTO lake.counters VALUES (?, ?)", [self._mark, int(on)])

    def moment(self) -> datetime:
        """Now; or the newest time in the history, should the clock be behind it.

        That is noted, since to look for it would read the whole history. What is written at this
        moment belongs to the same transaction.
        """
        now = datetime.now(UTC).replace(tzinfo=None)
        noted = self._file.rows(
            "SELECT make_timestamp(value) FROM lake.counters WHERE name = ?", [self._newest]
        )
        newest = noted[0][0] if noted else self._newest_of_all()
        moment = max(now, newest) if newest else now
        self._note(moment)
        return moment

    def keep(self, run_id: str) -> None:
        """The changes of the staged batch: old versions close, the parsed new ones open."""
        if not self._on:
            return
        moment = self.moment()
        self._close("SELECT external_id FROM staged WHERE kind IN ('updated', 'deleted')", moment)
        self._table.insert("external_id, json, ?, NULL, ?", [moment, run_id], where=IS_WRITTEN)

    def close(self, ids: str) -> None:
        """End the present versions of deleted records; `ids` is a query."""
        if self._on:
            self._close(ids, self.moment())

    def forget(self, ids: str) -> None:
        """Drop all versions of these records."""
        if self._table.exists():
            self._file.execute(f"DELETE FROM {self._table.sql} WHERE _external_id IN ({ids})")

    def _newest_of_all(self) -> datetime | None:
        sql = "SELECT max(greatest(_valid_from, coalesce(_valid_to, _valid_from))) FROM "
        found: datetime | None = self._file.rows(f"{sql}{self._table.sql}")[0][0]
        return found

    def _note(self, newest: datetime) -> None:
        self._file.execute("DELETE FROM lake.counters WHERE name = ?", [self._newest])
        self._file.execute(
            "INSERT INTO lake.counters VALUES (?, epoch_us(CAST(? AS TIMESTAMP)))",
            [self._newest, newest],
        )

    def _was_on(self) -> bool | None:
        rows = self._file.rows("SELECT value FROM lake.counters WHERE name = ?", [self._mark])
        return bool(rows[0][0]) if rows else None

    def _begin(self, since: datetime | None) -> None:
        records = self._records.sql
        if not self._records.exists():
            return
        self._table.parse(
            f"SELECT _external_id, _payload, _changed_at, _run_id FROM {records} "
            "WHERE _deleted_at IS NULL",
            keep=["_changed_at", "_run_id"],
        )
        self._table.insert("external_id, json, coalesce(?, _changed_at), NULL, _run_id", [since])

    def _close(self, ids: str, moment: datetime) -> None:
        self._file.execute(
            f"UPDATE {self._table.sql} SET _valid_to = ? "
            f"WHERE _valid_to IS NULL AND _external_id IN ({ids})",
            [moment],
        )
