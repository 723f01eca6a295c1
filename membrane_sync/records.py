"""The plain values the verbs hand to one another; nothing here does any work."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple, overload

Record = Mapping[str, Any]
"""One record as the external app sent it."""

ChangeKind = Literal["created", "updated", "deleted"]


@dataclass(frozen=True)
class Call:
    """One request to the external app, described and not yet sent.

    `url` is a path below the connector's base URL, or an absolute URL which the app itself gave.
    `errors` are the request's own rules (`elements.request.ErrorRule`), tried before the
    connector's. `cut` is how the caller reads a good answer's JSON; it raises ValueError or
    RecursionError where that isn't as it should be. Whoever sends the call may cut the answer to
    see that it's whole, so that it's gone over once.
    """

    method: str
    url: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    errors: Sequence[Any] = ()
    cut: Callable[[bytes], Any] | None = field(default=None, compare=False, repr=False)


class Answer:
    """What the external app answered; header names are in lower case, `url` is without query.

    `content` is the body's JSON text in UTF-8 where it is JSON that any reader takes the same way,
    else empty; then only `body` has it. `body` is read from the text when it's first asked for.
    `skipped` if an error rule says to pass over it: it stands for an answer without records.
    `parts` is what the call's `cut` made of the content, None if that wasn't tried or failed.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: Any = None,
        url: str = "",
        *,
        content: bytes = b"",
        read: Callable[[bytes], Any] | None = None,
        skipped: bool = False,
        parts: Any = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self.content = content
        self.skipped = skipped
        self.parts = parts
        self._given = body
        self._read = read

    @cached_property
    def body(self) -> Any:
        """The body as plain values."""
        return self._read(self.content) if self._read else self._given


@dataclass(frozen=True)
class RawRequest:
    """A request that somebody else wrote, to be sent as it is; `path` is still encoded."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Sequence[tuple[str, str]] = ()
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class RawAnswer:
    """An app's answer as it came; `pieces` of its body are read from the app as they're taken.

    `close` it, whether all of them were taken or not.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    pieces: Iterator[bytes]
    close: Callable[[], None]


class RawRecord(NamedTuple):
    """One record on its way into the lake; `payload` is its JSON text."""

    external_id: str
    payload: str
    deleted: bool = False


class Texts(Sequence[str]):
    """Texts of which each is decoded only when it's asked for.

    They're `pieces`, each a text or UTF-8, or `packed` end to end.
    """

    def __init__(self, pieces: list[Any]) -> None:
        self._pieces: list[Any] | None = pieces
        self.end_to_end: tuple[memoryview, array[int]] | None = None
        """UTF-8 of all, and where each begins, and the last one ends; None unless `packed`."""

    @classmethod
    def packed(cls, data: memoryview, ends: array[int]) -> Texts:
        """Those in `data`, UTF-8, of which each begins where the one before it ends.

        `ends` has 64-bit integers, the first of them 0.
        """
        texts = cls([])
        texts._pieces, texts.end_to_end = None, (data, ends)
        return texts

    @property
    def pieces(self) -> list[Any]:
        """Each text as it's held."""
        if self._pieces is None:
            assert self.end_to_end is not None
            data, ends = self.end_to_end
            self._pieces = [data[start:end] for start, end in pairwise(ends)]
        return self._pieces

    @property
    def size(self) -> int:
        """How long they are together, in bytes or characters."""
        return self.end_to_end[1][-1] if self.end_to_end else sum(map(len, self.pieces))

    def __len__(self) -> int:
        return len(self.end_to_end[1]) - 1 if self.end_to_end else len(self.pieces)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Texts: ...
    def __getitem__(self, at: int | slice) -> str | Texts:
        if isinstance(at, slice):
            return Texts(self.pieces[at])
        piece = self.pieces[at]
        return piece if isinstance(piece, str) else str(piece, "utf-8")


