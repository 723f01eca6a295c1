"""Whether the page that a list says is its last one really is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection, Pagination
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, Reading, id_in, records_of
from membrane_sync.sync.page import read_page
from membrane_sync.sync.paging import turns
from membrane_sync.sync.rendering import turned
from membrane_sync.sync.source import Source

PROMISE = "end of the list"
SAID = ("has_more", "total_pages", "total_records")
"""What ends a list before there is an empty page, or no token."""


def check_end(
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    reading: Reading,
    findings: Findings,
) -> None:
    """Ask for one page more than the app says there are."""
    assert collection.list_ is not None
    pagination = collection.list_.pagination
    said = [name for name in SAID if getattr(pagination, name) is not None]
    cursor, by_function = collection.list_.cursor, collection.list_.function is not None
    if by_function or (cursor is not None and cursor.slices is not None):
        return
    if not reading.ended or not reading.pages[-1] or not said:
        return
    try:
        behind = _behind(collection, pagination, api, scope, reading)
    except MembraneError:
        findings.ok(PROMISE, "the app refuses to give a page behind the last one")
        return
    if behind is None:
        return
    known = {id_in(collection, record) for record in reading.records}
    more = [record for record in behind if id_in(collection, record) not in known]
    if more:
        seen = f"{len(more)} more records came on a page behind it"
        findings.failed(PROMISE, seen, f"compare {' and '.join(said)} with what the app answers")
    else:
        findings.ok(PROMISE, f"{' and '.join(said)} told it: nothing comes behind it")


def _behind(
    collection: DataCollection,
    pagination: Pagination,
    api: Probe,
    scope: Mapping[str, Any],
    reading: Reading,
) -> list[Any] | None:
    """The records of the next page if nothing told the end; None if there's no way to ask."""
    source = Source(collection, api.functions)
    pager = turns(pagination.model_copy(update=dict.fromkeys(SAID)))
    first = source.call(scope)
    turn = next(pager)
    for records, seen in zip(reading.pages, reading.scopes, strict=True):
        try:
            turn = pager.send((records, seen))
        except StopIteration:
            return None
    return records_of(read_page(source, api.send(turned(first, turn))))
