"""Which of two states of a record is the newer one, as far as the app tells.

An app may tell by the record itself, in the field that its list is read on by; by when the event
happened; or not at all. Then the one that came later counts as the newer one. Where that may well
be wrong, `sure` says so, and it's better to ask the app for the record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from membrane_sync.content import same_content
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.formulas import FormulaError
from membrane_sync.ports.events import Event
from membrane_sync.records import Known, RawRecord
from membrane_sync.sync.cursor import CursorOrder


@dataclass(frozen=True)
class State:
    """A record as an event tells of it, or as the lake has it.

    `key` is what to compare its cursor by, `moment` the time that this stands for, both None where
    there's none. `arrival` is the number of the event. A `guess` is an update that says nothing of
    a deletion before it.
    """

    payload: str = ""
    deleted: bool = False
    key: Any = None
    moment: float | None = None
    occurred_at: float | None = None
    arrival: int | None = None
    guess: bool = False

    @property
    def time(self) -> float | None:
        """When it was so, by whatever the app says."""
        return self.moment if self.occurred_at is None else self.occurred_at


@dataclass(frozen=True)
class Verdict:
    """Whether the one is newer than the other; not `sure` if that's a guess."""

    newer: bool
    sure: bool = True


class Order:
    """The order of one collection's states; `reached` is how far its list was read."""

    def __init__(self, collection: DataCollection, reached: Any = None) -> None:
        cursor = collection.list_.cursor if collection.list_ else None
        plain = cursor is None or cursor.is_delta
        self._cursor = None if plain or cursor is None else CursorOrder(cursor)
        self._is_time = self._cursor is not None and cursor is not None and cursor.is_time
        self._reached = self._key(reached)

    def of_event(self, event: Event, record: Any, *, deleted: bool) -> State:
        """As an event tells it; `record` is its payload, read."""
        key = None if deleted else self._found(record)
        return State(
            event.payload,
            deleted,
            key,
            self._moment(key),
            event.occurred_at,
            event.id,
            guess=event.change == "updated",
        )

    def of_lake(self, known: Known) -> State:
        """As the lake has it; of a deleted one, with the cursor that it had."""
        key = self._found(_read(known.payload))
        mark = known.mark
        return State(
            known.payload,
            known.deleted,
            key,
            self._moment(key),
            mark.occurred_at if mark else None,
            mark.event if mark else None,
        )

    def compare(self, one: State, other: State) -> Verdict:
        """Whether the `one`, an event's, is to take the place of the `other`."""
        by_record = self._by_record(one, other)
        if by_record is not None:
            return by_record
        ties = one.key is not None and one.key == other.key and not other.deleted
        if one.occurred_at is not None and other.occurred_at is not None:
            if one.occurred_at != other.occurred_at:
                return Verdict(one.occurred_at > other.occurred_at)
            ties = True
        elif _is_before(one.time, other.time):
            return Verdict(newer=False, sure=False)
        later = other.arrival is None or (one.arrival or 0) >= other.arrival
        if ties and one.arrival != other.arrival and not _says_the_same(one, other):
            return Verdict(later, sure=False)
        if later and other.deleted and not one.deleted:
            # What comes after a deletion may have been before it; a creation is believed.
            by_time = one.occurred_at is not None and other.occurred_at is not None
            return Verdict(by_time or not one.guess, sure=by_time)
        return Verdict(later)

    def against(self, one: State, event: Event, known: Known | None, scanned_at: float) -> Verdict:
        """Whether an event's state is to take the place of what the lake has.

        A poll that changed the record after the event happened saw that, or what came after it; and
        so may the app's answer, if it was asked for the record since.
        """
        happened = min(_received(event), event.occurred_at or _received(event))
        if known is None:
            return Verdict(newer=True, sure=one.deleted or not self._is_passed(one))
        other = self.of_lake(known)
        by_record = self._by_record(one, other)
        if by_record is not None:
            return by_record
        if _seen_at(known) > happened and not _says_the_same(one, other):
            return Verdict(newer=False, sure=False)
        verdict = self.compare(one, other)
        # A deletion that comes late, and doesn't say when it was, may be of an earlier life.
        doubtful = one.deleted and not other.deleted and one.occurred_at is None
        return Verdict(verdict.newer, verdict.sure and not doubtful and scanned_at <= happened)

    def is_behind(self, found: RawRecord, known: Known) -> bool:
        """Whether what the app answered is older than what the lake has, by the records' word."""
        if known.deleted:
            return False
        key, has = self._found(_read(found.payload)), self._found(_read(known.payload))
        return key is not None and has is not None and bool(key < has)

    def _is_passed(self, one: State) -> bool:
        """Whether the list was read beyond it: then a record that isn't there had gone on."""
        return one.key is not None and self._reached is not None and one.key <= self._reached

    def _by_record(self, one: State, other: State) -> Verdict | None:
        """By what the records themselves say; None where they don't."""
        if one.key is None or other.key is None or one.deleted:
            return None
        if other.deleted:
            # It was seen like this or later, and then deleted.
            return Verdict(newer=False) if one.key <= other.key else None
        return None if one.key == other.key else Verdict(bool(one.key > other.key))

    def _found(self, record: Any) -> Any:
        try:
            return self._key(self._cursor.value(record)) if self._cursor else None
        except FormulaError:
            return None

    def _key(self, value: Any) -> Any:
        try:
            return None if value is None or self._cursor is None else self._cursor.key(value)
        except UnexpectedAnswer:
            return None

    def _moment(self, key: Any) -> float | None:
        if key is None or not self._is_time or self._cursor is None:
            return None
        return self._cursor.seconds(key)


def _seen_at(known: Known) -> float:
    """When the app last said how the record is, by a poll or because it was asked."""
    mark = known.mark
    if mark is None or known.changed_at > mark.at:
        return known.changed_at
    return mark.asked_at or 0.0


def _received(event: Event) -> float:
    return event.received_at.timestamp() if event.received_at else 0.0


def _is_before(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def _says_the_same(one: State, other: State) -> bool:
    return one.deleted == other.deleted and (
        one.deleted or same_content(one.payload or "null", other.payload or "null")
    )


def _read(payload: str) -> Any:
    try:
        return json.loads(payload) if payload else None
    except (ValueError, RecursionError):
        return None
