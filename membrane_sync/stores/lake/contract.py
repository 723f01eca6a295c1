"""What becomes of fields that the declaration doesn't have: columns, refused, or left out.

Under `evolve` an undeclared field is a column where the declaration is open. Its type is inferred,
and widens when a value doesn't fit; it never narrows. Under `freeze` its record is refused, under
`discard` the field is left out of the payload before the lake sees it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec

from membrane_sync.records import DeadLetter, RawRecord
from membrane_sync.stores.lake.columns import EXACT
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import Misfit

MAX_FOUND = 500
"""Undeclared fields that become columns; more stay in the payload alone.

An app that uses ids as field names would otherwise make a table of endless columns.
"""

_SPECS: dict[str, dict[str, Any]] = {
    "BIGINT": {"type": "integer", EXACT: True},
    "DOUBLE": {"type": "number", EXACT: True},
    "BOOLEAN": {"type": "boolean", EXACT: True},
    "VARCHAR": {"type": "string", EXACT: True},
    "JSON": {},
}


class FoundFields:
    """The undeclared fields of a stream that are columns; needs the file attached for writing."""

    def __init__(self, file: LakeFile, stream: str, schema: Mapping[str, Any]) -> None:
        self._file = file
        self._stream = stream
        self._declared = dict(schema.get("properties", {}))
        rows = file.rows(
            "SELECT field, type FROM lake.found_fields WHERE stream = ? ORDER BY position", [stream]
        )
        kept = {field: kind for field, kind in rows if field not in self._declared}
        self.is_begun = "" in kept
        self._types: dict[str, str] = {field: kind for field, kind in kept.items() if field}

    @property
    def schema(self) -> dict[str, Any]:
        """The declared fields, and after them the found ones."""
        found = {field: _SPECS[kind] for field, kind in self._types.items()}
        return {"properties": {**self._declared, **found}}

    def look(self, source: str) -> bool:
        """Take up the fields that payloads of the query `source` have; gives whether any are new.

        A field that has been null in all of them isn't taken up yet.
        """
        room = MAX_FOUND - len(self._types)
        if room <= 0:
            return False
        named = self._unknown(source)
        found = self._typed(named, source, room) if named else {}
        self._types.update(found)
        return bool(found)

    def widen(self, misfits: Iterable[Misfit]) -> bool:
        """Widen found columns so that these values fit; gives whether one was."""
        before = dict(self._types)
        for misfit in misfits:
            if misfit.field in self._types:
                self._types[misfit.field] = _wider(self._types[misfit.field], misfit.value)
        return self._types != before

    def keep(self) -> None:
        """Write them down."""
        self._erase()
        rows = [("", ""), *self._types.items()]
        self._file.stage("found", {"field": [r[0] for r in rows], "type": [r[1] for r in rows]})
        self._file.execute(
            "INSERT INTO lake.found_fields SELECT ?, field, type, position FROM found",
            [self._stream],
        )
        self.is_begun = True

    def forget(self) -> None:
        """Have none any more: the stream isn't open now."""
        self._erase()
        self._types = {}
        self.is_begun = False

    def _erase(self) -> None:
        self._file.execute("DELETE FROM lake.found_fields WHERE stream = ?", [self._stream])

    def _unknown(self, source: str) -> list[str]:
        """Names of fields that have no column; most payloads have the same ones as others."""
        return _names(self._file, source, {"", *self._declared, *self._types})

    def _typed(self, fields: Sequence[str], source: str, most: int) -> dict[str, str]:
        """The first so many of these fields that have a value somewhere, and their types.

        One payload after another: what a query would hold of wide ones has no bound.
        """
        wanted, kinds = set(fields), defaultdict[str, set[str]](set)
        for (payload,) in self._file.each(f"SELECT payload FROM ({source}) AS s(i, payload)"):
            values, _ = _fields(payload)
            for field in wanted.intersection(values):
                kinds[field].add(_kind(values[field]))
        typed = {field: inferred(kinds[field] - {""}) for field in fields if field in kinds}
        return dict(islice(((field, kind) for field, kind in typed.items() if kind), most))


