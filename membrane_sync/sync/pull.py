"""1 pull: external records, one batch a page, each with the cursor it may be committed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from membrane_sync.elements.data_collection import Cursor, DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.ports import Api
from membrane_sync.records import Batch, DeadLetter, RawRecord
from membrane_sync.sync.collection import listing, records_in
from membrane_sync.sync.cursor import CursorOrder, asked_from, safe_checkpoint

Mode = Literal["incremental", "full"]


@dataclass(frozen=True)
class Reading:
    """What to read: a collection, from a stored cursor on, into a stream of the lake.

    `full` reads all of it, whatever the cursor; `scan` then names the scan, if what it doesn't see
    is to be deleted.
    """

    collection: DataCollection
    stream: str
    scope: Mapping[str, Any] = field(default_factory=dict)
    cursor: Any = None
    full: bool = False
    run_id: str = ""
    scan: str = ""


@dataclass(frozen=True)
class Pulled:
    """One page: how many records the app sent, and the batch to store."""

    received: int
    batch: Batch


def pull(reading: Reading, api: Api) -> Iterator[Pulled]:
    """Read the collection to its end; storing each batch before asking for the next is safe.

    A record that comes again right after, in the same state, because an inclusive cursor brings the
    boundary twice, is dropped.
    """
    collection = reading.collection
    progress = _Progress(reading)
    calls = listing(collection, {**reading.scope, "cursor": progress.asked_from()})
    call = next(calls, None)
    previous: set[tuple[str, str]] = set()
    while call is not None:
        answer = api.send(call)
        records = records_in(collection, answer)
        try:
            call = calls.send(answer)
        except StopIteration:
            call = None
        kept, dead = _raw_records(collection, records)
        fresh = [raw for raw in kept if (raw.external_id, raw.hash) not in previous]
        previous = {(raw.external_id, raw.hash) for raw in kept}
        cursor = progress.after(records, last=call is None)
        batch = Batch(reading.stream, fresh, cursor, reading.run_id, reading.scan, dead)
        yield Pulled(len(fresh) + len(dead), batch)


class _Progress:
    """The cursor while reading: it only moves forward, and never past what may still come.

    A full reading leaves a stored cursor where it is, unless the scan itself finds the deletions:
    a list of what exists shows no tombstones, and moving on would skip those in between.
    """

    def __init__(self, reading: Reading) -> None:
        method = reading.collection.list_
        self._collection = reading.collection
        self._cursor: Cursor | None = method.cursor if method else None
        self._order = CursorOrder(self._cursor) if self._cursor else None
        self._full = reading.full
        self._stored = reading.cursor
        self._moves = not reading.full or reading.cursor is None or bool(reading.scan)
        self._newest: Any = None

    def asked_from(self) -> Any:
        if self._cursor is None or self._full:
            return None
        return asked_from(self._cursor, self._stored)

    def after(self, records: list[Any], *, last: bool) -> Any:
        """The cursor to commit with a page, None to leave the stored one."""
        if self._cursor is None or self._order is None or not self._moves:
            return None
        values = self._values(records, self._order)
        if last and self._newest is not None:
            values.append(self._newest)
        elif values:
            self._newest = self._order.newest([*values, *self._seen()])
        checkpoint = safe_checkpoint(self._cursor, self._order, values, last=last)
        if checkpoint is None or not self._is_ahead(checkpoint, self._order):
            return None
        self._stored = checkpoint
        return checkpoint

    def _values(self, records: list[Any], order: CursorOrder) -> list[Any]:
        values = [order.value(record) for record in records if isinstance(record, dict)]
        if None in values and self._cursor is not None and self._cursor.nulls == "fail":
            raise UnexpectedAnswer(
                f"collection {self._collection.key!r}: a record has no {self._cursor.field}, "
                "and the cursor's `nulls` is fail"
            )
        return [value for value in values if value is not None]

    def _seen(self) -> list[Any]:
        return [] if self._newest is None else [self._newest]

    def _is_ahead(self, value: Any, order: CursorOrder) -> bool:
        return self._stored is None or order.key(value) > order.key(self._stored)


def _raw_records(
    collection: DataCollection, records: list[Any]
) -> tuple[list[RawRecord], list[DeadLetter]]:
    kept: list[RawRecord] = []
    dead: list[DeadLetter] = []
    for record in records:
        if _is_excluded(collection, record):
            continue
        external_id = _external_id(collection, record)
        if external_id is None:
            reason = f"the record has no id at {collection.id}"
            value = json.dumps(record, ensure_ascii=False, default=str)
            dead.append(DeadLetter("pull", collection.key, _digest(value), "id", reason, value))
        else:
            kept.append(_raw_record(collection, external_id, record))
    return kept, dead


def _raw_record(
    collection: DataCollection, external_id: str, record: Mapping[str, Any]
) -> RawRecord:
    payload = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    ignored = collection.ignored_fields
    content = {k: v for k, v in record.items() if k not in ignored} if ignored else record
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return RawRecord(external_id, payload, _digest(canonical), _is_tombstone(collection, record))


def _external_id(collection: DataCollection, record: Any) -> str | None:
    if not isinstance(record, dict):
        return None
    found = evaluate({"$var": collection.id}, record)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        return None
    return str(found)


def _is_tombstone(collection: DataCollection, record: Mapping[str, Any]) -> bool:
    formula = collection.deletes.tombstone
    if formula is None:
        return False
    value = evaluate(formula, record)
    return value is not MISSING and bool(value)


def _is_excluded(collection: DataCollection, record: Any) -> bool:
    cursor = collection.list_.cursor if collection.list_ else None
    if cursor is None or cursor.nulls != "exclude" or not isinstance(record, dict):
        return False
    return CursorOrder(cursor).value(record) is None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
