"""A table of the lake that keeps JSON, with a typed column for each declared field.

The JSON decides; the columns are there for those who query. So a declaration may change at any
time: the columns are filled anew from the JSON, and the app needn't be asked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from membrane_sync.errors import Fatal
from membrane_sync.stores.lake.columns import (
    Column,
    columns_of,
    literal,
    misfit,
    needs_text,
    parsed,
    quoted,
    raw_values_of,
    texts_found,
    texts_of,
    value_of,
)
from membrane_sync.stores.lake.file import LakeFile


@dataclass(frozen=True)
class TableKind:
    """What all tables of one schema of the lake have in common; `json` is the column of JSON."""

    schema: str
    json: str
    system: Mapping[str, str]


_PACKED = " USING COMPRESSION zstd"
"""For payloads: written with a third less CPU than as DuckDB itself chooses, and half as large."""

_PLAIN = " USING COMPRESSION uncompressed"
"""For ids, which each commit looks through: half as fast where they're packed, and packing them
takes more CPU than all else that a column of them costs."""

_STORED = {"_payload": _PACKED, "_external_id": _PLAIN}
"""How columns are stored, other than as DuckDB chooses."""

RECORDS = TableKind(
    "records",
    "_payload",
    {
        "_external_id": "VARCHAR",
        "_payload": "JSON",
        "_hash": "UBIGINT",
        "_first_seen_at": "TIMESTAMP",
        "_changed_at": "TIMESTAMP",
        "_deleted_at": "TIMESTAMP",
        "_run_id": "VARCHAR",
    },
)
MAPPED = TableKind(
    "mapped",
    "_value",
    {
        "_external_id": "VARCHAR",
        "_value": "JSON",
        "_hash": "VARCHAR",
        "_seq": "BIGINT",
        "_mapped_at": "TIMESTAMP",
        "_deleted_at": "TIMESTAMP",
    },
)


HISTORY = TableKind(
    "history",
    "_payload",
    {
        "_external_id": "VARCHAR",
        "_payload": "JSON",
        "_valid_from": "TIMESTAMP",
        "_valid_to": "TIMESTAMP",
        "_run_id": "VARCHAR",
    },
)


_TIMES = 4
"""So many columns of times are compared, before the JSON is: of more, one is hardly the first."""

_MISFITS = (
    "SELECT last_value FROM duckdb_sequences() "
    "WHERE sequence_name = 'misfits' AND database_name = 'temp'"
)


@dataclass(frozen=True)
class Misfit:
    """A value that isn't of its declared type: NULL in its column, and whole in the JSON."""

    external_id: str
    field: str
    type: str
    value: str


