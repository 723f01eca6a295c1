"""The promises of a cursor: its values, its order, and what the app does with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from membrane_sync.elements.data_collection import Cursor, DataCollection
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, Reading, id_in, read, value_at
from membrane_sync.sync.cursor import CursorOrder

Scope = Mapping[str, Any]


def check_cursor(
    collection: DataCollection,
    api: Probe,
    scope: Scope,
    reading: Reading,
    pages: int,
    findings: Findings,
) -> None:
    """Judge the values of what was read, and ask again from one in their middle."""
    cursor = collection.list_.cursor if collection.list_ else None
    if cursor is None:
        findings.undeclared("cursor", "without one, every sync reads everything")
        return
    if cursor.is_delta:
        _token(collection, cursor, api, scope, reading, findings)
        return
    order = CursorOrder(cursor)
    if not _values(cursor, order, reading, findings):
        return
    _nulls(cursor, order, reading, findings)
    _sorted(cursor, order, reading, findings)
    _unique(cursor, order, reading, findings)
    _filter(collection, cursor, order, api, scope, reading, pages, findings)


def _token(
    collection: DataCollection,
    cursor: Cursor,
    api: Probe,
    scope: Scope,
    reading: Reading,
    findings: Findings,
) -> None:
    """The last page has a token, and asked from it the app has little to say."""
    if not reading.ended:
        findings.unproven("delta token", "the last page was not reached", "raise --pages")
        return
    token = value_at(cursor.delta_token, reading.scopes[-1])
    if token is None:
        findings.failed("delta token", "the last page has none", "say in delta_token where it is")
        return
    try:
        again = read(collection, api, {**scope, "cursor": token}, 1)
    except MembraneError as error:
        findings.failed("delta token", error.message, error.hint)
        return
    count = len(again.records)
    if count == len(reading.pages[0]) and count:
        seen = "asked from the token, the first page came again"
        findings.failed("delta token", seen, "does the request send $.delta_token?")
    else:
        findings.ok("delta token", f"{count} records since the token")


def _values(cursor: Cursor, order: CursorOrder, reading: Reading, findings: Findings) -> bool:
    found = [order.found(record) for record in reading.records]
    present = [value for value in found if value is not None]
    if not present:
        seen = f"no record has anything at {cursor.field}"
        findings.failed("cursor field", seen, "say in `field` where it is")
        return False
    faults = [fault for record in reading.records if (fault := order.fault(record))]
    if faults:
        seen = f"{len(faults)} of {len(present)} values: {faults[0]}"
        findings.failed("cursor field", seen, "mend `type`; such records are never passed")
        return False
    findings.ok("cursor field", f"{len(present)} values of type {cursor.type}")
    return True


def _nulls(cursor: Cursor, order: CursorOrder, reading: Reading, findings: Findings) -> None:
    empty = [order.found(record) is None for record in reading.records]
    count = sum(empty)
    if not count:
        findings.unproven(f"nulls {cursor.nulls}", "every record has a value")
    elif cursor.nulls == "fail":
        findings.failed("nulls fail", f"{count} records have no value", "include or exclude them")
    elif cursor.nulls == "include" and _stops(cursor) and not all(empty[:count]):
        advice = (
            "those after the first page would be lost: nulls: exclude or fail"
            if cursor.sorted == "ascending"
            else "new ones would only be found by a full scan: let the app put them first"
        )
        findings.failed("nulls include", f"{count} records without a value are not first", advice)
    else:
        findings.ok(f"nulls {cursor.nulls}", f"{count} records have no value")


def _stops(cursor: Cursor) -> bool:
    """Whether a reading goes past records by their values, and so past those without one."""
    return cursor.sorted != "none"


def _sorted(cursor: Cursor, order: CursorOrder, reading: Reading, findings: Findings) -> None:
    keys = [order.key(v) for record in reading.records if (v := order.value(record)) is not None]
    ascending = all(one <= other for one, other in pairwise(keys))
    descending = all(one >= other for one, other in pairwise(keys))
    actual = "ascending" if ascending else "descending" if descending else "no order"
    promise = f"sorted {cursor.sorted}"
    if cursor.sorted == "none":
        findings.undeclared("sorted", f"{actual} was seen; let the app sort if it can")
    elif len(set(map(str, keys))) < 2:
        findings.unproven(promise, "all values are the same")
    elif actual == cursor.sorted:
        findings.ok(promise, f"{len(keys)} values in order")
    else:
        seen = f"{actual} was seen"
        findings.failed(promise, seen, "ask the app to sort, or declare what it does")


def _unique(cursor: Cursor, order: CursorOrder, reading: Reading, findings: Findings) -> None:
    if not cursor.unique:
        return
    values = [str(v) for record in reading.records if (v := order.value(record)) is not None]
    times = max(Counter(values).values())
    if times > 1:
        seen = f"{times} records share a value"
        findings.failed("unique", seen, "take unique out; an exclusive cursor needs lag_seconds")
    else:
        findings.ok("unique", f"{len(values)} different values")


def _filter(
    collection: DataCollection,
    cursor: Cursor,
    order: CursorOrder,
    api: Probe,
    scope: Scope,
    reading: Reading,
    pages: int,
    findings: Findings,
) -> None:
    promise = f"filter {'inclusive' if cursor.inclusive else 'exclusive'}"
    if cursor.filtered_by == "client":
        findings.undeclared("filter", "the app isn't asked from a value")
        return
    if cursor.slices is not None:
        findings.unproven(promise, "the list is read by windows")
        return
    values = sorted(
        {order.key(v): v for r in reading.records if (v := order.value(r)) is not None}.items(),
        key=lambda item: item[0],
    )
    if len(values) < 3:
        findings.unproven(promise, "too few different values", "change some records over there")
        return
    key, asked = values[len(values) // 2]
    try:
        again = read(collection, api, {**scope, "cursor": asked}, pages)
    except MembraneError as error:
        advice = error.hint or "how does the app want the time written?"
        findings.failed(promise, f"asked from a record's value: {error.message}", advice)
        return
    keys = [order.key(v) for record in again.records if (v := order.value(record)) is not None]
    older = sum(found < key for found in keys)
    if older:
        seen = f"{older} of {len(keys)} records are older than what was asked from"
        findings.failed(promise, seen, "does the request send $.cursor as the app reads it?")
        return
    if not keys:
        findings.failed(promise, "nothing came", "does the app read the value as a time?")
        return
    equal = sum(found == key for found in keys)
    if equal and not cursor.inclusive:
        seen = f"{equal} records equal to the value came again"
        findings.failed(promise, seen, "the app's filter is >=: inclusive: true")
    elif not equal and cursor.inclusive and (again.ended or cursor.sorted == "ascending"):
        seen = "no record equal to the value came again"
        findings.failed(promise, seen, "the app's filter is >: inclusive: false")
    elif not equal and cursor.inclusive:
        findings.unproven(promise, "the end was not reached", "raise --pages")
    else:
        findings.ok(promise, f"{len(keys)} records from there on, {equal} of them equal to it")
    _complete(collection, order, key, reading, again, findings)


def _complete(
    collection: DataCollection,
    order: CursorOrder,
    key: Any,
    reading: Reading,
    again: Reading,
    findings: Findings,
) -> None:
    """All that was newer in the first reading must come again."""
    if not again.ended:
        return
    newer = {
        id_in(collection, record)
        for record in reading.records
        if (value := order.value(record)) is not None and order.key(value) > key
    }
    lost = newer - {id_in(collection, record) for record in again.records}
    if lost:
        seen = f"{len(lost)} of {len(newer)} newer records didn't come"
        findings.failed("filter is whole", seen, "the app compares something else: text, or days?")
    else:
        findings.ok("filter is whole", f"all {len(newer)} newer records came")
