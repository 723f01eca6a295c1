"""Lists below parents: how the lists below all records of the collections above are read.

The parents are read first, into a stream of their own; then the list below each of them that has
to be read, each from its own cursor. Formulas of the request see the parent's record as `$.parent`,
and that of each level as `$.ancestors.<collection>`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from membrane_sync.elements.data_collection import DrillDown
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.ports import Api, ConnectionRecord, Lake
from membrane_sync.project.families import drill_down
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Batch, Level, Offset, Parent, Partition, Report
from membrane_sync.sync.ahead import ahead
from membrane_sync.sync.ancestors import ancestors, needed_fields
from membrane_sync.sync.collection import TokenExpired
from membrane_sync.sync.cursor import marking, stored_value
from membrane_sync.sync.pull import Pulled, Reading, pull
from membrane_sync.sync.resume import Beginning, fingerprint, unfinished
from membrane_sync.sync.store import Progress, add_counts, new_scan, store
from membrane_sync.sync.totals import Total
from membrane_sync.sync.visits import Visit, Visits

MARKS = 1_000
"""So many lists without anything new are noted in one commit; fewer aren't worth one."""


@dataclass
class Family:
    """The reading of all lists below the parents of one collection."""

    sync: ResolvedSync
    above: list[ResolvedSync]
    reading: Reading
    lake: Lake
    visits: Visits
    since: int
    """The place in the feed up to which the parents were read; 0 before the first reading."""
    left: dict[str, Partition] = field(default_factory=dict)
    """How far lists were read, which no page has taken to the lake yet."""
    due: bool = False
    """Whether that must be written, even if nothing else is."""
    expected: int = 0
    """How many records the app says that the lists have, as far as they were read here."""

    @property
    def drill(self) -> DrillDown:
        """How the lists are below their parents."""
        drill = drill_down(self.reading.collection)
        assert drill is not None
        return drill

    def parents(self) -> Collection[Parent]:
        """Those whose lists are to be read."""
        levels = [Level(up.stream, self._fields(i)) for i, up in enumerate(self.above)]
        everyone = not self.drill.changed_parents_only or self.reading.full or self.reading.bounds
        return self.lake.parents(
            _place(self.reading),
            levels,
            since=None if everyone else self.since,
            reading=self.visits.beginning.name,
        )

    def pages(self, parents: Collection[Parent]) -> Iterator[Pulled]:
        """The pages of all lists, each as a batch to store."""
        for visit in self.visits.lists(parents):
            yield from self._pages_below(visit)

    def _pages_below(self, visit: Visit) -> Iterator[Pulled]:
        cursor = self.reading.collection.list_.cursor if self.reading.collection.list_ else None
        reading = replace(
            self.reading,
            scope={**self.reading.scope, **self._seen(visit.parent)},
            cursor=None if cursor is None else stored_value(cursor, visit.cursor),
        )
        known = visit.parent.partition
        fresh = known is None or not known.done or visit.parent.seq > known.seq
        state, whole, total = visit.cursor, True, Total(reading.collection)
        for page in pull(reading, visit, mark=marking(cursor)):
            whole = whole and not page.skipped
            total.saw(page)
            moved = page.batch.cursor is not None
            state = page.batch.cursor if moved else state
            if not visit.is_stored and (moved or (fresh and page.batch.records)):
                self._mark(visit, state, done=False, due=True)
                fresh = True
            yield self._page(visit, page)
        self.expected += total.records
        self._mark(visit, state, done=whole, due=fresh or not whole)

    def _mark(self, visit: Visit, cursor: Any, *, done: bool, due: bool) -> None:
        """Note how far the list was read, for the next page that is stored."""
        if self.reading.bounds is not None:
            return
        parent, name = visit.parent, self.visits.beginning.name
        seq = parent.seq if done else 0
        self.left[visit.name] = Partition(
            parent.id, cursor, visit.cursor, name, visit.pages, done, seq
        )
        self.due = self.due or due

    def _page(self, visit: Visit, page: Pulled) -> Pulled:
        marks: list[Partition] = []
        if not visit.is_stored and (self.due or len(self.left) >= MARKS):
            marks = list(self.left.values())
            for name in self.left:
                self.visits.marked(name)
            self.left, self.due = {}, False
        batch = self._owned(page.batch, visit.parent.id)
        batch = replace(batch, cursor=None, partitions=marks, pages=self.visits.page)
        # One list's total says nothing of how much there is in all.
        return replace(page, batch=batch, stored=visit.is_stored, total=0)

    def _owned(self, batch: Batch, parent: str) -> Batch:
        """The batch with its records' parent, which is a part of their ids if it must be."""
        if not self.drill.unique_ids:
            batch = replace(
                batch,
                records=[
                    raw._replace(external_id=below(parent, raw.external_id))
                    for raw in batch.records
                ],
                dead_letters=[
                    replace(letter, external_id=below(parent, letter.external_id))
                    for letter in batch.dead_letters
                ],
            )
        # Of a record that is deleted, nobody asks whose it was.
        return replace(batch, parents=[] if batch.part else [parent] * len(batch.records))

    def _seen(self, parent: Parent) -> Mapping[str, Any]:
        records = [json.loads(text) for text in parent.records]
        keys = [up.collection.key for up in self.above]
        return {"parent": records[0], "ancestors": dict(zip(keys, records, strict=True))}

    def _fields(self, level: int) -> list[str] | None:
        """Which fields of a level's records the request reads; None for all that they have."""
        assert self.reading.collection.list_ is not None
        return needed_fields(
            self.reading.collection.list_, self.above[level].collection.key, nearest=level == 0
        )


