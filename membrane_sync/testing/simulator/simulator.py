"""An app of some company's making, in memory: its records, its clock and its bad days.

simulator = Simulator(seed=7, records=1000)
with running(simulator) as url: ...
simulator.edit("contacts", ["contacts-00000003"])
simulator.truth("contacts")      # what an honest reader should hold
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from threading import RLock
from typing import Any

from membrane_sync.testing.simulator.access import Gate
from membrane_sync.testing.simulator.content import id_of, number_of
from membrane_sync.testing.simulator.limits import Meter
from membrane_sync.testing.simulator.styles import STYLES
from membrane_sync.testing.simulator.switches import (
    Access,
    Collection,
    Faults,
    Hooks,
    Limits,
    Wire,
)
from membrane_sync.testing.simulator.table import Table
from membrane_sync.testing.simulator.times import micros
from membrane_sync.testing.simulator.traffic import Dice, Log
from membrane_sync.testing.simulator.webhooks import Webhooks

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first record of every collection was made."""


_CHANGES = {"create": "created", "edit": "updated", "delete": "deleted", "undelete": "created"}


class Simulator:
    """The app: the same seed and the same orders give the same records, times and faults.

    Its clock stands still but for `tick` and the step that each write takes; with `live` it's the
    machine's clock, and records appear to have been made before now. Safe to use from any thread
    while it's served.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        records: int = 1000,
        collections: Sequence[Collection] = STYLES,
        faults: Faults | None = None,
        limits: Limits | None = None,
        access: Access | None = None,
        wire: Wire | None = None,
        hooks: Hooks | None = None,
        live: bool = False,
    ) -> None:
        self.seed = seed
        self.lock = RLock()
        self.log = Log()
        self.access = access or Access()
        self.wire = wire or Wire()
        self.gate = Gate(self.access, seed)
        self.meter = Meter(limits or Limits())
        self.dice = Dice(faults or Faults(), seed)
        self.webhooks = Webhooks(seed, hooks)
        self.lists = 0
        """List requests, by which the drift of pages goes."""
        self.idempotent: dict[tuple[str, str], str] = {}
        """Ids of what was created, by account and idempotency key."""
        self._live = live
        self._random = Random(seed)  # noqa: S311 - the same each time is what we want
        specs = {spec.key: spec for spec in collections}
        counts = {key: _count(spec, specs, records) for key, spec in specs.items()}
        self._now = self._begin(specs, counts)
        self.tables = {
            key: Table(spec, counts[key], seed, self._start(spec, counts[key]))
            for key, spec in specs.items()
        }

    # The clock

    @property
    def now(self) -> int:
        """The app's time in microseconds since 1970."""
        return time.time_ns() // 1000 if self._live else self._now

    def tick(self, seconds: float) -> None:
        """Let time pass; what was written shows when it's due."""
        with self.lock:
            self._now += round(seconds * 1_000_000)
            self.advance()

    def settle(self) -> None:
        """Let pass all the time that late records need."""
        with self.lock:
            due = max((table.due() or 0 for table in self.tables.values()), default=0)
            self._now = max(self._now, due)
            for table in self.tables.values():
                table.advance(max(self.now, due))

    def advance(self) -> None:
        """Show what is due."""
        for table in self.tables.values():
            table.advance(self.now)

    # Writing

    def create(
        self,
        collection: str,
        records: int | Sequence[Mapping[str, Any]] = 1,
        *,
        parent: str | None = None,
        together: bool = False,
    ) -> list[str]:
        """Add records, so many or with these fields; gives their ids.

        `together`: all at one moment, as a batch is; otherwise a moment each.
        """
        many = [{}] * records if isinstance(records, int) else records
        with self.lock:
            table, below = self.tables[collection], self._parent(collection, parent)
            made = []
            for index, fields in enumerate(many):
                number = table.create(self._moment(table, index, together), fields, below)
                made.append(id_of(collection, number))
                self._touched(table, number)
                self._tell(table, number, "create")
            return made

    def edit(
        self,
        collection: str,
        which: int | Sequence[str],
        fields: Mapping[str, Any] | None = None,
        *,
        together: bool = False,
    ) -> list[str]:
        """Change records, so many drawn from the seed or those with these ids; gives their ids."""
        return self._each(collection, which, "edit", together, fields)

    def delete(
        self, collection: str, which: int | Sequence[str], *, together: bool = False
    ) -> list[str]:
        """Delete records; see `edit`."""
        return self._each(collection, which, "delete", together)

    def undelete(
        self, collection: str, which: Sequence[str], *, together: bool = False
    ) -> list[str]:
        """Bring deleted records back; see `edit`."""
        return self._each(collection, which, "undelete", together)

    def drift(self, collection: str) -> None:
        """What someone else does while a list of the collection is read."""
        kinds = self.dice.faults.drift_kinds
        kind = kinds[self._random.randrange(len(kinds))]
        if kind == "create" and not self.tables[collection].spec.parent:
            self.create(collection)
        elif kind == "delete":
            self.delete(collection, 1)
        else:
            self.edit(collection, 1)

    # Reading

    def truth(self, collection: str) -> dict[str, dict[str, Any]]:
        """The records that a full and honest reader should hold, by id; late ones included."""
        with self.lock:
            return dict(self.tables[collection].truth())

    def _each(
        self,
        collection: str,
        which: int | Sequence[str],
        verb: str,
        together: bool,
        fields: Mapping[str, Any] | None = None,
    ) -> list[str]:
        with self.lock:
            table = self.tables[collection]
            numbers = self._numbers(table, which)
            for index, number in enumerate(numbers):
                now = self._moment(table, index, together)
                if verb == "edit":
                    table.edit(number, now, fields)
                else:
                    getattr(table, verb)(number, now)
                self._touched(table, number)
                self._tell(table, number, verb)
            return [id_of(collection, number) for number in numbers]

    def _numbers(self, table: Table, which: int | Sequence[str]) -> list[int]:
        if isinstance(which, int):
            return self._drawn(table, which)
        numbers = [number_of(table.spec.key, external_id) for external_id in which]
        wrong = [i for i, n in zip(which, numbers, strict=True) if n is None or n >= table.count]
        if wrong:
            raise KeyError(f"{table.spec.key} has no record {wrong[0]!r}")
        return [number for number in numbers if number is not None]

    def _drawn(self, table: Table, count: int) -> list[int]:
        """So many records that aren't deleted, or all there are, in order of their ids."""
        chosen: set[int] = set()
        for _ in range(20 * count):
            if len(chosen) == count or not table.count:
                break
            number = self._random.randrange(table.count)
            if not table.is_deleted(number):
                chosen.add(number)
        if len(chosen) < count:
            alive = (n for n in range(table.count) if not table.is_deleted(n) and n not in chosen)
            chosen.update(n for n, _ in zip(alive, range(count - len(chosen)), strict=False))
        return sorted(chosen)

    def _touched(self, table: Table, number: int) -> None:
        if table.spec.parent and table.spec.touches_parent:
            parent = self.tables[table.spec.parent]
            above = table.parent_of(number)
            if not parent.is_deleted(above):
                parent.edit(above, self.now)
                self._tell(parent, above, "edit")

    def _tell(self, table: Table, number: int, verb: str) -> None:
        """Make webhooks of a change, if anybody wants to know."""
        if self.webhooks.is_heard(table.spec.key):
            at = datetime.fromtimestamp(self.now / 1_000_000, UTC).isoformat()
            record = table.written(number)
            self.webhooks.happened(table.spec.key, _CHANGES[verb], record, at)

    def _parent(self, collection: str, parent: str | None) -> int | None:
        above = self.tables[collection].spec.parent
        if above is None:
            return None
        number = number_of(above, parent) if parent else 0
        if number is None:
            raise KeyError(f"{above} has no record {parent!r}")
        return number

    def _moment(self, table: Table, index: int, together: bool) -> int:
        """When a write is made: a step later than the one before, unless they are one batch."""
        if not self._live and (index == 0 or not together):
            self._now += table.spec.step_ms * 1000
            self.advance()
        return self.now

    def _begin(self, specs: Mapping[str, Collection], counts: Mapping[str, int]) -> int:
        spans = [_span(spec, counts[key]) for key, spec in specs.items()]
        return micros(BEGINNING) + max(spans, default=0)

    def _start(self, spec: Collection, count: int) -> int:
        return self.now - _span(spec, count) if self._live else micros(BEGINNING)


def _count(spec: Collection, specs: Mapping[str, Collection], records: int) -> int:
    if spec.parent is not None:
        return _count(specs[spec.parent], specs, records) * spec.children
    return records if spec.records is None else spec.records


def _span(spec: Collection, count: int) -> int:
    """How long it took until all records were made, in microseconds."""
    return (count // spec.per_moment + 1) * spec.step_ms * 1000
