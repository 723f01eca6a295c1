"""Reads some pages of a collection for the kit, whole records, bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.ports import Api
from membrane_sync.project.families import Lookup, drill_down
from membrane_sync.records import Answer, Call
from membrane_sync.sync.collection import listing
from membrane_sync.sync.notation import Notation
from membrane_sync.sync.page import Page, read_page
from membrane_sync.sync.rendering import Functions, evaluated
from membrane_sync.sync.source import Source
from membrane_sync.sync.windows import first_moment

PARENTS_TRIED = 5
"""Of lists below a parent, one that isn't empty is looked for below so many."""

WRITTEN_BY_THEN = timedelta(minutes=10)
"""So long after its beginning, a check has written what it writes."""

_LIMIT_HEADER = re.compile(r"rate-?limit|retry-after|call-limit", re.IGNORECASE)


class Probe:
    """Sends calls to an app, and remembers what answers said beside their bodies."""

    def __init__(
        self, api: Api, functions: Functions | None = None, now: datetime | None = None
    ) -> None:
        self.now = now or datetime.now(UTC)
        """When the check began; windows are read until soon after."""
        self.app = api
        """The app, for who needs all of it; what it answers there isn't remembered."""
        self.functions = functions or {}
        """What `function` of a request may name."""
        self.limit_headers: dict[str, str] = {}
        """Headers about quotas, and the last value of each."""
        self.answers = 0
        self._api = api

    def send(self, call: Call) -> Answer:
        """The app's good answer; raises what `ports.Api` does."""
        answer = self._api.send(call)
        self.answers += 1
        for name, value in answer.headers.items():
            if _LIMIT_HEADER.search(name):
                self.limit_headers[name] = value
        return answer

    def close(self) -> None:
        """Give back the sockets."""
        self._api.close()


@dataclass
class Reading:
    """Pages of a list in their order; `ended` if there are no more."""

    pages: list[list[dict[str, Any]]] = field(default_factory=list)
    scopes: list[Mapping[str, Any]] = field(default_factory=list)
    ended: bool = False
    strange: int = 0
    """How many records are no objects."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records of all pages."""
        return [record for page in self.pages for record in page]


def read(collection: DataCollection, api: Probe, scope: Mapping[str, Any], most: int) -> Reading:
    """At most so many pages of the list, from `$.cursor` of the scope on, by its pagination alone.

    The engine would ask for the next page by cursor where it can; here the pages themselves are
    what is to be proved, so the cursor is left out of the declaration, but where the request can't
    be made without one. Of windows the last ones are read, or the first ones if those are empty.
    """
    recent = _last_windows(collection, api, scope, most)
    if recent is not None:
        reading = _read(collection, api, {**scope, "cursor": recent}, most)
        if reading.records:
            reading.ended = False
            return reading
    return _read(collection, api, scope, most)


def _last_windows(
    collection: DataCollection, api: Probe, scope: Mapping[str, Any], most: int
) -> Any:
    """The value from which on so many windows lead to now; None where it needn't be one."""
    cursor = collection.list_.cursor if collection.list_ else None
    if cursor is None or cursor.slices is None or scope.get("cursor") is not None:
        return None
    window, notation = cursor.slices, Notation(cursor)
    length = timedelta(days=window.days) if window.days else timedelta(seconds=window.seconds or 0)
    begin = api.now - (most - 1) * length
    return notation.stored(begin) if begin > first_moment(cursor, window, scope) else None


def _read(collection: DataCollection, api: Probe, scope: Mapping[str, Any], most: int) -> Reading:
    plain = _by_pages(collection)
    source = Source(plain, api.functions)
    # What the check itself writes is in the last window, too.
    steps = listing(plain, scope, functions=api.functions, now=api.now + WRITTEN_BY_THEN)
    reading = Reading()
    step = next(steps, None)
    while step is not None and len(reading.pages) < most:
        page = read_page(source, api.send(step.call))
        records = records_of(page)
        kept = [record for record in records if isinstance(record, dict)]
        reading.strange += len(records) - len(kept)
        reading.pages.append(kept)
        reading.scopes.append(page.scope)
        try:
            step = steps.send(page)
        except StopIteration:
            step = None
    reading.ended = step is None
    return reading


def below_a_parent(
    collection: DataCollection, lookup: Lookup, api: Probe, scope: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The scope with a record above the list, if it's below one: the first that has something.

    Only the first few are tried. None if there's no record above.
    """
    drill = drill_down(collection)
    if drill is None:
        return scope
    parent = lookup(drill.collection)
    if parent is None:
        return None
    parameters = {**scope["parameters"], **evaluated(drill.parameters, scope)}
    above = below_a_parent(parent, lookup, api, {**scope, "parameters": parameters})
    if above is None:
        return None
    seen: Mapping[str, Any] | None = None
    for record in _alive(parent, read(parent, api, above, 1).records)[:PARENTS_TRIED]:
        ancestors = {**above.get("ancestors", {}), parent.key: record}
        seen = {**scope, "parent": record, "ancestors": ancestors}
        if read(collection, api, seen, 1).records:
            break
    return seen


def _alive(collection: DataCollection, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tombstone = collection.deletes.tombstone
    return [r for r in records if tombstone is None or not value_at(tombstone, r)]


def _by_pages(collection: DataCollection) -> DataCollection:
    assert collection.list_ is not None
    cursor = collection.list_.cursor
    if cursor is None or cursor.is_delta:
        return collection
    # A list that isn't known to be sorted is not asked for anew from the last page's value.
    windows = cursor.slices is not None
    unsorted = cursor.model_copy(update={"sorted": "none"}) if windows else None
    alone = collection.list_.model_copy(update={"cursor": unsorted})
    return collection.model_copy(update={"list_": alone})


def records_of(page: Page) -> list[Any]:
    """The page's records with all of their fields; its heads may have only some."""
    return [*page.heads] if page.texts is None else [json.loads(text) for text in page.texts]


def id_in(collection: DataCollection, record: Any) -> str | None:
    """The record's id as text, None if it has none that is text or a whole number."""
    found = evaluate({"$var": collection.id}, record)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        return None
    return str(found)


def value_at(formula: Any, scope: Mapping[str, Any]) -> Any:
    """What a formula gives, None if nothing."""
    found = evaluate(formula, scope)
    return None if found is MISSING else found


def shown(answer: Answer) -> Mapping[str, Any]:
    """What formulas see of an answer."""
    return {"body": answer.body, "headers": answer.headers, "status": answer.status}