class TypedTable:
    """One such table; its methods need the file attached."""

    def __init__(
        self, file: LakeFile, kind: TableKind, name: str, fields: Mapping[str, Any] | None = None
    ) -> None:
        self.sql = f"lake.{kind.schema}.{quoted(name)}"
        self._file = file
        self._kind = kind
        self._name = f"{kind.schema}.{name}"
        self._columns = columns_of(fields or {}, list(kind.system))

    def exists(self) -> bool:
        """Whether it was ever written."""
        return self._declared() is not None

    def is_as_declared(self) -> bool:
        """Whether `ensure` would change nothing that's there."""
        return self._declared() in (None, json.dumps(self._wanted()))

    def ensure(self, run_id: str = "", *, absent: bool = False) -> list[Misfit] | None:
        """Create it; or, if other fields are declared now, fill its columns anew.

        Where its records are known to have none of the fields that are new (`absent`), the columns
        are only added. Gives None if no record was read again; else what doesn't fit, of all its
        records. Changes of an existing table of records are noted.
        """
        wanted = self._wanted()
        declaration = json.dumps(wanted)
        stored = self._declared()
        if stored == declaration:
            return None
        misfits: list[Misfit] | None = None
        before: dict[str, str] = json.loads(stored) if stored else {}
        if absent and before and list(before.items()) == list(wanted.items())[: len(before)]:
            for name in list(wanted)[len(before) :]:
                self._file.execute(
                    f"ALTER TABLE {self.sql} ADD COLUMN {quoted(name)} {wanted[name]}"
                )
        else:
            misfits = self._fill_anew(wanted, is_new=stored is None)
        self._file.execute("DELETE FROM lake.declarations WHERE name = ?", [self._name])
        self._file.execute("INSERT INTO lake.declarations VALUES (?, ?)", [self._name, declaration])
        if before and self._kind is RECORDS:
            self._note_changes(before, wanted, run_id)
        return misfits

    def _refuse_same_name(self) -> None:
        """Raise Fatal where another name differs in case alone: for DuckDB it's the same table."""
        rows = self._file.rows(
            "SELECT name FROM lake.declarations WHERE lower(name) = lower(?)", [self._name]
        )
        if rows:
            raise Fatal(
                f"{rows[0][0]} and {self._name} can't be in one lake, whose names ignore case",
                hint="give one of them a key that differs in more than case",
            )

    def _fill_anew(self, wanted: Mapping[str, str], *, is_new: bool) -> list[Misfit]:
        declared = ", ".join(
            f"{quoted(name)} {kind}{_STORED.get(name, '')}" for name, kind in wanted.items()
        )
        if is_new:
            self._refuse_same_name()
            self._file.execute(f"CREATE TABLE {self.sql} ({declared})")
            return []
        # Of a record's versions each is a row, so that rows are told apart by their number there.
        row = "CAST(rowid AS VARCHAR)" if self._kind is HISTORY else "_external_id"
        # Of the columns, nothing is needed but our own: fields may have any name, as `key`.
        system = ", ".join(self._kind.system)
        self._file.execute(
            f"CREATE OR REPLACE TEMP TABLE old AS SELECT {row} AS key, {system} FROM {self.sql}"
        )
        kept = [name for name in self._kind.system if name != self._kind.json]
        misfits = self.parse(
            f"SELECT key, {self._kind.json}, {', '.join(kept)} FROM old", keep=kept
        )
        self._file.execute(f"DROP TABLE {self.sql}")
        self._file.execute(f"CREATE TABLE {self.sql} ({declared})")
        self.insert(
            ", ".join(
                f"TRY_CAST({'json' if name == self._kind.json else name} AS {kind})"
                for name, kind in self._kind.system.items()
            )
        )
        self._file.execute("DROP TABLE old")
        return misfits

    def _note_changes(
        self, before: Mapping[str, str], after: Mapping[str, str], run_id: str
    ) -> None:
        stream = self._name.removeprefix(f"{self._kind.schema}.")
        now = datetime.now(UTC).replace(tzinfo=None)
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                self._file.execute(
                    "INSERT INTO lake.schema_changes VALUES (?, ?, ?, ?, ?, ?)",
                    [stream, name, before.get(name), after.get(name), now, run_id],
                )

    def parse(self, source: str, keep: Sequence[str] = ()) -> list[Misfit]:
        """Parse what the query `source` gives, ids and JSON, for the next `insert`.

        They're in the temporary table `typed` as `external_id` and `json`, together with further
        columns of the query that are to be kept.
        """
        kept = "".join(f", c{i}, m{i}" for i in range(len(self._columns)))
        ids = ", ".join(["external_id", "json", *keep])
        self._file.execute(
            f"CREATE OR REPLACE TEMP TABLE typed AS SELECT {ids}{kept} "
            f"FROM {self._read(source, keep)}"
        )
        return self._take_misfits()

    def fill(
        self, source: str, keep: Sequence[str], system: str, parameters: Sequence[Any] = ()
    ) -> list[Misfit]:
        """Parse and insert in one go: cheaper, unless a value doesn't fit; gives those that don't.

        The statement itself can't tell them. But a sequence counts on as soon as there's one, and
        then all is parsed once more.
        """
        self._file.execute("CREATE TEMP SEQUENCE IF NOT EXISTS misfits")
        before = self._file.rows(_MISFITS)
        fields = "".join(
            f", CASE WHEN m{i} THEN CASE WHEN nextval('misfits') < 0 THEN c{i} END ELSE c{i} END"
            for i in range(len(self._columns))
        )
        self._file.execute(
            f"INSERT INTO {self.sql} SELECT {system}{fields} FROM {self._read(source, keep)}",
            parameters,
        )
        return [] if self._file.rows(_MISFITS) == before else self.parse(source, keep)

    def moved(self, payload: str, row: str, ignored: Collection[str]) -> str:
        """SQL that is true where a time in `payload` isn't the one in the table's `row`.

        Then they surely say something else, which the JSON needn't be read for. So nearly every
        record that changed is known by the time of its change.
        """
        conditions = [
            f"coalesce({row}.{quoted(column.name)} <> {value_of(text, column)}, false)"
            for column in self._columns
            if column.type == "TIMESTAMP" and column.field not in ignored
            for text in [f"json_extract_string({payload}, {literal(column.pointer)})"]
        ]
        return " OR ".join(conditions[:_TIMES]) or "false"

    def insert(self, system: str, parameters: Sequence[Any] = (), *, where: str = "true") -> None:
        """Insert what was parsed; `system` gives the system columns, out of `typed`."""
        fields = "".join(f", c{i}" for i in range(len(self._columns)))
        self._file.execute(
            f"INSERT INTO {self.sql} SELECT {system}{fields} FROM typed WHERE {where}", parameters
        )

    def _read(self, source: str, keep: Sequence[str]) -> str:
        """SQL of what `source` gives, with each column's value as `c0`; `m0` if it doesn't fit."""
        self._file.allow(len(self._columns))
        columns = list(enumerate(self._columns))
        ids = ", ".join(["external_id", "json", *keep])
        raws = raw_values_of("json", "parsed", self._columns)
        raw = "".join(f", {value} AS r{i}" for i, value in enumerate(raws))
        values = "".join(f", {value_of(f'r{i}', column)} AS c{i}" for i, column in columns)
        doubts = " OR ".join(needs_text(f"r{i}", column) for i, column in columns) or "false"
        found = f"CASE WHEN {doubts} THEN {texts_found('json', self._columns)} END"
        texts = texts_of("json", "found", self._columns)
        checks = "".join(
            f", {misfit(texts[i], f'r{i}', f'c{i}', column)} AS m{i}" for i, column in columns
        )
        return (
            f"(SELECT *{checks} FROM (SELECT *, {found} AS found FROM (SELECT *{values} FROM "
            f"(SELECT {ids}{raw} FROM (SELECT *, {parsed('json', self._columns)} AS parsed "
            f"FROM ({source}) AS s({ids}))))))"
        )

    def _wanted(self) -> dict[str, str]:
        return {**self._kind.system, **{column.name: column.type for column in self._columns}}

    def _declared(self) -> str | None:
        rows = self._file.rows("SELECT columns FROM lake.declarations WHERE name = ?", [self._name])
        return str(rows[0][0]) if rows else None

    def _take_misfits(self) -> list[Misfit]:
        """What doesn't fit, taken out of the parsed values."""
        if not self._columns:
            return []
        found = self._file.rows(
            f"SELECT {', '.join(f'bool_or(m{i})' for i in range(len(self._columns)))} FROM typed"
        )[0]
        misfits: list[Misfit] = []
        for i, column in enumerate(self._columns):
            if found[i]:
                misfits += self._misfits_of(column, f"m{i}")
                self._file.execute(f"UPDATE typed SET c{i} = NULL WHERE m{i}")
        return misfits

    def _misfits_of(self, column: Column, condition: str) -> list[Misfit]:
        rows = self._file.rows(
            f"SELECT external_id, json_extract_string(json, {literal(column.pointer)}) "
            f"FROM typed WHERE {condition}"
        )
        return [Misfit(row[0], column.field, column.type, row[1]) for row in rows]
