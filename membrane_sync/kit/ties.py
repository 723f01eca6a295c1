"""The promises of a `tie_break`: records of one cursor value, read in the order of their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, Reading, id_in, records_of, value_at
from membrane_sync.sync.cursor import CursorOrder
from membrane_sync.sync.page import read_page
from membrane_sync.sync.paging import turns
from membrane_sync.sync.rendering import turned
from membrane_sync.sync.source import Source

PROMISE = "tie_break"


def check_ties(
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    reading: Reading,
    findings: Findings,
) -> None:
    """Ask for the records of one value, and once more after the id of one in their middle."""
    method = collection.list_
    if method is None or method.cursor is None or method.pagination.tie_break is None:
        return
    source, order = Source(collection, api.functions), CursorOrder(method.cursor)
    value, tied = _largest_tie(order, reading)
    if value is None:
        findings.unproven(PROMISE, "no record has a cursor value")
        return
    try:
        first = _page(source, api, scope, value, None)
        if _is_of_the_value(collection, order, value, tied, first, findings):
            _goes_on(collection, source, api, scope, value, first, findings)
    except MembraneError as error:
        findings.failed(PROMISE, error.message, error.hint)


def _largest_tie(order: CursorOrder, reading: Reading) -> tuple[Any, list[Any]]:
    """The value that most records have, and those records."""
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for record in reading.records:
        value = order.value(record)
        if value is not None:
            groups.setdefault(order.key(value), (value, []))[1].append(record)
    return max(groups.values(), key=lambda group: len(group[1]), default=(None, []))


def _page(
    source: Source, api: Probe, scope: Mapping[str, Any], value: Any, after: Any
) -> list[dict[str, Any]]:
    call = source.tie_call({**scope, "cursor": None}, value, after)
    call = turned(call, next(turns(source.method.pagination)))
    return [r for r in records_of(read_page(source, api.send(call))) if isinstance(r, dict)]


def _is_of_the_value(
    collection: DataCollection,
    order: CursorOrder,
    value: Any,
    tied: list[Any],
    first: list[Any],
    findings: Findings,
) -> bool:
    keys = [order.key(v) for record in first if (v := order.value(record)) is not None]
    older = sum(key < order.key(value) for key in keys)
    came = {id_in(collection, record) for record in first}
    lost = {id_in(collection, record) for record in tied} - came
    if older or len(keys) < len(first):
        seen = f"{older or len(first) - len(keys)} of {len(first)} records are of another value"
        findings.failed(PROMISE, seen, "let its request ask for $.tie.value alone")
    elif not came & {id_in(collection, record) for record in tied}:
        seen = f"of {len(tied)} records of one value none came"
        findings.failed(PROMISE, seen, "does the app read $.tie.value as it's sent?")
    elif lost and len(first) >= len(tied):
        seen = f"{len(lost)} of {len(tied)} records of one value didn't come"
        findings.failed(PROMISE, seen, "let its request ask for $.tie.value alone")
    else:
        return True
    return False


def _goes_on(
    collection: DataCollection,
    source: Source,
    api: Probe,
    scope: Mapping[str, Any],
    value: Any,
    first: list[Any],
    findings: Findings,
) -> None:
    assert source.tie_break is not None
    if len(first) < 2:
        findings.unproven(PROMISE, "no two records share a value", "save some in one batch")
        return
    middle = len(first) // 2 - 1
    formula = source.tie_break.after
    after = value_at({"$var": collection.id} if formula is None else formula, first[middle])
    rest = [id_in(collection, r) for r in _page(source, api, scope, value, after)]
    ids = [id_in(collection, record) for record in first]
    again = set(rest) & set(ids[: middle + 1])
    missing = set(ids[middle + 1 :]) - set(rest)
    if again or missing:
        seen = (
            f"after the {middle + 1}th of {len(ids)} records, {len(again)} that were before it "
            f"came, and {len(missing)} behind it didn't"
        )
        advice = "the app must sort by what `after` is, and give what comes after $.tie.after"
        findings.failed(PROMISE, seen, advice)
    else:
        findings.ok(PROMISE, f"{len(ids)} records of one value, in the order of their ids")
