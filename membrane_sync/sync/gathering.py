"""Pages that are committed together, as one batch, in memory that the next batch takes again.

Each page's texts are copied out of its answer, which is free from then on. To hold the answers
until the commit takes fresh memory for each, and fresh memory costs more than the copy: the system
clears it first. Measured at 0.4 µs a record of 500 bytes where the copy takes 0.07.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import accumulate, islice
from typing import Any

from membrane_sync.records import Batch, DeadLetter, Partition, RawRecords, Texts
from membrane_sync.sync.pull import Pulled


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep 16 MB of what is freed for what comes next, else it gives each answer's back.

    It does so once it has freed as much in one piece (mallopt(3), on its dynamic threshold).
    """
    bytearray(16 << 20)


class Gathering:
    """The pages since the last batch; `rows` and `size`, in bytes, are of those to be stored."""

    def __init__(self) -> None:
        _keep_freed_memory()
        self._buffer = BytesIO()
        self._begin()

    def _begin(self) -> None:
        self._last: Batch | None = None
        self._cursor: Any = None
        self._known: list[str] = []
        self._parents: list[str] = []
        self._partitions: dict[str, Partition] = {}
        self._ids: list[str] = []
        self._gone: list[int] = []
        self._ends = array("q", [0])
        self._letters: dict[str, dict[str, DeadLetter]] = {}
        self.received = 0
        self.is_named = True

    @property
    def rows(self) -> int:
        return len(self._ids)

    @property
    def size(self) -> int:
        return self._ends[-1]

    def add(self, page: Pulled) -> None:
        """Take a page; its records may be forgotten."""
        self.is_named = self.is_named and page.named
        if page.stored:
            return
        records = RawRecords.of(page.batch.records)
        self._take_letters(records.ids, page.batch.dead_letters)
        self._take(records)
        self._take_marks(page.batch)
        self.received += page.received

    def _take_letters(self, ids: Sequence[str], letters: Sequence[DeadLetter]) -> None:
        """Of a record that came on several pages, those of the last; one for each field."""
        if self._letters:
            for external_id in ids:
                self._letters.pop(external_id, None)
        of_page: dict[str, dict[str, DeadLetter]] = {}
        for letter in letters:
            of_page.setdefault(letter.external_id, {})[letter.field] = letter
        self._letters.update(of_page)

    def _take_marks(self, batch: Batch) -> None:
        """Of what isn't a record's own, the last page's stands for all."""
        self._last = batch
        if batch.cursor is not None:
            self._cursor = batch.cursor
        self._known += batch.known
        self._parents += batch.parents
        self._partitions.update({found.parent: found for found in batch.partitions})

    def _take(self, records: RawRecords) -> None:
        self._gone += [len(self._ids) + position for position in records.gone]
        self._ids += records.ids
        pieces = records.payloads.pieces
        try:
            self._buffer.writelines(pieces)
        except TypeError:
            pieces = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
            self._buffer.seek(self._ends[-1])
            self._buffer.writelines(pieces)
        self._ends.extend(islice(accumulate(map(len, pieces), initial=self._ends[-1]), 1, None))

    def batch(self) -> Batch | None:
        """What was gathered; None of nothing."""
        if self._last is None:
            return None
        texts = Texts.packed(self._buffer.getbuffer(), self._ends)
        return replace(
            self._last,
            records=RawRecords(self._ids, texts, self._gone),
            cursor=self._cursor,
            dead_letters=[one for letters in self._letters.values() for one in letters.values()],
            known=self._known,
            parents=self._parents,
            partitions=list(self._partitions.values()),
        )

    def clear(self) -> None:
        """Begin anew, in the same memory unless somebody still holds the last batch."""
        try:
            self._buffer.seek(0)
            self._buffer.write(b"")
        except BufferError:
            self._buffer = BytesIO()
        self._begin()
