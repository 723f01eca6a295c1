"""The records of one collection: what anybody sees of them now, and what they will be."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Any

from membrane_sync.testing.simulator.content import id_of, mix, number_of, record_text, with_fields
from membrane_sync.testing.simulator.order import ChangeOrder, Holed, Key
from membrane_sync.testing.simulator.switches import Collection
from membrane_sync.testing.simulator.times import Clockface


@dataclass(frozen=True)
class Row:
    """A record's state; `updated` is None where it never had a time of change."""

    created: int
    updated: int | None
    revision: int = 0
    deleted: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


class Table:
    """Records by number; only those that were changed are held.

    What is written is `future` at once, and is seen when its delay is over: that is how eventual
    consistency makes records late.
    """

    def __init__(self, spec: Collection, count: int, seed: int, start: int) -> None:
        nulls = min(spec.nulls, count)
        self.spec = spec
        self.seed = seed
        self.clock = Clockface(spec)
        self.count = count
        """Numbers ever given, those of records that are not seen yet included."""
        self.revision = 0
        """Grows with every change that anybody can see."""
        self.order = ChangeOrder(
            nulls, count, start=start, step=spec.step_ms * 1000, per_moment=spec.per_moment
        )
        self.nulls: list[int] = list(range(nulls))
        self.present = Holed(0, count)
        """Numbers that are listed: a deleted record only with its tombstone."""
        self.deleted: list[Key] = []
        """Of records that are gone, when and which; with tombstones too."""
        self.changes: list[int] = []
        """Numbers in the order of their change, for delta tokens."""
        self.extra_children: dict[int, list[int]] = {}
        """Numbers of children that were created later, by their parent's."""
        self._first_children = count
        self._base_nulls = nulls
        self._seen: dict[int, Row] = {}
        self._future: dict[int, Row] = {}
        self._pending: list[tuple[int, int, int, Row]] = []
        self._writes = 0
        self._base_time = self.order.time

    # Reading

    def row(self, number: int) -> Row:
        """What anybody sees of a record now."""
        return self._seen.get(number) or self._base(number)

    def alive(self, number: int) -> bool:
        """Is it there, and not deleted?"""
        return number in self.present and not self.row(number).deleted

    def text(self, number: int) -> str:
        """The record's JSON text as it's seen now."""
        seen = self._seen.get(number)
        if seen is not None:
            return self._text(number, seen)
        if number < self._base_nulls or self.spec.parent:
            return self._text(number, self._base(number))
        made = self.clock.json(self._base_time(number))
        return record_text(self.spec.key, self.seed, number, 0, (made, made))

    def written(self, number: int) -> dict[str, Any]:
        """The record as it was written last, seen or not; deleted, if it was."""
        found: dict[str, Any] = json.loads(self._text(number, self._latest(number)))
        return found

    def find(self, external_id: str) -> int | None:
        """The number of a record that's there, by its id."""
        number = number_of(self.spec.key, external_id)
        return number if number is not None and number in self.present else None

    def children_of(self, parent: int) -> list[int]:
        """Numbers of the records below a parent, those that are listed."""
        first = parent * self.spec.children
        last = min(first + self.spec.children, self._first_children)
        numbers = [*range(first, last), *self.extra_children.get(parent, ())]
        return [number for number in numbers if number in self.present]

    def parent_of(self, number: int) -> int:
        """The number of a child's parent."""
        if number < self._first_children:
            return number // self.spec.children
        return int(self._future[number].fields["_parent"])

    def truth(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each record that is not deleted, as it's when all that was written is seen."""
        for number in range(self.count):
            row = self._future.get(number) or self._base(number)
            if not row.deleted:
                yield id_of(self.spec.key, number), json.loads(self._text(number, row))

    def _base(self, number: int) -> Row:
        if number < self._base_nulls:
            return Row(self._base_time(self._base_nulls), None)
        time = self._base_time(number)
        return Row(time, time)

    def _text(self, number: int, row: Row) -> str:
        created = self.clock.json(row.created)
        updated = "null" if row.updated is None else self.clock.json(row.updated)
        text = record_text(self.spec.key, self.seed, number, row.revision, (created, updated))
        fields = {name: value for name, value in row.fields.items() if name != "_parent"}
        if self.spec.parent:
            fields["parent_id"] = id_of(self.spec.parent, self.parent_of(number))
        if row.deleted:
            fields["deleted"] = True
        return with_fields(text, fields)

    # Writing

    def create(self, now: int, fields: Mapping[str, Any], parent: int | None = None) -> int:
        """Add a record; gives its number."""
        number = self.count
        self.count += 1
        self.present.last = self.count
        self.present.drop(number)
        if parent is not None:
            self.extra_children.setdefault(parent, []).append(number)
            fields = {**fields, "_parent": parent}
        time = self._time(number, 0, now)
        self._write(number, Row(time, time, 0, False, dict(fields)), now)
        return number

    def edit(self, number: int, now: int, fields: Mapping[str, Any] | None = None) -> None:
        """Change a record: these fields, and with a new revision most of the others."""
        row = self._latest(number)
        revision = row.revision + 1
        merged = {**row.fields, **(fields or {})}
        time = self._time(number, revision, now)
        if self.spec.silent_edits:
            time = row.updated or time
        self._write(number, replace(row, updated=time, revision=revision, fields=merged), now)

    def delete(self, number: int, now: int) -> None:
        """Delete a record; one that's deleted stays as it is."""
        row = self._latest(number)
        if not row.deleted:
            time = self._time(number, row.revision + 1, now)
            self._write(number, replace(row, updated=time, deleted=True), now)

    def undelete(self, number: int, now: int) -> None:
        """Bring a deleted record back, with a new time of change."""
        row = self._latest(number)
        if row.deleted:
            revision = row.revision + 1
            time = self._time(number, revision, now)
            self._write(number, replace(row, updated=time, revision=revision, deleted=False), now)

    def is_deleted(self, number: int) -> bool:
        """Whether the last thing written is a deletion, seen or not."""
        return self._latest(number).deleted

    def advance(self, now: int) -> None:
        """Show what was written and is due."""
        while self._pending and self._pending[0][0] <= now:
            _, _, number, row = heappop(self._pending)
            self._show(number, row)

    def due(self) -> int | None:
        """When the last of what was written will be seen; None if all is."""
        return max((when for when, *_ in self._pending), default=None)

    def _latest(self, number: int) -> Row:
        return self._future.get(number) or self._base(number)

    def _time(self, number: int, revision: int, now: int) -> int:
        skew = self.spec.skew_ms
        if not skew:
            return now
        return now + (mix(self.seed + 1, number, revision) % (2 * skew + 1) - skew) * 1000

    def _write(self, number: int, row: Row, now: int) -> None:
        self._future[number] = row
        self._writes += 1
        late = round(self.spec.late_seconds * 1_000_000)
        if not late:
            self._show(number, row)
            return
        due = now + mix(self.seed + 2, number, self._writes) % late
        # Two changes of one record are seen in their order.
        due = max([due, *(when for when, _, other, _ in self._pending if other == number)])
        heappush(self._pending, (due, self._writes, number, row))

    def _show(self, number: int, row: Row) -> None:
        self._hide(number)
        self._seen[number] = row
        assert row.updated is not None
        if row.deleted:
            insort(self.deleted, (row.updated, number))
        if not row.deleted or self.spec.deletes == "tombstone":
            self.present.restore(number)
            insort(self.order.touched, (row.updated, number))
        if self.spec.delta_changes:
            self.changes.append(number)
        self.revision += 1

    def _hide(self, number: int) -> None:
        row = self.row(number) if number in self._seen or number in self.present else None
        if row is None:
            return
        if row.deleted:
            del self.deleted[bisect_left(self.deleted, (row.updated or 0, number))]
        if number not in self.present:
            return
        self.present.drop(number)
        if row.updated is None:
            del self.nulls[bisect_left(self.nulls, number)]
        else:
            self.order.remove(number, row.updated)