def below(parent: str, external_id: str) -> str:
    """The id of a child whose own is only unique below its parent.

    >>> below("7", "a/b")
    '7/a%2Fb'
    """
    return f"{parent}/{external_id.replace('%', '%25').replace('/', '%2F')}"


@dataclass(frozen=True)
class Household:
    """What a reading of lists below parents needs: app, lake, and one who brings the parents."""

    connection: ConnectionRecord
    api: Api
    lake: Lake
    report: Report
    progress: Progress
    bring: Callable[[ResolvedSync], None]


def read_below(
    sync: ResolvedSync, reading: Reading, house: Household
) -> tuple[Reading, Visits, bool, int]:
    """Read the lists below all parents that need it, once the parents are in the lake.

    Gives the reading, its log, whether all that came has an id and no answer was skipped, and how
    many records the app says there are. The children of parents that are gone are deleted, unless
    it's declared that they stay.
    """
    above = ancestors(sync, house.connection)
    begun = _unfinished(sync, reading, house.lake)
    if begun is None:
        house.bring(above[0])
    family = _family(sync, above, reading, begun, house)
    try:
        whole = _read(family, house)
    except TokenExpired:
        # What was deleted since is only told by all that's there.
        family.visits.end()
        scan = new_scan() if reading.collection.deletes.full_scan else ""
        reading = replace(reading, full=True, scan=scan)
        family = _family(sync, above, reading, None, house)
        whole = _read(family, house)
    except UnexpectedAnswer:
        # What was kept may be what the app doesn't understand any more, as a token that expired.
        if family.visits.resumed:
            family.visits.end()
        raise
    return family.reading, family.visits, whole, family.expected


def is_begun(sync: ResolvedSync, reading: Reading, lake: Lake) -> bool:
    """Whether the same reading of lists below parents was cut off, and can be gone on with."""
    return _unfinished(sync, reading, lake) is not None


def _unfinished(sync: ResolvedSync, reading: Reading, lake: Lake) -> Beginning | None:
    return unfinished(lake.page_log(_place(reading)), _kind(sync, reading))


def _family(
    sync: ResolvedSync,
    above: list[ResolvedSync],
    reading: Reading,
    begun: Beginning | None,
    house: Household,
) -> Family:
    """The reading, begun or gone on with; its beginning holds its place in the parents' feed."""
    lake = house.lake
    since = _since(lake, reading, above[0])
    resumed = begun is not None
    if begun is None:
        upto = lake.latest_change(above[0].stream, since)
        of, now = _kind(sync, reading), datetime.now(UTC)
        begun = Beginning(new_scan(), of, now, cursor=upto, scan=reading.scan)
    reading = replace(
        reading,
        scan=begun.scan,
        started_at=begun.started_at,
        cursor=None,
    )
    visits = Visits(lake.page_log(_place(reading)), begun, house.api, resumed=resumed)
    return Family(sync, above, reading, lake, visits, since)


def _read(family: Family, house: Household) -> bool:
    sync, above, lake, visits = family.sync, family.above[0], family.lake, family.visits
    reading, since = family.reading, family.since
    if not reading.part:
        orphans = lake.orphan(
            sync.stream,
            above.stream,
            since=None if reading.full or not since else since,
            delete=family.drill.on_parent_delete == "delete",
            run_id=reading.run_id,
        )
        add_counts(house.report, orphans)
    pages = ahead(family.pages(family.parents()))
    whole = store(pages, lake, house.report, house.progress, visits.commit)
    if family.due:
        marks = list(family.left.values())
        lake.store(
            Batch(sync.stream, (), run_id=reading.run_id, part=reading.part, partitions=marks)
        )
    upto = int(visits.beginning.cursor)
    if reading.bounds is None and upto != since:
        lake.move(Offset(consumer_of(_place(reading)), upto, above.stream))
    return whole


def _place(reading: Reading) -> str:
    """The name under which the lake has how far the lists were read."""
    return reading.stream + reading.part


def _since(lake: Lake, reading: Reading, above: ResolvedSync) -> int:
    """The place in the feed up to which the parents were read; 0 before the first reading."""
    offset = lake.offset(consumer_of(_place(reading)))
    return offset.seq if offset.version == above.stream else 0


def consumer_of(place: str) -> str:
    """The name under which the lake has how far the parents' feed was read for these lists."""
    return f"below:{place}"


def _kind(sync: ResolvedSync, reading: Reading) -> str:
    """By which another reading is known to be the same."""
    parts = (sync.collection_version, reading.scope, reading.full, bool(reading.scan))
    return fingerprint("below", *parts, reading.bounds)
