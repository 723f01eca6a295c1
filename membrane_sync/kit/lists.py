"""The promises of a list: pages, ids, fields, totals, deletions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.errors import MembraneError
from membrane_sync.kit.ends import check_end
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, Reading, id_in, read, value_at

Scope = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


def check_list(
    collection: DataCollection, api: Probe, scope: Scope, pages: int, findings: Findings
) -> Reading | None:
    """Read some pages and judge them; gives what was read, None if nothing could be."""
    method = collection.list_
    if method is None or method.not_supported:
        findings.undeclared("list")
        return None
    try:
        reading = read(collection, api, scope, pages)
    except MembraneError as error:
        findings.failed("list", error.message, error.hint)
        return None
    count, whole = len(reading.records), "all of it" if reading.ended else "the first pages"
    findings.ok("list", f"{count:,} records on {len(reading.pages)} pages, {whole}")
    if not count:
        findings.unproven("pages, ids, fields", "the list is empty", "add some records over there")
        return None
    _ids(collection, reading, findings)
    _pages(method, collection, reading, findings)
    _page_size(method, reading, findings)
    _totals(method, reading, findings)
    check_end(collection, api, scope, reading, findings)
    _again(collection, api, scope, reading, findings)
    _fields(collection, reading, findings)
    _deletes(collection, reading, findings)
    return reading


def _ids(collection: DataCollection, reading: Reading, findings: Findings) -> None:
    ids = [id_in(collection, record) for record in reading.records]
    missing = ids.count(None) + reading.strange
    if missing:
        seen = f"{missing} of {len(ids) + reading.strange} records have no id at {collection.id}"
        findings.failed("id", seen, "say in `id` where it is; text or a whole number")
        return
    twice = sum(times - 1 for times in Counter(ids).values())
    if twice:
        advice = (
            "is the id unique in the account, or only below a parent? If the records are the same, "
            "the list has no fixed order: let the app sort it"
        )
        findings.failed("id", f"{twice} ids came more than once", advice)
        return
    findings.ok("id", f"{len(ids)} different ids")


def _pages(
    method: ListMethod, collection: DataCollection, reading: Reading, findings: Findings
) -> None:
    kind = method.pagination.type
    promise = f"pagination {kind}"
    if kind == "none":
        advice = "does the app really give everything at once?"
        if len(reading.records) in (10, 20, 25, 50, 100, 200, 250, 500, 1000):
            seen = f"exactly {len(reading.records)} records came"
            findings.unproven(promise, seen, f"that looks like a page; {advice}")
        else:
            findings.ok(promise, f"{len(reading.records)} records at once")
        return
    if len(reading.pages) < 2:
        findings.unproven(promise, "one page held everything", "a smaller page_size shows more")
        return
    first = {id_in(collection, record) for record in reading.pages[0]}
    same = [page for page in reading.pages[1:] if page and _ids_of(collection, page) <= first]
    if same:
        findings.failed(
            promise,
            "a later page has the records of the first",
            "is `parameter` what the app reads?",
        )
        return
    findings.ok(promise, f"{len(reading.pages)} pages that differ")


def _ids_of(collection: DataCollection, page: list[dict[str, Any]]) -> set[str | None]:
    return {id_in(collection, record) for record in page}


def _page_size(method: ListMethod, reading: Reading, findings: Findings) -> None:
    size = method.pagination.page_size
    if not method.pagination.page_size_parameter or size is None:
        if method.pagination.type != "none":
            findings.undeclared(
                "page size", "larger pages need fewer requests: page_size_parameter"
            )
        return
    largest = max(len(page) for page in reading.pages)
    if largest > size:
        findings.failed(
            "page size", f"{largest} records came, {size} were asked for", "is the parameter right?"
        )
    elif len(reading.pages) > 1 and len(reading.pages[0]) < size:
        seen = f"{len(reading.pages[0])} records came, {size} were asked for, and there are more"
        findings.failed("page size", seen, f"the app's most is {len(reading.pages[0])}: say so")
    elif len(reading.pages) > 1:
        findings.ok("page size", f"{size}, as asked for")
    else:
        findings.unproven("page size", "there is no full page")


def _totals(method: ListMethod, reading: Reading, findings: Findings) -> None:
    pagination = method.pagination
    for name, formula, seen in (
        ("total_records", pagination.total_records, len(reading.records)),
        ("total_pages", pagination.total_pages, len(reading.pages)),
    ):
        if formula is None:
            continue
        said = value_at(formula, reading.scopes[0])
        if isinstance(said, bool) or not isinstance(said, int | float):
            advice = "a list whose length is not told needs another end, as has_more"
            findings.failed(name, f"the answer has {type(said).__name__} there", advice)
        elif said < seen:
            advice = "reading would stop too early: leave it out"
            findings.failed(name, f"it says {said}, {seen} came", advice)
        elif not reading.ended:
            findings.unproven(name, f"it says {said}, {seen} were read", "raise --pages")
        elif said > seen:
            findings.failed(name, f"it says {said}, {seen} came", "is something filtered out?")
        else:
            findings.ok(name, f"{said}, as came")


def _again(
    collection: DataCollection, api: Probe, scope: Scope, reading: Reading, findings: Findings
) -> None:
    """Ask for the first page once more: are ids what stays?"""
    try:
        again = read(collection, api, scope, 1)
    except MembraneError as error:
        findings.failed("same again", error.message, error.hint)
        return
    before = [id_in(collection, record) for record in reading.pages[0]]
    after = [id_in(collection, record) for record in again.pages[0]]
    if before == after:
        findings.ok("same again", "the same ids in the same order")
        return
    common = set(before) & set(after)
    if not common:
        findings.failed("same again", "no id of the first page came again", "is `id` a real id?")
    elif set(before) == set(after):
        seen = "the same ids in another order"
        findings.unproven("same again", seen, "pages drift if the app doesn't sort the list")
    else:
        findings.unproven(
            "same again", f"{len(common)} of {len(before)} ids came again", "did someone change it?"
        )


def _fields(collection: DataCollection, reading: Reading, findings: Findings) -> None:
    declared: Mapping[str, Any] = collection.fields_schema.get("properties") or {}
    if not declared:
        findings.undeclared("fields", "fields_schema makes columns of them")
        return
    wrong = [
        name
        for name, schema in declared.items()
        if any(not fits(schema, record.get(name)) for record in reading.records)
    ]
    never = [n for n in declared if all(n not in record for record in reading.records)]
    more = sorted({n for record in reading.records for n in record} - set(declared))
    if wrong:
        seen = f"of another type: {', '.join(wrong)}"
        findings.failed("fields", seen, "such values become dead letters: mend fields_schema")
    elif never:
        findings.unproven("fields", f"never seen: {', '.join(never)}", "are they spelt so?")
    else:
        seen = f"{len(declared)} fields fit"
        findings.ok("fields", f"{seen}; not declared: {', '.join(more)}" if more else seen)


def fits(schema: Any, value: Any) -> bool:
    """Whether a value is of one of the types that the schema names; nothing fits always."""
    if value is None or not isinstance(schema, Mapping):
        return True
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    allowed = [kind for name in names if name in _TYPES for kind in _TYPES[name]]
    if not allowed:
        return True
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, tuple(allowed))


def _deletes(collection: DataCollection, reading: Reading, findings: Findings) -> None:
    deletes = collection.deletes
    if deletes.tombstone is not None:
        gone = sum(bool(value_at(deletes.tombstone, record)) for record in reading.records)
        if gone == len(reading.records):
            advice = "the formula is true of every record: all would be deleted"
            findings.failed("tombstone", f"all {gone} records are deleted", advice)
        elif gone:
            findings.ok("tombstone", f"{gone} of {len(reading.records)} records are deleted")
        else:
            advice = "delete one over there, and check again"
            findings.unproven("tombstone", "no deleted record was seen", advice)
    if deletes.full_scan:
        if reading.ended:
            findings.ok("full_scan", "the list came to its end")
        else:
            findings.unproven("full_scan", "the end was not reached", "raise --pages")
    if deletes.tombstone is None and not deletes.full_scan and deletes.endpoint is None:
        findings.undeclared("deletes", "deleted records would stay: tombstone, or full_scan: true")
