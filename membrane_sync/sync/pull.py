"""1 pull: external records, one batch a page, each with the cursor it may be committed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports import Api
from membrane_sync.records import Answer, Batch, DeadLetter, RawRecord
from membrane_sync.sync.checkpoint import Checkpoints
from membrane_sync.sync.collection import Bounds, End, Step, records_in
from membrane_sync.sync.cursor import CursorOrder
from membrane_sync.sync.rendering import Functions

Mode = Literal["incremental", "full"]


@dataclass(frozen=True)
class Reading:
    """What to read: a collection, from a stored cursor on, into a stream of the lake.

    `full` reads all of it, whatever the cursor; `scan` then names the scan, if what it doesn't see
    is to be deleted. Within `bounds`, what has a time between them is read, and no cursor moves.
    `functions` are those that requests may name.
    """

    collection: DataCollection
    stream: str
    scope: Mapping[str, Any] = field(default_factory=dict)
    cursor: Any = None
    full: bool = False
    run_id: str = ""
    scan: str = ""
    bounds: Bounds | None = None
    functions: Functions = field(default_factory=dict)


@dataclass(frozen=True)
class Pulled:
    """One page: how many records the app sent, and the batch to store.

    Not `named` if one of them has no id: then nobody can say which records didn't come.
    """

    received: int
    batch: Batch
    named: bool = True


def pull(reading: Reading, api: Api) -> Iterator[Pulled]:
    """Read the collection to its end; storing each batch before asking for the next is safe.

    A record that comes again in the same state is dropped: right after, because an inclusive cursor
    brings the boundary twice, or while records that share a cursor value are read again.
    """
    collection = reading.collection
    checkpoints = Checkpoints(
        collection, cursor=reading.cursor, full=reading.full, bounds=reading.bounds
    )
    steps = checkpoints.steps(reading.scope, reading.functions)
    step = next(steps, None)
    echo, again = Echo(), False
    while step is not None:
        answer = api.send(step.call)
        records = records_in(collection, answer)
        step = _next(steps, answer)
        wanted = [record for record in records if checkpoints.wants(record)]
        taken = _taken(collection, wanted, scanning=bool(reading.scan))
        fresh = echo.fresh(taken.kept, again)
        again = step is not None and step.again
        cursor = checkpoints.after(records, step)
        batch = Batch(reading.stream, fresh, cursor, reading.run_id, reading.scan, taken.dead)
        yield Pulled(taken.received(fresh), batch, taken.named)


class Echo:
    """Knows records that came before in the same state; its memory is a page, or a tie."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    def fresh(self, records: list[RawRecord], again: bool) -> list[RawRecord]:
        """Those that are new; `again` as the page's step says of it."""
        states = {(raw.external_id, raw.hash) for raw in records}
        fresh = [raw for raw in records if (raw.external_id, raw.hash) not in self._known]
        self._known = self._known | states if again else states
        return fresh


def _next(steps: Generator[Step, Answer, End], answer: Answer) -> Step | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None


@dataclass
class _Taken:
    """What became of one page's records: kept or not, each is accounted for by its id."""

    kept: list[RawRecord] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    named: bool = True

    def received(self, fresh: list[RawRecord]) -> int:
        ids = {raw.external_id for raw in self.kept}
        return len(fresh) + sum(letter.external_id not in ids for letter in self.dead)


def _taken(collection: DataCollection, records: list[Any], *, scanning: bool) -> _Taken:
    taken = _Taken()
    for record in records:
        try:
            excluded = _is_excluded(collection, record)
            if excluded and not scanning:
                continue
            raw = _raw_record(collection, record)
            if excluded:
                # The scan must know that it's still there; a dead letter says so, and keeps it out.
                reason = "it has no value there, and the cursor's `nulls` is exclude"
                raise _BadRecordError(reason, _cursor_field(collection), raw.external_id)
            taken.kept.append(raw)
            taken.dead += _cursor_faults(collection, record, raw)
        except _BadRecordError as bad:
            taken.named = taken.named and bool(bad.external_id)
            taken.dead.append(_dead_letter(collection, record, bad))
    return taken


def _dead_letter(collection: DataCollection, record: Any, bad: _BadRecordError) -> DeadLetter:
    try:
        value = _whole_text(json.dumps(record, ensure_ascii=False, default=str))
    except RecursionError:
        value = ""
    external_id = bad.external_id or _digest(value)
    return DeadLetter("pull", collection.key, external_id, bad.field, str(bad), value)


def _cursor_faults(collection: DataCollection, record: Any, raw: RawRecord) -> list[DeadLetter]:
    """A dead letter where the cursor can't move to the record's value; the record is kept."""
    cursor = collection.list_.cursor if collection.list_ else None
    if cursor is None:
        return []
    order = CursorOrder(cursor)
    reason = order.fault(record)
    if not reason:
        return []
    value = _whole_text(str(order.found(record)))
    name = _cursor_field(collection)
    return [DeadLetter("pull", collection.key, raw.external_id, name, reason, value)]


def _cursor_field(collection: DataCollection) -> str:
    cursor = collection.list_.cursor if collection.list_ else None
    return cursor.field.removeprefix("$.") if cursor else ""


class _BadRecordError(ValueError):
    """A record that can't be kept; it goes to the dead letters, the rest goes on."""

    def __init__(self, reason: str, field: str, external_id: str = "") -> None:
        super().__init__(reason)
        self.field = field
        self.external_id = external_id


def _raw_record(collection: DataCollection, record: Any) -> RawRecord:
    external_id = _external_id(collection, record)
    if external_id is None:
        reason = f"the record has no id at {collection.id}; a full scan with it deletes nothing"
        raise _BadRecordError(reason, "id")
    try:
        payload = _json(record)
        content = {k: v for k, v in record.items() if k not in collection.ignored_fields}
        digest = _digest(_json(content, sort_keys=True))
        return RawRecord(external_id, payload, digest, _is_tombstone(collection, record))
    except FormulaError as error:
        raise _BadRecordError(f"its tombstone can't be read: {error}", "", external_id) from None
    except RecursionError:
        raise _BadRecordError("it's nested too deep to be kept", "", external_id) from None
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
    return CursorOrder(cursor).found(record) is None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
