"""What the next sync would see of a record that was created, changed and deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.kit.conditions import Conditional, condition_now
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.patience import Patience
from membrane_sync.kit.reading import Probe, Reading, id_in, read, value_at
from membrane_sync.sync.collection import deleted_collection
from membrane_sync.sync.cursor import CursorOrder, asked_from


class Following:
    """Reads after each write what the next sync would read; `reading` is what came before."""

    def __init__(
        self,
        collection: DataCollection,
        api: Probe,
        scope: Mapping[str, Any],
        reading: Reading,
        pages: int,
        patience: Patience,
    ) -> None:
        self._collection = collection
        self._api = api
        self._scope = scope
        self._reading = reading
        self._pages = pages
        self._patience = patience
        cursor = collection.list_.cursor if collection.list_ else None
        self._cursor = cursor
        valued = cursor is not None and not cursor.is_delta
        self._order = CursorOrder(cursor) if cursor is not None and valued else None
        self._stored = self._first_stored()
        self._condition: Conditional | None = None

    def before(self) -> None:
        """A write follows: note by what the app recognises its answer now, if that's declared."""
        conditional = self._collection.list_.conditional if self._collection.list_ else False
        # Of a list that has several pages, one answer says nothing, unless it's declared to.
        alone = len(self._reading.pages) == 1 or self._order is not None
        self._condition = None
        if conditional == "first_page" or (conditional and alone):
            given = (self._collection, self._api, self._scope, self._reading)
            self._condition = condition_now(*given)

    def created(self, made: str, findings: Findings) -> None:
        """The next sync must bring it."""
        self._condition_sees("created", findings)
        found, ended = self._next(made, lambda _: True)
        if found is not None:
            findings.ok("create is seen", "the next sync brings it")
            self._moved(found)
        else:
            self._missed(
                "create is seen", ended, "is it in another list, or filtered out?", findings
            )

    def updated(self, made: str, name: str, value: Any, findings: Findings, *, last: bool) -> bool:
        """The next sync must bring it as it is now, and its cursor must have moved on.

        False, and nothing is said, if it doesn't and this isn't the `last` try: an app that counts
        in seconds may only need another one.
        """
        promise = "update is seen"
        found, ended = self._next(made, lambda record: record.get(name) == value)
        if found is not None and self._moved(found):
            self._condition_sees("changed", findings)
            findings.ok(promise, "the next sync brings it as it is now")
            return True
        if not last:
            self._patience.pause()
            return False
        self._condition_sees("changed", findings)
        advice = "choose another field for the cursor, or scan: full_sync_interval_seconds"
        if found is None:
            self._missed(promise, ended, advice, findings)
        elif self._cursor is not None and self._cursor.granularity in ("day", "hour", "minute"):
            findings.unproven(promise, f"the cursor counts in {self._cursor.granularity}s")
        else:
            findings.failed(promise, "the value of its cursor is what it was", advice)
        return True

    def deleted(self, made: str, findings: Findings) -> None:
        """Each declared way must tell of the deletion."""
        self._condition_sees("deleted", findings)
        deletes = self._collection.deletes
        if deletes.tombstone is not None:
            self._tombstone(made, findings)
        if deletes.endpoint is not None and not deletes.endpoint.not_supported:
            self._in_the_list_of_deleted(made, findings)
        if deletes.full_scan:
            self._not_in_a_scan(made, findings)

    def _tombstone(self, made: str, findings: Findings) -> None:
        formula = self._collection.deletes.tombstone
        found, ended = self._next(made, lambda record: bool(value_at(formula, record)))
        if found is not None:
            findings.ok("delete is seen", "the next sync brings its tombstone")
        elif not self._collection.deletes.full_scan or not ended:
            advice = "does the filter hide tombstones? Then deletes.endpoint, or full_scan: true"
            self._missed("delete is seen", ended, advice, findings)
        else:
            findings.failed(
                "delete is seen",
                "no tombstone came with the next sync: only a full scan finds it",
                "take `tombstone` out, or let the request ask for deleted records too",
            )

    def _in_the_list_of_deleted(self, made: str, findings: Findings) -> None:
        gone = deleted_collection(self._collection)
        found, ended = self._looked_for(
            lambda: read(gone, self._api, self._scope, self._pages),
            lambda record: id_in(gone, record) == made,
        )
        if found is not None:
            findings.ok("deleted list has it", "the record that was deleted is in it")
        else:
            advice = "is `id` of the endpoint the id of the record, as the list has it?"
            self._missed("deleted list has it", ended, advice, findings)

    def _not_in_a_scan(self, made: str, findings: Findings) -> None:
        tombstone = self._collection.deletes.tombstone

        def lacks_it(whole: Reading) -> bool:
            there = [r for r in whole.records if id_in(self._collection, r) == made]
            return all(tombstone is not None and value_at(tombstone, record) for record in there)

        whole = self._patience.until(
            lambda: read(self._collection, self._api, self._scope, self._pages), lacks_it
        )
        if not lacks_it(whole):
            advice = "does the list show deleted records? Then there's a field to be a tombstone"
            findings.failed("full_scan lacks it", "the list has the deleted record still", advice)
        elif whole.ended:
            findings.ok("full_scan lacks it", "the deleted record isn't in the list any more")
        else:
            findings.unproven("full_scan lacks it", "the end was not reached", "raise --pages")

    def _condition_sees(self, what: str, findings: Findings) -> None:
        if self._condition is None:
            return
        promise = f"conditional sees what is {what}"
        if self._condition.is_met():
            advice = "take it out: syncs would miss such changes"
            findings.failed(promise, f"a record was {what}, and the answer is 304", advice)
        else:
            findings.ok(promise, "the answer is another one")

    def _next(
        self, made: str, wanted: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[Mapping[str, Any] | None, bool]:
        """The record as the next sync would bring it, None if it wouldn't; whether all came."""
        collection = self._collection

        def is_it(record: Mapping[str, Any]) -> bool:
            return id_in(collection, record) == made and wanted(record)

        return self._looked_for(self._next_reading, is_it)

    def _looked_for(
        self, reading: Callable[[], Reading], wanted: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[Mapping[str, Any] | None, bool]:
        def is_decided(came: Reading) -> bool:
            return not came.ended or any(map(wanted, came.records))

        came = self._patience.until(reading, is_decided)
        return next(filter(wanted, came.records), None), came.ended

    def _next_reading(self) -> Reading:
        asked = self._stored
        if self._cursor is not None and self._order is not None:
            client = self._cursor.filtered_by == "client"
            asked = None if client or asked is None else asked_from(self._cursor, asked)
        return read(self._collection, self._api, {**self._scope, "cursor": asked}, self._pages)

    def _first_stored(self) -> Any:
        if self._order is not None:
            return self._order.newest(self._order.values(self._reading.records))
        if self._cursor is None or not self._reading.ended:
            return None
        return value_at(self._cursor.delta_token, self._reading.scopes[-1])

    def _moved(self, record: Mapping[str, Any]) -> bool:
        """Let the cursor move on to the record's value; whether that's further."""
        value = None if self._order is None else self._order.value(record)
        if value is None or self._order is None:
            return self._order is None
        moved = self._stored is None or self._order.key(value) > self._order.key(self._stored)
        self._stored = value if moved else self._stored
        return moved

    def _missed(self, promise: str, ended: bool, advice: str, findings: Findings) -> None:
        if ended:
            findings.failed(promise, "it didn't come with the next sync", advice)
        else:
            findings.unproven(promise, "the end was not reached", "raise --pages")
