"""The promises about one record: found by id, matched, searched; created, updated and deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from membrane_sync.elements.data_collection import DataCollection, RecordMethod, WriteMethod
from membrane_sync.elements.request import Request
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, id_in, shown, value_at
from membrane_sync.sync.collection import render

Scope = Mapping[str, Any]
MARK = "membrane-check"
"""In the addresses of records that the kit creates."""


class Single:
    """Sends the methods of a collection that are about one record."""

    def __init__(self, collection: DataCollection, api: Probe, scope: Scope) -> None:
        self.collection = collection
        self._api = api
        self._scope = scope

    def find(self, method: RecordMethod, **given: Any) -> Any:
        """The record that the method gives, None if there's none."""
        return value_at({"$var": method.record}, self._send(method, given))

    def searched(self, text: str) -> list[Any]:
        """The records that a search gives."""
        assert self.collection.search is not None
        scope = self._send(self.collection.search, {"query": text})
        found = value_at({"$var": self.collection.search.records}, scope)
        return found if isinstance(found, list) else []

    def write(self, method: WriteMethod, **given: Any) -> Any:
        """Create, update or delete; gives what `response` says, as the new id."""
        scope = self._send(method, given)
        return None if method.response is None else value_at(method.response, scope)

    def _send(self, method: Request, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return shown(self._api.send(render(method, {**self._scope, **given})))


def check_reading(single: Single, records: list[dict[str, Any]], findings: Findings) -> None:
    """find_by_id, match and search, with a record that the list has."""
    collection = single.collection
    alive = [record for record in records if not _is_gone(collection, record)]
    for name in ("find_by_id", "match", "search"):
        method = getattr(collection, name)
        if method is None or method.not_supported:
            findings.undeclared(name)
        elif not alive:
            findings.unproven(name, "there is no record to look for")
        else:
            with _failing(name, findings):
                _READS[name](single, alive, findings)


def _find_by_id(single: Single, records: list[dict[str, Any]], findings: Findings) -> None:
    assert single.collection.find_by_id is not None
    for record in (records[0], records[-1]):
        wanted = id_in(single.collection, record)
        found = single.find(single.collection.find_by_id, id=wanted)
        if id_in(single.collection, found) != wanted:
            seen = "the answer has no record with the id that was asked for"
            findings.failed("find_by_id", seen, "compare `path` and `record` with the answer")
            return
    missing = sorted(set(records[-1]) - set(found))
    if missing:
        seen = f"the list has fields that it lacks: {', '.join(missing)}"
        findings.failed("find_by_id", seen, "is `record` where the record is?")
    else:
        findings.ok("find_by_id", f"the same record, {len(found)} fields")


def _match(single: Single, records: list[dict[str, Any]], findings: Findings) -> None:
    method = single.collection.match
    assert method is not None
    known = [record for record in records if all(record.get(name) for name in method.fields)]
    if not method.fields or not known:
        findings.unproven("match", "no record has the fields to match by", "declare `fields`")
        return
    wanted = {name: known[0][name] for name in method.fields}
    found = single.find(method, fields=wanted)
    if isinstance(found, dict) and all(found.get(n) == value for n, value in wanted.items()):
        findings.ok("match", f"a record with the same {', '.join(wanted)}")
    else:
        seen = f"no record came for the {', '.join(wanted)} of one"
        findings.failed("match", seen, "compare `query` and `record` with the answer")


def _search(single: Single, records: list[dict[str, Any]], findings: Findings) -> None:
    texts = [v for v in records[0].values() if isinstance(v, str) and len(v) > 3]
    wanted = id_in(single.collection, records[0])
    for text in texts[1:4] or texts:
        if wanted in {id_in(single.collection, found) for found in single.searched(text)}:
            findings.ok("search", "a record was found by one of its texts")
            return
    advice = "it may search other fields, or records may take time to be found"
    findings.unproven("search", "a record wasn't found by its first texts", advice)


_READS = {"find_by_id": _find_by_id, "match": _match, "search": _search}


def check_writing(
    single: Single,
    sample: Mapping[str, Any] | None,
    mark: str,
    records: list[Any],
    findings: Findings,
) -> None:
    """Create a record, change it, delete it; whatever fails, what was created is deleted.

    Without a `sample` of its fields, it's made like one that's there, told apart by the `mark`.
    """
    collection = single.collection
    if collection.create is None or collection.create.not_supported:
        for name in ("create", "update", "delete"):
            findings.undeclared(name)
        return
    fields = dict(sample) if sample else sample_of(collection, mark, records)
    if not fields:
        findings.unproven("create", "there is no record to make one like", "give --sample")
        return
    created: str | None = None
    with _failing("create", findings):
        made = single.write(collection.create, fields=fields)
        if isinstance(made, bool) or not isinstance(made, str | int):
            advice = "look for a record with texts of membrane-check and delete it by hand"
            findings.failed("create", "`response` gives no id", advice)
            return
        created = str(made)
        _created(single, created, fields, findings)
    if created is None:
        return
    deleted = False
    try:
        with _failing("update", findings):
            _updated(single, created, fields, findings)
    finally:
        with _failing("delete", findings):
            deleted = _deleted(single, created, findings)
        if not deleted:
            advice = f"delete the record {created} by hand"
            findings.failed("cleaning up", "the record that was created is still there", advice)


def _created(single: Single, made: str, fields: Scope, findings: Findings) -> None:
    found = _find(single, made)
    wrong = [name for name, v in fields.items() if isinstance(found, dict) and found.get(name) != v]
    if found is None:
        findings.unproven("create", "an id came back", "declare find_by_id to see the record")
    elif wrong:
        seen = f"other values came back: {', '.join(wrong)}"
        findings.failed("create", seen, "are they read-only? Then name them in excluded_fields")
    else:
        findings.ok("create", f"a record with {len(fields)} fields as given")


def _updated(single: Single, made: str, fields: Scope, findings: Findings) -> None:
    method = single.collection.update
    if method is None or method.not_supported:
        findings.undeclared("update")
        return
    name = next((n for n, v in fields.items() if isinstance(v, str) and MARK in v), None)
    if name is None:
        findings.unproven("update", "the record has no text to change")
        return
    changed = {name: str(fields[name]).replace(MARK, f"{MARK}-2")}
    single.write(method, id=made, fields=changed)
    found = _find(single, made)
    if found is None:
        findings.unproven("update", "the call went well", "declare find_by_id to see the record")
    elif found.get(name) == changed[name]:
        findings.ok("update", f"{name} is as given")
    else:
        findings.failed("update", f"{name} is as it was", "compare the request with the app's API")


def _deleted(single: Single, made: str, findings: Findings) -> bool:
    method = single.collection.delete
    if method is None or method.not_supported:
        findings.undeclared("delete")
        return False
    single.write(method, id=made)
    try:
        found = _find(single, made)
    except MembraneError:
        found = None
    if isinstance(found, dict) and not _is_gone(single.collection, found):
        findings.failed("delete", "the record is still there", "compare the request with the API")
        return False
    findings.ok("delete", "the record is gone")
    return True


def _find(single: Single, made: str) -> Any:
    method = single.collection.find_by_id
    return None if method is None else single.find(method, id=made)


def sample_of(collection: DataCollection, mark: str, records: list[Any]) -> dict[str, Any]:
    """Fields for a new record: those of one that's there, with texts of their own."""
    create = collection.create
    if create is None or not records:
        return {}
    declared = collection.fields_schema.get("properties") or {}
    names = create.fields or [n for n in declared if n not in create.excluded_fields]
    names = [*create.required_fields, *(n for n in names if n not in create.required_fields)]
    model = next((r for r in records if not _is_gone(collection, r)), records[0])
    return {
        name: _own(model[name], mark)
        for name in names
        if model.get(name) is not None and name not in create.excluded_fields
    }


def _own(value: Any, mark: str) -> Any:
    """The value; of an address, another one. Other texts stay: they may be one of a few."""
    if isinstance(value, str) and "@" in value:
        return f"{MARK}-{mark}@example.org"
    return value


def _is_gone(collection: DataCollection, record: Any) -> bool:
    tombstone = collection.deletes.tombstone
    return tombstone is not None and bool(value_at(tombstone, record))


@contextmanager
def _failing(promise: str, findings: Findings) -> Iterator[None]:
    """An error of the app is a finding, and the next promise is looked at."""
    try:
        yield
    except MembraneError as error:
        findings.failed(promise, error.message, error.hint)
