"""The cursor that may be committed with each page, so that no crash or change can lose a record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from membrane_sync.elements.data_collection import Cursor, DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.sync.collection import Step
from membrane_sync.sync.cursor import CursorOrder, asked_from, safe_checkpoint


class Checkpoints:
    """The cursor while reading: it only moves forward, and never past what may still come.

    A full reading leaves a stored cursor where it is if deletions are known by tombstones: a list
    of what exists may show none, and moving on would skip those in between.
    """

    def __init__(
        self, collection: DataCollection, *, cursor: Any, full: bool, now: datetime | None = None
    ) -> None:
        method = collection.list_
        self._collection = collection
        self._cursor: Cursor | None = method.cursor if method else None
        self._order = CursorOrder(self._cursor, now) if self._cursor else None
        self._full = full
        self._stored = cursor
        shown = collection.deletes.tombstone is None
        self._moves = not full or cursor is None or shown
        self._newest: Any = None
        self._first = True

    def asked_from(self) -> Any:
        """The value to ask the app from; None to ask for all."""
        if self._cursor is None or self._full:
            return None
        return asked_from(self._cursor, self._stored)

    def after(self, records: list[Any], step: Step | None) -> Any:
        """The cursor to commit with a page, before the next step; None to leave the stored one."""
        if self._cursor is None or self._order is None or not self._moves:
            return None
        if step is not None and not step.settled:
            return None
        values = self._values(records, self._order)
        if self._cursor.sorted == "ascending":
            checkpoint = self._sorted(values, self._cursor, self._order, last=step is None)
        else:
            checkpoint = self._unsorted(values, self._order, last=step is None)
        if checkpoint is None or not self._is_ahead(checkpoint, self._order):
            return None
        self._stored = checkpoint
        return checkpoint

    def _sorted(self, values: list[Any], cursor: Cursor, order: CursorOrder, *, last: bool) -> Any:
        if last and self._newest is not None:
            values.append(self._newest)
        elif values:
            self._newest = order.newest([*values, *self._seen()])
        return safe_checkpoint(cursor, order, values, last=last)

    def _unsorted(self, values: list[Any], order: CursorOrder, *, last: bool) -> Any:
        """At the end, the newest value that no change made since the first answer can be below.

        A record that was read and then changes is missed by this reading, so the next one must
        still ask for it. What the first answer has is older than any such change; and so is, on
        later pages, what is older than our own clock was at the start, by more than clocks differ.
        """
        safe = values if self._first else [value for value in values if order.is_old(value)]
        self._first = False
        self._newest = order.newest([*safe, *self._seen()])
        return self._newest if last else None

    def _values(self, records: list[Any], order: CursorOrder) -> list[Any]:
        mine = [record for record in records if isinstance(record, dict)]
        nulls = any(order.found(record) is None for record in mine)
        if nulls and self._cursor is not None and self._cursor.nulls == "fail":
            raise UnexpectedAnswer(
                f"collection {self._collection.key!r}: a record has no {self._cursor.field}, "
                "and the cursor's `nulls` is fail"
            )
        return [value for record in mine if (value := order.value(record)) is not None]

    def _seen(self) -> list[Any]:
        return [] if self._newest is None else [self._newest]

    def _is_ahead(self, value: Any, order: CursorOrder) -> bool:
        return self._stored is None or order.key(value) > order.key(self._stored)
