"""Events of one stream, brought into the lake: as they tell it, or as the app answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from membrane_sync.errors import MembraneError, NotAuthorized, Retryable
from membrane_sync.events.newest import Told, is_older, may_come, told_by
from membrane_sync.events.order import Order
from membrane_sync.ports.events import Event
from membrane_sync.project.families import drill_down
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Batch, Known, RawRecord, Report
from membrane_sync.sync.ancestors import scope_of
from membrane_sync.sync.cursor import value_of
from membrane_sync.sync.custom_fields import learn_fields
from membrane_sync.sync.find import Finder
from membrane_sync.sync.read import DELETED, Parties
from membrane_sync.sync.resume import forget_uncommitted
from membrane_sync.sync.store import add_counts

FETCHES = 4
"""Records that are asked for at once; the app's quota, and how it bears them, limit it further."""


@dataclass
class Stored:
    """What became of events: those that the lake has, and those that only the list can tell.

    `refused` are those that failed, each with why; `missing` those of records that the app told of
    and doesn't find yet; `rest` is what stands in the way of all.
    """

    done: list[int] = field(default_factory=list)
    to_read: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    rest: MembraneError | None = None


class Storing:
    """Brings events into one stream, which is that of the `sync`."""

    def __init__(self, sync: ResolvedSync, parties: Parties, run_id: str) -> None:
        self._sync = sync
        self._lake = parties.lake
        self._api = parties.api
        self._run_id = run_id
        self._scope = scope_of(sync, parties.connection)
        self._finder = Finder(sync, parties.api, self._scope)
        self._learnt = False

    def store(self, events: Sequence[Event], report: Report) -> Stored:
        """Commit what they say, with their marks; an older one changes nothing."""
        if drill_down(self._sync.collection) is not None:
            # No event names a record's parent, so that only the list can bring it.
            return Stored(to_read=[event.id for event in events])
        before = self._api.requests
        try:
            return self._stored(events, report)
        finally:
            report.requests += self._api.requests - before

    def _stored(self, events: Sequence[Event], report: Report) -> Stored:
        self._learn(report)
        stored = Stored()
        order = Order(self._sync.collection, value_of(self._lake.cursor(self._sync.stream)))
        told = told_by(events, self._sync.collection, order, stored.refused)
        known = self._lake.known(self._sync.stream, list(told))
        taken, asked = self._sorted(told.values(), known, order, stored)
        for one, found in self._fetched(asked, stored):
            if self._is_behind(found, known.get(one.external_id), order):
                reason = "the app answered an older state of the record than it had told before"
                stored.refused |= dict.fromkeys(one.events, reason)
            elif found.deleted and may_come(one, self._sync.collection, known.get(one.external_id)):
                stored.missing |= dict.fromkeys(one.events, "the app doesn't find it yet")
            else:
                taken.append(replace(one, raw=found))
        self._commit(taken, known, report)
        stored.done += [event for one in taken for event in one.events]
        return stored

    def _sorted(
        self, told: Iterable[Told], known: Mapping[str, Known], order: Order, stored: Stored
    ) -> tuple[list[Told], list[Told]]:
        """What is taken as it's told, and what the app is asked for."""
        scanned_at = self._lake.scanned_at(self._sync.stream)
        scanned = scanned_at.timestamp() if scanned_at else 0.0
        taken: list[Told] = []
        asked: list[Told] = []
        for one in told:
            older = is_older(one, order, known.get(one.external_id), scanned)
            if older and (one.sure or not self._finder.is_able):
                stored.done += one.events
            elif self._finder.is_able and (one.raw is None or not one.sure):
                asked.append(one)
            elif one.raw is None:
                stored.to_read += one.events
            else:
                taken.append(one)
        return taken, asked

    def _fetched(self, asked: Sequence[Told], stored: Stored) -> Iterator[tuple[Told, RawRecord]]:
        """The records as the app has them now; it's asked no more once it can't be."""

        def find(one: Told) -> RawRecord | MembraneError | None:
            if stored.rest is not None:
                return None
            one.asked_at = time.time()
            try:
                return self._finder.find(one.external_id)
            except MembraneError as error:
                if isinstance(error, Retryable | NotAuthorized):
                    stored.rest = stored.rest or error
                return error

        # The first one in this thread, in which alone the lake is let go meanwhile.
        answers = [find(one) for one in asked[:1]]
        with ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") as pool:
            answers += pool.map(find, asked[1:])
        for one, found in zip(asked, answers, strict=True):
            if isinstance(found, RawRecord):
                yield one, found
            elif found is not None and not isinstance(found, Retryable | NotAuthorized):
                stored.refused |= dict.fromkeys(one.events, found.message)

    def _is_behind(self, found: RawRecord, known: Known | None, order: Order) -> bool:
        """Whether the app answered from a copy that hasn't heard of what the lake knows."""
        return known is not None and not found.deleted and order.is_behind(found, known)

    def _commit(self, taken: Sequence[Told], known: Mapping[str, Known], report: Report) -> None:
        if not taken:
            return
        stream = self._sync.stream
        for part in ("", DELETED):
            forget_uncommitted(self._lake, stream + part)
        batch = Batch(
            stream,
            [one.raw for one in taken if one.raw is not None],
            run_id=self._run_id,
            ignored=self._sync.collection.ignored_fields,
            marks=[one.mark(known.get(one.external_id)) for one in taken],
        )
        add_counts(report, self._lake.store(batch))
        report.pulled += len(taken)

    def _learn(self, report: Report) -> None:
        if not self._learnt:
            learn_fields(self._sync, self._api, self._lake, self._scope, report, anew=False)
            self._learnt = True
