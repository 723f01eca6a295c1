"""Outboxes: events that the product writes to a table of its own, in its own transactions.

    for reading in Outboxes(project, inbox, internal_events, open_table).read(1_000): ...

Numbers are given out when a row is written, and rows are seen when they're committed: so a lower
number may come after a higher one. A number that's missing below the highest is remembered as a
gap, and looked for, until no transaction goes on that had begun when it was first missed, and
`settle_seconds` are over. How far a table was read is kept in one transaction with what was read.
Where rows say themselves that they were read, there are no gaps: what comes twice is kept once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from membrane_sync.elements.internal_event import InternalEvent, Outbox
from membrane_sync.errors import LockTimeout, MembraneError
from membrane_sync.events.internal import InternalEvents, Kind, Misfit, Told
from membrane_sync.ports.events import Arrival, Bookmark, Event, Inbox
from membrane_sync.ports.outboxes import Look, OutboxRow, OutboxTable
from membrane_sync.project.project import Project
from membrane_sync.project.values import is_tenant_key

MOST_GAPS = 5_000
"""Gaps to look for at once; with more of them, only they are looked for until some have settled."""

OpenTable = Callable[[Outbox, str], OutboxTable]
"""Opens an outbox for the event of this key."""


@dataclass(frozen=True)
class Gap:
    """Numbers that are missing, from first to last: since when, and what was going on then."""

    first: int
    last: int
    since: float
    newest: int | None = None

    def without(self, numbers: Sequence[int]) -> Iterator[Gap]:
        """What is left of it, once these were found."""
        first = self.first
        for number in numbers:
            if first <= number <= self.last:
                if first < number:
                    yield Gap(first, number - 1, self.since, self.newest)
                first = number + 1
        if first <= self.last:
            yield Gap(first, self.last, self.since, self.newest)

    def is_settled(self, oldest: int | None, now: float, seconds: float) -> bool:
        """Whether nothing can come there any more; `oldest` is as in a `Look`."""
        ended = self.newest is None or oldest is None or self.newest <= oldest
        return ended and now - self.since >= seconds


@dataclass(frozen=True)
class Place:
    """How far a table was read: the highest number, and the gaps below."""

    high: int | None = None
    gaps: Sequence[Gap] = ()

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Place:
        """As a bookmark keeps it."""
        return cls(state.get("high"), tuple(Gap(*gap) for gap in state.get("gaps", ())))

    @property
    def state(self) -> dict[str, Any]:
        """For a bookmark."""
        return {"high": self.high, "gaps": [list(astuple(gap)) for gap in self.gaps]}

    def moved(self, look: Look, limit: int, now: float, settle_seconds: float) -> Place:
        """The place after a look at so many rows at most."""
        numbers = sorted(row.number for row in look.rows)
        high = self.high
        # Gaps are looked into first. If that was cut short, nobody knows what it would have found.
        is_newer = bool(numbers) and (high is None or numbers[-1] > high)
        is_whole = len(numbers) < limit or is_newer
        left = [
            rest
            for gap in self.gaps
            if not (is_whole and gap.is_settled(look.oldest, now, settle_seconds))
            for rest in gap.without(numbers)
        ]
        for number in numbers:
            if high is None or number > high:
                lowest = min(1, number) if high is None else high + 1
                if lowest < number:
                    left.append(Gap(lowest, number - 1, now, look.newest))
                high = number
        return Place(high, left)


@dataclass(frozen=True)
class Reading:
    """What came of one reading of an outbox; `more` if there's more to read at once."""

    event: str
    rows: int = 0
    duplicates: int = 0
    more: bool = False
    error: str = ""


