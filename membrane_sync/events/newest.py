"""Events of one stream, brought down to what is to become of each record.

Of many events of one record, the newest counts. Where it has the whole record, and it's sure that
it's newer than what the lake has, it's taken as it is; else the app is asked for the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.data_collection import CollectionEvent, DataCollection
from membrane_sync.errors import MembraneError, Rejected
from membrane_sync.events.order import Order, State
from membrane_sync.ports.events import Event
from membrane_sync.records import Known, Mark, RawRecord
from membrane_sync.sync.raw import raw_record


@dataclass
class Told:
    """What events say of one record: its `newest` state, in which it's `raw`, and all their ids.

    Without `raw`, or if it isn't `sure` that this is the newest, the record is to be asked for.
    `created` says that one of them tells of its creation, `attempts` how often they were tried,
    and `asked_at` when the app was asked.
    """

    external_id: str
    newest: Event
    state: State
    raw: RawRecord | None
    events: list[int] = field(default_factory=list)
    occurred_at: float | None = None
    sure: bool = True
    created: bool = False
    attempts: int = 0
    asked_at: float | None = None

    def mark(self, known: Known | None) -> Mark:
        """Of the latest event so far, by which others are known to be older."""
        before = known.mark if known and known.mark else Mark(self.external_id, 0)
        occurred_at = _latest(self.occurred_at, before.occurred_at)
        asked_at = _latest(self.asked_at, before.asked_at)
        newest = max(before.event, *self.events)
        return Mark(self.external_id, newest, occurred_at, asked_at=asked_at)


def told_by(
    events: Sequence[Event], collection: DataCollection, order: Order, refused: dict[int, str]
) -> dict[str, Told]:
    """What the events say, by record; those that make no sense are `refused`, each with why."""
    found: dict[str, Told] = {}
    for event in events:
        try:
            one = _told(event, collection, order)
        except (MembraneError, RecursionError) as error:
            refused[event.id] = error.message if isinstance(error, MembraneError) else "too deep"
            continue
        known = found.get(one.external_id)
        found[one.external_id] = one if known is None else _merged(known, one, order)
    return found


def is_older(told: Told, order: Order, known: Known | None, scanned_at: float) -> bool:
    """Whether the lake has what is told, or what came after it; notes whether that's sure."""
    verdict = order.against(told.state, told.newest, known, scanned_at)
    told.sure = told.sure and verdict.sure
    return not verdict.newer


def may_come(told: Told, collection: DataCollection, known: Known | None) -> bool:
    """Whether a record that the app doesn't find may only not be there yet.

    Many apps tell of a creation before all of them know of it.
    """
    if not told.created or told.newest.change == "deleted":
        return False
    mark = known.mark if known is not None and known.deleted else None
    if mark is not None and mark.event > max(told.events):
        return False  # what was told since is that it's gone
    declared = collection.events.created or collection.events.all
    field = CollectionEvent.model_fields["not_found_retries"]
    most: int = declared.not_found_retries if declared is not None else field.default
    return told.attempts < most


def _merged(one: Told, other: Told, order: Order) -> Told:
    """The newer of two, with the events of both."""
    verdict = order.compare(other.state, one.state)
    best = other if verdict.newer else one
    best.events = [*one.events, *other.events]
    best.occurred_at = _latest(one.occurred_at, other.occurred_at)
    # A deletion that comes late, and doesn't say when it was, may be of an earlier life.
    is_mixed = one.state.deleted != other.state.deleted
    doubtful = is_mixed and best.state.deleted and best.state.occurred_at is None
    best.sure = one.sure and other.sure and verdict.sure and not doubtful
    best.created = one.created or other.created
    best.attempts = max(one.attempts, other.attempts)
    return best


def _told(event: Event, collection: DataCollection, order: Order) -> Told:
    record = _record(event)
    raw: RawRecord | None = None
    if record is not None:
        raw = raw_record(collection, record, event.payload)
    external_id = event.external_id or (raw.external_id if raw else "")
    if not external_id:
        raise Rejected("it says neither a record nor its id")
    if raw is not None and raw.external_id != external_id:
        raise Rejected("the record that it brings has another id than the event")
    if event.change == "deleted":
        raw = RawRecord(external_id, event.payload or "{}", deleted=True)
    elif raw is not None and _is_id_only(collection, event):
        raw = None
    deleted = raw is not None and raw.deleted
    state = order.of_event(event, record, deleted=deleted)
    return Told(
        external_id,
        event,
        state,
        raw,
        [event.id],
        event.occurred_at,
        created=event.change == "created",
        attempts=event.attempts,
    )


def _latest(*times: float | None) -> float | None:
    return max((time for time in times if time is not None), default=None)


def _record(event: Event) -> Any:
    if not event.payload:
        return None
    try:
        record = json.loads(event.payload)
    except ValueError:
        raise Rejected("its payload is no JSON") from None
    # Of a deletion it may be anything.
    if event.change == "deleted" and (event.external_id or not isinstance(record, dict)):
        return None
    return record


def _is_id_only(collection: DataCollection, event: Event) -> bool:
    declared: Mapping[str, CollectionEvent | None] = {
        "created": collection.events.created,
        "updated": collection.events.updated,
    }
    found = declared.get(event.change) or collection.events.all
    return found is not None and found.id_only
