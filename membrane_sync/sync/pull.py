"""1 pull: external records, one batch a page, each with the cursor it may be committed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, Literal, Protocol

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.formulas.locators import reader
from membrane_sync.records import Answer, Batch, Call, DeadLetter, RawRecord, RawRecords, Texts
from membrane_sync.sync.checkpoint import Checkpoints
from membrane_sync.sync.collection import Bounds, Listing, Step
from membrane_sync.sync.conditional import Condition
from membrane_sync.sync.cursor import CursorOrder
from membrane_sync.sync.heads import Heads, only_name
from membrane_sync.sync.page import Page, read_page, to_be_cut
from membrane_sync.sync.paging import total_records
from membrane_sync.sync.raw import json_text, whole_text
from membrane_sync.sync.rendering import Functions
from membrane_sync.sync.resume import Trail
from membrane_sync.sync.source import Source

Mode = Literal["incremental", "full"]


@dataclass(frozen=True)
class Reading:
    """What to read: a collection, from a stored cursor on, into a stream of the lake.

    `full` reads all of it, whatever the cursor; `scan` then names the scan, and `deletes` says that
    what it doesn't see is gone. A `part` of a stream has a cursor of its own. Within `bounds`, what
    has a time between them is read, and no cursor moves. `functions` are those that requests may
    name. `asked` is the cursor to ask from where it isn't the one that `cursor` says, and
    `started_at` when the reading began, if that wasn't now.
    """

    collection: DataCollection
    stream: str
    scope: Mapping[str, Any] = field(default_factory=dict)
    cursor: Any = None
    full: bool = False
    run_id: str = ""
    scan: str = ""
    deletes: bool = True
    part: str = ""
    bounds: Bounds | None = None
    functions: Functions = field(default_factory=dict)
    asked: Any = None
    started_at: datetime | None = None


@dataclass(frozen=True)
class Pulled:
    """One page: how many records the app sent, and the batch to store.

    Not `named` if one of them has no id, or the answer was skipped: then nobody can say which
    records didn't come. `stored` if the lake has it already, from before a reading was cut off;
    `skipped` if an error rule passed over the answer. `total` is how many records the app says the
    list has, 0 if it doesn't.
    """

    received: int
    batch: Batch
    named: bool = True
    stored: bool = False
    total: int = 0
    skipped: bool = False


class Sender(Protocol):
    """What answers calls, as `ports.Api` does."""

    def send(self, call: Call) -> Answer:
        """The app's good answer."""
        ...


def pull(
    reading: Reading,
    api: Sender,
    trail: Trail | None = None,
    condition: Condition | None = None,
    mark: Callable[[Any], Any] = lambda value: value,
) -> Iterator[Pulled]:
    """Read the collection to its end; storing each batch before asking for the next is safe.

    A record that comes again in the same state is dropped: right after, because an inclusive cursor
    brings the boundary twice, or while records that share a cursor value are read again. With a
    `trail`, the reading can be gone on with after a crash. With a `condition`, there are no pages
    if the app says that it's met. `mark` makes of each cursor what is to be stored.
    """
    collection = reading.collection
    source = Source(collection, reading.functions)
    checkpoints = Checkpoints(
        collection,
        cursor=reading.cursor,
        full=reading.full,
        bounds=reading.bounds,
        now=reading.started_at,
        asked=reading.asked,
    )
    known_below = checkpoints.read_below if reading.scan else None
    taker = _Taker(collection, checkpoints, scanning=_deletes(reading), known_below=known_below)
    steps = checkpoints.steps(reading.scope, reading.functions)
    step = next(steps, None)
    echo, again = Echo(), False
    while step is not None:
        call = step.call
        kept = trail.answer(call) if trail else None
        sent = condition.put_on(call) if condition else call
        answer = kept or api.send(to_be_cut(source, sent))
        if condition and condition.is_met(answer):
            return
        page = read_page(source, answer)
        step = _next(steps, page)
        if condition:
            condition.saw(call, answer, last=step is None)
        if trail and step:
            trail.keep(call, answer, step.base)
        elif trail:
            trail.last()
        taken = taker.take(page)
        fresh = echo.fresh(taken.kept, again)
        again = step is not None and step.again
        name, pages = trail.place if trail else ("", 0)
        batch = Batch(
            reading.stream,
            fresh,
            mark(checkpoints.after(page.heads, step)),
            reading.run_id,
            reading.scan if _deletes(reading) else "",
            taken.dead,
            collection.ignored_fields,
            name,
            pages,
            reading.part,
            taken.known,
        )
        stored = trail is not None and trail.is_stored
        named = taken.named and not answer.skipped
        yield Pulled(
            taken.received(fresh),
            batch,
            named,
            stored,
            total_records(source.method.pagination, page.scope),
            answer.skipped,
        )