class Outboxes:
    """All outboxes of a project."""

    def __init__(
        self,
        project: Project,
        inbox: Inbox,
        internal: InternalEvents,
        open_table: OpenTable,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inbox = inbox
        self._internal = internal
        self._clock = clock
        self._open = open_table
        self._tables: dict[str, OutboxTable] = {}
        elements = [project.get(InternalEvent, key) for key in project.keys("internal_event")]
        self._outboxes = {e.key: e.outbox for e in elements if e.outbox is not None}

    def close(self) -> None:
        """Give back the database connections."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def read(self, limit: int) -> Sequence[Reading]:
        """Put the next rows of each into the inbox, so many at most; one that fails says so.

        Any number of processes may read: each row's event is kept once.
        """
        return [self._read(event, outbox, limit) for event, outbox in self._outboxes.items()]

    def _read(self, event: str, outbox: Outbox, limit: int) -> Reading:
        try:
            if event not in self._tables:
                self._tables[event] = self._open(outbox, event)
            table, kind = self._tables[event], self._internal.kind(event)
            if outbox.is_emptied:
                return self._read_unhandled(table, kind, limit)
            return self._read_on(table, kind, outbox, limit)
        except LockTimeout:
            return Reading(event, more=True)  # somebody else has just read on
        except MembraneError as error:
            return Reading(event, error=error.message)

    def _read_unhandled(self, table: OutboxTable, kind: Kind, limit: int) -> Reading:
        rows = table.unhandled(limit)
        if not rows:
            return Reading(kind.element.key)
        # Whoever is killed before the rows are marked reads them again: so they have a key.
        events = [event for row in rows for event in _events(kind, row, table.place)]
        (put,) = self._inbox.put([Arrival(events=events)])
        table.handle([row.number for row in rows])
        return Reading(kind.element.key, len(rows), put.duplicates, more=len(rows) == limit)

    def _read_on(self, table: OutboxTable, kind: Kind, outbox: Outbox, limit: int) -> Reading:
        event, table_place = kind.element.key, table.place
        kept = self._inbox.bookmark(event)
        version = kept.version if kept else 0
        place = Place.of(kept.state) if kept and kept.place == table_place else Place()
        is_full = len(place.gaps) >= MOST_GAPS
        gaps = [(gap.first, gap.last) for gap in place.gaps]
        # With too many gaps, nothing new is read, for it may have more of them.
        look = table.look(place.high, gaps, limit)
        if is_full:
            assert place.high is not None
            older = [row for row in look.rows if row.number <= place.high]
            look = Look(older, look.oldest, look.newest)
        moved = place.moved(look, limit, self._clock(), outbox.settle_seconds)
        if moved.state != place.state or kept is None:
            mine = [row for row in look.rows if outbox.type_column is None or row.type == event]
            events = [event for row in mine for event in _events(kind, row)]
            bookmark = Bookmark(event, table_place, moved.state, version)
            self._inbox.put([Arrival(events=events)], bookmark)
        return Reading(
            event,
            len(look.rows),
            more=len(look.rows) == limit,
            error=_TOO_MANY if is_full else "",
        )


_TOO_MANY = (
    f"the outbox has {MOST_GAPS:,} gaps in its numbers that may yet be filled, and isn't read on "
    "until they can't; with handled_column, or delete, there would be none"
)


def _events(kind: Kind, row: OutboxRow, place: str = "") -> list[Event]:
    """The row's events; a dead one, if it can't be made sense of: the others aren't held up."""
    told = Told(row.payload, key=f"{place} {row.number}" if place else "")
    try:
        told = replace(told, tenant=_tenant(row.tenant))
        return kind.events(replace(told, payload=_decoded(row.payload)), "outbox")
    except Misfit as misfit:
        return [kind.refused(told, "outbox", misfit)]


def _decoded(payload: Any) -> Any:
    if isinstance(payload, bytes | bytearray | memoryview):
        payload = bytes(payload)
    if not isinstance(payload, str | bytes):
        return payload
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise Misfit({"payload": "is no JSON"}) from None


def _tenant(value: Any) -> str:
    if value is None or value == "":
        return ""
    if not is_tenant_key(str(value)):
        raise Misfit({"tenant": "is no key of a tenant"})
    return str(value)
