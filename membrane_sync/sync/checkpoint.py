"""The cursor that may be committed with each page, so that no crash or change can lose a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from membrane_sync.elements.cursor import Cursor
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.sync.collection import Bounds, End, Listing, Step, listing
from membrane_sync.sync.cursor import CursorOrder, asked_from, safe_checkpoint
from membrane_sync.sync.rendering import Functions, Scope
from membrane_sync.sync.settling import Settling


class Checkpoints:
    """The cursor while reading: it only moves forward, and never past what may still come.

    A full reading leaves a stored cursor where it is if deletions are known by tombstones: a list
    of what exists may show none, and moving on would skip those in between. Within `bounds`, the
    cursor doesn't move at all. `now` is when the reading began, and `asked` what it asked from, if
    it's one that is gone on with.
    """

    def __init__(
        self,
        collection: DataCollection,
        *,
        cursor: Any,
        full: bool,
        bounds: Bounds | None = None,
        now: datetime | None = None,
        asked: Any = None,
    ) -> None:
        method = collection.list_
        now = now or datetime.now(UTC)
        self._collection = collection
        self._cursor: Cursor | None = method.cursor if method else None
        valued = self._cursor is not None and not self._cursor.is_delta
        self._order = CursorOrder(self._cursor, now) if self._cursor and valued else None
        self._settling = Settling.of(self._cursor, cursor, now)
        self._full = full
        self._bounds = bounds
        self._stored = self._settling.fast if self._settling else cursor
        shown = collection.deletes.tombstone is None
        self._moves = bounds is None and (not full or cursor is None or shown)
        self._newest: Any = None
        self._first = True
        self._end = End()
        self._now = now
        self._asked = self._asked_from() if asked is None else asked

    def steps(self, scope: Scope, functions: Functions | None = None) -> Listing:
        """The listing from `asked_from` on; how it ends is noted for the last checkpoint."""
        seen: Mapping[str, Any] = {**scope, "cursor": self._asked}
        if self._cursor is not None and self._cursor.filtered_by == "client":
            seen = {**scope, "cursor": None, "filter_from": self._asked}
        self._end = yield from listing(self._collection, seen, self._bounds, functions, self._now)
        return self._end

    def asked_from(self) -> Any:
        """The value to ask the app from; None to ask for all."""
        return self._asked

    def _asked_from(self) -> Any:
        if self._cursor is None or self._full or self._bounds is not None:
            return None
        stored = self._settling.asked if self._settling else self._stored
        return asked_from(self._cursor, stored)

    @property
    def read_below(self) -> Any:
        """The order key below which all was read before; None if nothing was.

        What the declared lag reaches back over isn't: that is still to be asked for.
        """
        if self._order is None or self._cursor is None or self._stored is None:
            return None
        return self._order.key(asked_from(self._cursor, self._stored))

    @property
    def chooses(self) -> bool:
        """Whether there may be records that `wants` leaves out."""
        client = self._cursor is not None and self._cursor.filtered_by == "client"
        return self._bounds is not None or client

    def wants(self, record: Any) -> bool:
        """Whether a record is meant: within the bounds, and not older where we do the filtering."""
        if self._order is None or self._cursor is None or not isinstance(record, dict):
            return True
        value = self._order.value(record)
        if value is None:
            return True
        key = self._order.key(value)
        filtered = self._cursor.filtered_by == "client" and self._asked is not None
        if filtered and key < self._order.key(self._asked):
            return False
        if self._bounds is None or not self._cursor.is_time:
            return True
        moment = self._order.notation.moment(value)
        since, until = self._bounds.since, self._bounds.until
        return (since is None or moment >= since) and (until is None or moment < until)

    def after(self, records: Sequence[Any], step: Step | None) -> Any:
        """The cursor to commit with a page, before the next step; None to leave the stored one."""
        if self._cursor is None or not self._moves:
            return None
        if self._order is None:
            return self._end.token if step is None else None
        if step is not None and not step.settled:
            return None
        moved = self._moved(records, step, self._cursor, self._order)
        if self._settling is None:
            return moved
        return self._settling.state(self._stored, moved=moved is not None, last=step is None)

    def _moved(
        self, records: Sequence[Any], step: Step | None, cursor: Cursor, order: CursorOrder
    ) -> Any:
        values = self._values(records, order)
        if cursor.sorted == "ascending":
            checkpoint = self._sorted(values, cursor, order, last=step is None)
        elif cursor.slices is None:
            checkpoint = self._unsorted(values, order, last=step is None)
        else:
            checkpoint = None
        moved = None
        for value in (checkpoint, self._reached(step, order)):
            if value is not None and self._is_ahead(value, order):
                self._stored = moved = value
        return moved

    def _reached(self, step: Step | None, order: CursorOrder) -> Any:
        """The end of a window that was read to it, as a value of the cursor."""
        reached = self._end.reached if step is None else step.reached
        return None if reached is None else order.notation.stored(reached)

    def _sorted(self, values: list[Any], cursor: Cursor, order: CursorOrder, *, last: bool) -> Any:
        if last and self._newest is not None:
            values = [*values, self._newest]
        elif values:
            self._newest = order.newest([order.newest(values), *self._seen()])
        return safe_checkpoint(cursor, order, values, last=last)

    def _unsorted(self, values: list[Any], order: CursorOrder, *, last: bool) -> Any:
        """At the end, the newest value that no change made since the first answer can be below.

        A record that was read and then changes is missed by this reading, so the next one must
        still ask for it. What the first answer has is older than any such change; and so is, on
        later pages, what is older than our own clock was at the start, by more than clocks differ.
        """
        all_safe = self._first or (values and order.is_old(order.newest(values)))
        safe = values if all_safe else [value for value in values if order.is_old(value)]
        self._first = False
        newest = [order.newest(safe)] if safe else []
        self._newest = order.newest([*newest, *self._seen()])
        return self._newest if last else None

    def _values(self, records: Sequence[Any], order: CursorOrder) -> list[Any]:
        values = order.all_values(records)
        if values is not None:
            return values
        mine = [record for record in records if isinstance(record, dict)]
        nulls = any(order.found(record) is None for record in mine)
        if nulls and self._cursor is not None and self._cursor.nulls == "fail":
            raise UnexpectedAnswer(
                f"collection {self._collection.key!r}: a record has no {order.name}, "
                "and the cursor's `nulls` is fail"
            )
        return [value for record in mine if (value := order.value(record)) is not None]

    def _seen(self) -> list[Any]:
        return [] if self._newest is None else [self._newest]

    def _is_ahead(self, value: Any, order: CursorOrder) -> bool:
        return self._stored is None or order.key(value) > order.key(self._stored)