def _deletes(reading: Reading) -> bool:
    return bool(reading.scan) and reading.deletes


class Echo:
    """Knows records that came before in the same state; its memory is a page, or a tie."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._pages: list[RawRecords] = []

    def fresh(self, records: Sequence[RawRecord], again: bool) -> RawRecords:
        """Those that are new; `again` as the page's step says of it."""
        found = RawRecords.of(records)
        ids, known = {*found.ids}, self._ids
        fresh = found if ids.isdisjoint(known) else _without_echoes(found, self._pages)
        self._ids = known | ids if again else ids
        self._pages = [*self._pages, fresh] if again else [found]
        return fresh


def _without_echoes(found: RawRecords, before: Sequence[RawRecords]) -> RawRecords:
    """Those whose id didn't come on the pages before, or in another state."""
    known = {name: text for page in before for name, text in _states(page)}
    states = dict(_states(found))
    twice = [name for name in states if name in known]
    was, now = Texts([known[name] for name in twice]), Texts([states[name] for name in twice])
    told = {name for name, one, two in zip(twice, was, now, strict=True) if one == two}
    if len(states) == len(found) and told == {*found.ids[: len(told)]}:
        return found[len(told) :]  # as nearly always: it's the page's beginning, if any
    return found.at([at for at, name in enumerate(found.ids) if name not in told])


def _states(records: RawRecords) -> Iterator[tuple[str, Any]]:
    return zip(records.ids, records.payloads.pieces, strict=True)


def _next(steps: Listing, page: Page) -> Step | None:
    try:
        return steps.send(page)
    except StopIteration:
        return None


@dataclass
class _Taken:
    """What became of one page's records: kept or not, each is accounted for by its id."""

    kept: Sequence[RawRecord] = ()
    dead: list[DeadLetter] = field(default_factory=list)
    named: bool = True
    known: list[str] = field(default_factory=list)
    """Ids of records that the cursor had passed: what's new of them, it missed."""

    def received(self, fresh: Sequence[RawRecord]) -> int:
        if not self.dead:
            return len(fresh)
        ids = {raw.external_id for raw in self.kept}
        return len(fresh) + sum(letter.external_id not in ids for letter in self.dead)


class _BadRecordError(ValueError):
    """A record that can't be kept; it goes to the dead letters, the rest goes on."""

    def __init__(self, reason: str, field: str, external_id: str = "") -> None:
        super().__init__(reason)
        self.field = field
        self.external_id = external_id