class RawRecords(Sequence[RawRecord]):
    """Raw records by the column, for those who take them so; others see one at a time.

    `gone` are the positions of deleted ones.
    """

    def __init__(self, ids: list[str], payloads: Texts, gone: Collection[int] = ()) -> None:
        self.ids = ids
        self.payloads = payloads
        self.gone = frozenset(gone)

    @classmethod
    def of(cls, records: Sequence[RawRecord]) -> RawRecords:
        """The same records by the column."""
        if isinstance(records, RawRecords):
            return records
        gone = [position for position, record in enumerate(records) if record.deleted]
        payloads: list[Any] = [record.payload for record in records]
        return cls([record.external_id for record in records], Texts(payloads), gone)

    def at(self, positions: Sequence[int]) -> RawRecords:
        """Those at these positions."""
        pieces = self.payloads.pieces
        return RawRecords(
            [self.ids[at] for at in positions],
            Texts([pieces[at] for at in positions]),
            [new for new, old in enumerate(positions) if old in self.gone] if self.gone else (),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> RawRecord: ...
    @overload
    def __getitem__(self, at: slice) -> RawRecords: ...
    def __getitem__(self, at: int | slice) -> RawRecord | RawRecords:
        if isinstance(at, slice):
            if self.gone:
                return self.at(range(len(self))[at])
            return RawRecords(self.ids[at], self.payloads[at])
        position = range(len(self))[at]
        return RawRecord(self.ids[at], self.payloads[at], position in self.gone)


@dataclass(frozen=True)
class DeadLetter:
    """One record, or one field of it, that a verb could not take; the rest went on.

    `value` is kept in the lake, for the one who mends it; it never goes to logs or Dagster.
    """

    verb: str
    element: str
    external_id: str
    field: str
    reason: str
    value: str = ""
    formula: str = ""


@dataclass(frozen=True)
class Partition:
    """How far the list below one parent was read.

    `cursor` is the next to ask from, None to ask for all; `began` the one that the `reading` began
    with, of which `pages` are committed; `done` if it was read to its end. `seq` is the change of
    the parent that it was read after.
    """

    parent: str
    cursor: Any = None
    began: Any = None
    reading: str = ""
    pages: int = 0
    done: bool = False
    seq: int = 0


@dataclass(frozen=True)
class Mark:
    """The newest event that was applied to a record: its number, and when it happened, if said.

    `at` is when it was applied, in seconds since 1970, and `asked_at` when the app was last asked
    for the record on account of one: what happened before may be in its answer.
    """

    external_id: str
    event: int
    occurred_at: float | None = None
    at: float = 0.0
    asked_at: float | None = None


@dataclass(frozen=True)
class Known:
    """What the lake has of a record: how it was last seen, and when that changed.

    Of a deleted one it's how it was before, if that's kept. `mark` is of the events that were
    applied to it.
    """

    payload: str = ""
    deleted: bool = True
    changed_at: float = 0.0
    mark: Mark | None = None


@dataclass(frozen=True)
class Batch:
    """One page of a pull: what the lake commits in one transaction, cursor included.

    `cursor` None leaves the stored cursor where it is. `scan` names the full scan this page is part
    of, so that its records are marked as seen. A change of the `ignored` fields alone is no change.
    `pages` of the `reading` are committed once this batch is. A `part` of the stream has a cursor
    of its own, and its tombstones count once. `known` are ids of records that the cursor had
    passed. `partitions` are how far the lists below these parents were read with it.
    """

    stream: str
    records: Sequence[RawRecord]
    cursor: Any = None
    run_id: str = ""
    scan: str = ""
    dead_letters: Sequence[DeadLetter] = ()
    ignored: Sequence[str] = ()
    reading: str = ""
    pages: int = 0
    part: str = ""
    known: Sequence[str] = ()
    parents: Sequence[str] = ()
    """Below a parent: the parent's id of each of the records, in their order."""
    partitions: Sequence[Partition] = ()
    marks: Sequence[Mark] = ()
    """Of events: then the records are no page, and a full scan that's under way saw them, too."""


@dataclass(frozen=True)
class Level:
    """A collection above another one: its stream, and which fields of its records are needed.

    None for whole records.
    """

    stream: str
    fields: Sequence[str] | None = None


@dataclass(frozen=True)
class Parent:
    """A record to read the list below of: `records` are its JSON and that of each one above it.

    `partition` is how far that was read, None if it never was; `seq` its latest change.
    """

    id: str
    records: Sequence[str]
    partition: Partition | None = None
    seq: int = 0


@dataclass(frozen=True)
class StoreCounts:
    """What one stored batch changed in the lake, in records."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    missed: int = 0

    def __add__(self, other: StoreCounts) -> StoreCounts:
        return StoreCounts(
            self.created + other.created,
            self.updated + other.updated,
            self.deleted + other.deleted,
            self.unchanged + other.unchanged,
            self.failed + other.failed,
            self.missed + other.missed,
        )

    @property
    def written(self) -> int:
        """Rows written: created, updated and deleted together."""
        return self.created + self.updated + self.deleted


@dataclass(frozen=True)
class Change:
    """One entry of the change feed with the record's present payload; None if it's deleted."""

    seq: int
    external_id: str
    kind: ChangeKind
    payload: str | None


@dataclass(frozen=True)
class Offset:
    """How far a reader of a feed has come; `version` is a hash of what it does with the entries."""

    consumer: str
    seq: int = 0
    version: str = ""


@dataclass(frozen=True)
class MappedRecord:
    """One mapped record; `value` is JSON text in the shape of the data schema, None if deleted."""

    external_id: str
    value: str | None
    hash: str
    seq: int = 0


@dataclass(frozen=True)
class MappedCounts:
    """What one mapped batch changed, in records."""

    mapped: int = 0
    unchanged: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class Link:
    """One external record and the product's record that it corresponds to."""

    external_id: str
    app_id: str
    external_hash: str = ""
    app_hash: str = ""
    base: str | None = None
    direction: str = "import"


@dataclass(frozen=True)
class LinkKey:
    """Which links are meant: the table, and the instance of it on this connection."""

    table: str
    instance_key: str = "default"
    direction: str = "import"


@dataclass(frozen=True)
class Delivery:
    """One record for the product's database: `app_id` is its key there, `values` its columns.

    `values` None asks for the row's deletion.
    """

    external_id: str
    app_id: str
    values: Mapping[str, Any] | None
    hash: str = ""
    seq: int = 0


@dataclass
class Report:
    """What one sync did, in records; the numbers people see in the CLI and in Dagster."""

    sync: str = ""
    integration: str = ""
    connection: str = ""
    requests: int = 0
    pages: int = 0
    pulled: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    mapped: int = 0
    linked: int = 0
    unlinked: int = 0
    delivered: int = 0
    removed: int = 0
    failed: int = 0
    missed: int = 0
    """Records that a full scan found new or changed, though the cursor had passed them."""
    skipped: int = 0
    """Answers that an error rule passed over."""
    not_modified: int = 0
    """Lists of which the app said that nothing has changed, and sent none of it."""
    total: int = 0
    """How many records the app said the list has; 0 if it doesn't say."""
    seconds: float = 0.0
    cursor_from: str = ""
    cursor_to: str = ""
    dropped_fields: list[str] = field(default_factory=list)
    """Names of fields that a mapping gives and its schema doesn't take; never their values."""
    warnings: list[str] = field(default_factory=list)
    """What didn't go as it should, and didn't stop the sync; never values of records."""

    @property
    def written(self) -> int:
        """Rows written anywhere: in the lake, or in the product's database."""
        return (
            self.created + self.updated + self.deleted + self.mapped + self.delivered + self.removed
        )