def _names(file: LakeFile, source: str, known: Collection[str]) -> list[str]:
    """Names of fields in payloads of the query `source` that aren't known, in order."""
    rows = file.rows(
        "SELECT DISTINCT unnest(keys) AS field FROM (SELECT DISTINCT json_keys(payload) AS keys "
        f"FROM ({source}) AS s(external_id, payload)) ORDER BY field"
    )
    return [field for (field,) in rows if field not in known]


def inferred(kinds: Collection[str]) -> str:
    """The narrowest type that takes values of all these types; empty if there are none."""
    if len(kinds) <= 1:
        return next(iter(kinds), "")
    if kinds == {"BIGINT", "DOUBLE"}:
        return "DOUBLE"
    return "JSON" if "JSON" in kinds else "VARCHAR"


_KINDS = {'"': "VARCHAR", "{": "JSON", "[": "JSON", "t": "BOOLEAN", "f": "BOOLEAN", "n": ""}
"""By the first character of a JSON text; all else is a number."""


def _kind(value: Any) -> str:
    """The type of a column for one value; empty for null."""
    text = bytes(value).decode() if isinstance(value, msgspec.Raw) else json.dumps(value)
    kind = _KINDS.get(text[0])
    if kind is not None:
        return kind
    digits = text.removeprefix("-")
    return "BIGINT" if digits.isdigit() and len(digits) <= _DIGITS else "DOUBLE"


_DIGITS = 19
"""A BIGINT has no more. Whether a number really fits, the column itself tells."""


def _wider(present: str, value: str) -> str:
    if present in ("VARCHAR", "JSON"):
        return "JSON"
    if value[:1] in ("{", "["):
        return "JSON"
    if present == "BIGINT" and not value.lstrip("-").isdigit():
        try:
            float(value)
        except ValueError:
            return "VARCHAR"
        return "DOUBLE"
    return "VARCHAR"


def refused(
    file: LakeFile, stream: str, source: str, declared: Collection[str]
) -> list[DeadLetter]:
    """A dead letter for each undeclared field in what the query `source` gives, ids and JSON."""
    undeclared = _names(file, source, declared)
    if not undeclared:
        return []
    file.stage("named", {"field": undeclared})
    rows = file.rows(
        f"SELECT external_id, field, json_extract_string(payload, "
        f"'/' || replace(replace(field, '~', '~0'), '/', '~1')) FROM ("
        f"SELECT external_id, payload, unnest(json_keys(payload)) AS field "
        f"FROM ({source}) AS s(external_id, payload)) "
        "WHERE field IN (SELECT field FROM named) ORDER BY external_id, field"
    )
    reason = "fields_schema has no such field, and the contract is freeze; the record wasn't stored"
    return [DeadLetter("pull", stream, row[0], row[1], reason, row[2] or "") for row in rows]


def discarded(
    records: Sequence[RawRecord], declared: Collection[str]
) -> tuple[Sequence[RawRecord], Counter[str]]:
    """The records without undeclared fields, and in how many records each of those was."""
    counts: Counter[str] = Counter()
    kept: list[RawRecord] = []
    for record in records:
        fields, encode = _fields(record.payload)
        extra = [name for name in fields if name not in declared]
        if extra:
            counts.update(extra)
            left = {name: value for name, value in fields.items() if name in declared}
            record = record._replace(payload=encode(left))
        kept.append(record)
    return kept, counts


def note_discarded(file: LakeFile, stream: str, counts: Mapping[str, int]) -> None:
    """Add to the counts in the lake."""
    now = datetime.now(UTC).replace(tzinfo=None)
    for field, records in sorted(counts.items()):
        before = file.rows(
            "SELECT records FROM lake.discarded WHERE stream = ? AND field = ?", [stream, field]
        )
        file.execute("DELETE FROM lake.discarded WHERE stream = ? AND field = ?", [stream, field])
        total = records + (before[0][0] if before else 0)
        file.execute("INSERT INTO lake.discarded VALUES (?, ?, ?, ?)", [stream, field, total, now])


def _fields(payload: str) -> tuple[dict[str, Any], Any]:
    """A record's fields, their values as the text they came in, and how to write them again."""
    try:
        return _RAW.decode(payload), lambda fields: msgspec.json.encode(fields).decode()
    except msgspec.MsgspecError:  # What only a lenient reader takes, as 1e400.
        return json.loads(payload), lambda fields: json.dumps(fields, ensure_ascii=False)


_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
