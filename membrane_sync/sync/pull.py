"""1 pull: external records, one batch a page, each with the cursor it may be committed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from membrane_sync.elements.data_collection import Cursor, DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports import Api
from membrane_sync.records import Answer, Batch, DeadLetter, RawRecord
from membrane_sync.sync.collection import Step, listing, records_in
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
    steps = listing(collection, {**reading.scope, "cursor": progress.asked_from()})
    step = next(steps, None)
    previous: set[tuple[str, str]] = set()
    while step is not None:
        answer = api.send(step.call)
        records = records_in(collection, answer)
        step = _next(steps, answer)
        kept, dead = _raw_records(collection, records)
        fresh = [raw for raw in kept if (raw.external_id, raw.hash) not in previous]
        previous = {(raw.external_id, raw.hash) for raw in kept}
        cursor = progress.after(records, step)
        batch = Batch(reading.stream, fresh, cursor, reading.run_id, reading.scan, dead)
        yield Pulled(len(fresh) + len(dead), batch)


def _next(steps: Generator[Step, Answer, None], answer: Answer) -> Step | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None


class _Progress:
    """The cursor while reading: it only moves forward, and never past what may still come.

    A full reading leaves a stored cursor where it is if deletions are known by tombstones: a list
    of what exists may show none, and moving on would skip those in between.
    """

    def __init__(self, reading: Reading) -> None:
        method = reading.collection.list_
        self._collection = reading.collection
        self._cursor: Cursor | None = method.cursor if method else None
        self._order = CursorOrder(self._cursor) if self._cursor else None
        self._full = reading.full
        self._stored = reading.cursor
        shown = reading.collection.deletes.tombstone is None
        self._moves = not reading.full or reading.cursor is None or shown
        self._newest: Any = None

    def asked_from(self) -> Any:
        if self._cursor is None or self._full:
            return None
        return asked_from(self._cursor, self._stored)

    def after(self, records: list[Any], step: Step | None) -> Any:
        """The cursor to commit with a page, before the next step; None to leave the stored one."""
        if self._cursor is None or self._order is None or not self._moves:
            return None
        if step is not None and not step.settled:
            return None
        last = step is None
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
        try:
            kept.append(_raw_record(collection, record))
        except _BadRecordError as bad:
            value = _whole_text(json.dumps(record, ensure_ascii=False, default=str))
            external_id = bad.external_id or _digest(value)
            letter = DeadLetter("pull", collection.key, external_id, bad.field, str(bad), value)
            dead.append(letter)
    return kept, dead


class _BadRecordError(ValueError):
    """A record that can't be kept; it goes to the dead letters, the rest goes on."""

    def __init__(self, reason: str, field: str, external_id: str = "") -> None:
        super().__init__(reason)
        self.field = field
        self.external_id = external_id


def _raw_record(collection: DataCollection, record: Any) -> RawRecord:
    external_id = _external_id(collection, record)
    if external_id is None:
        raise _BadRecordError(f"the record has no id at {collection.id}", "id")
    try:
        payload = _json(record)
        content = {k: v for k, v in record.items() if k not in collection.ignored_fields}
        digest = _digest(_json(content, sort_keys=True))
        return RawRecord(external_id, payload, digest, _is_tombstone(collection, record))
    except FormulaError as error:
        raise _BadRecordError(f"its tombstone can't be read: {error}", "", external_id) from None
    except ValueError:
        reason = "a number in it is NaN or infinite, which JSON can't hold"
        raise _BadRecordError(reason, "", external_id) from None


def _json(value: Any, *, sort_keys: bool = False) -> str:
    text = json.dumps(
        value, sort_keys=sort_keys, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return _whole_text(text)


def _whole_text(text: str) -> str:
    """The text with a replacement character for each half of a character, which no store takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _external_id(collection: DataCollection, record: Any) -> str | None:
    if not isinstance(record, dict):
        return None
    found = evaluate({"$var": collection.id}, record)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        return None
    return _whole_text(str(found))


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
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