class _Taker:
    """Takes records out of pages, each with its id; `scanning` for a full scan with deletions."""

    def __init__(
        self,
        collection: DataCollection,
        checkpoints: Checkpoints,
        *,
        scanning: bool,
        known_below: Any = None,
    ) -> None:
        self._known_below = known_below
        self._collection = collection
        self._wants = checkpoints.wants if checkpoints.chooses else None
        self._scanning = scanning
        self._id = reader(collection.id)
        self._id_field = only_name(collection.id)
        cursor = collection.list_.cursor if collection.list_ else None
        self._cursor = cursor
        self._order = CursorOrder(cursor) if cursor and not cursor.is_delta else None

    def take(self, page: Page) -> _Taken:
        return self._at_once(page) or self._one_by_one(page)

    def _at_once(self, page: Page) -> _Taken | None:
        """All records of a page by the field; None where one needs a look of its own."""
        heads, texts = page.heads, page.texts
        if not isinstance(heads, Heads) or texts is None or self._wants or self._id_field is None:
            return None
        values = self._order.all_values(heads) if self._order else None
        ids = _texts_of(heads.column(self._id_field))
        if ids is None or (self._order and values is None):
            return None
        try:
            gone = self._tombstones(heads)
        except FormulaError:
            return None
        taken = _Taken(RawRecords(ids, texts, gone))
        if self._known_below is not None and values is not None:
            keys = zip(ids, values.keys, strict=True)
            taken.known = [name for name, key in keys if key < self._known_below]
        return taken

    def _tombstones(self, heads: Heads) -> list[int]:
        if self._collection.deletes.tombstone is None:
            return []
        return [position for position, head in enumerate(heads) if self._is_tombstone(head)]

    def _one_by_one(self, page: Page) -> _Taken:
        taken, kept = _Taken(), list[RawRecord]()
        texts: Iterable[str | None] = page.texts or repeat(None, len(page.heads))
        for head, text in zip(page.heads, texts, strict=True):
            if self._wants is not None and not self._wants(head):
                continue
            try:
                excluded = self._is_excluded(head)
                if excluded and not self._scanning:
                    continue
                raw = self._record(head, text)
                if excluded:
                    # The scan must know that it's still there; a dead letter says so, and keeps it
                    # out.
                    reason = "it has no value there, and the cursor's `nulls` is exclude"
                    raise _BadRecordError(reason, self._cursor_name, raw.external_id)
                kept.append(raw)
                if self._known_below is not None and self._is_below(head):
                    taken.known.append(raw.external_id)
                taken.dead += self._cursor_faults(head, raw)
            except _BadRecordError as bad:
                taken.named = taken.named and bool(bad.external_id)
                taken.dead.append(self._dead_letter(head, text, bad))
        taken.kept = kept
        return taken

    def _record(self, head: Any, text: str | None) -> RawRecord:
        external_id = self._external_id(head)
        try:
            return RawRecord(external_id, text or json_text(head), self._is_tombstone(head))
        except FormulaError as error:
            reason = f"its tombstone can't be read: {error}"
            raise _BadRecordError(reason, "", external_id) from None
        except RecursionError:
            reason = "it's nested too deep to be kept"
            raise _BadRecordError(reason, "", external_id) from None
        except ValueError:
            reason = "a number in it is NaN or infinite, which JSON can't hold"
            raise _BadRecordError(reason, "", external_id) from None

    def _external_id(self, head: Any) -> str:
        found = self._id(head) if isinstance(head, dict) else MISSING
        if type(found) is str and found and found.isascii():
            return found
        if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
            where = self._collection.id
            reason = f"the record has no id at {where}; a full scan with it deletes nothing"
            raise _BadRecordError(reason, "id")
        return whole_text(str(found))

    def _is_tombstone(self, head: Mapping[str, Any]) -> bool:
        formula = self._collection.deletes.tombstone
        if formula is None:
            return False
        value = evaluate(formula, head)
        return value is not MISSING and bool(value)

    def _is_below(self, head: Any) -> bool:
        """Whether the record's value is one that the cursor had passed."""
        value = self._order.value(head) if self._order else None
        return value is not None and bool(self._order.key(value) < self._known_below)  # type: ignore[union-attr]

    def _is_excluded(self, head: Any) -> bool:
        if self._cursor is None or self._cursor.nulls != "exclude" or self._order is None:
            return False
        return isinstance(head, dict) and self._order.found(head) is None

    def _cursor_faults(self, head: Any, raw: RawRecord) -> list[DeadLetter]:
        """A dead letter where the cursor can't move to the record's value; the record is kept."""
        reason = self._order.fault(head) if self._order else ""
        if not reason or self._order is None:
            return []
        value = whole_text(str(self._order.found(head)))
        key, name = self._collection.key, self._cursor_name
        return [DeadLetter("pull", key, raw.external_id, name, reason, value)]

    def _dead_letter(self, head: Any, text: str | None, bad: _BadRecordError) -> DeadLetter:
        try:
            value = text or whole_text(json.dumps(head, ensure_ascii=False, default=str))
        except RecursionError:
            value = ""
        external_id = bad.external_id or _digest(value)
        key = self._collection.key
        return DeadLetter("pull", key, external_id, bad.field, str(bad), value)

    @property
    def _cursor_name(self) -> str:
        return self._order.name.removeprefix("$.") if self._order else ""


def _texts_of(ids: list[Any] | None) -> list[str] | None:
    """Ids as texts, if all are numbers, or plain texts that aren't empty."""
    kinds = set(map(type, ids or ()))
    if ids and kinds == {int}:
        return [*map(str, ids)]
    return ids if ids and kinds == {str} and all(ids) and "".join(ids).isascii() else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
