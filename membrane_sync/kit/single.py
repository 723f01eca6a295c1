"""The promises about one record that is there: found by id, matched, searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from membrane_sync.calls import as_call, concluded
from membrane_sync.elements.data_collection import DataCollection, RecordMethod, WriteMethod
from membrane_sync.elements.request import Request
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, id_in, shown, value_at
from membrane_sync.records import Call
from membrane_sync.sync.collection import render
from membrane_sync.sync.rendering import by_function

Scope = Mapping[str, Any]


class Single:
    """Sends the methods of a collection that are about one record."""

    def __init__(self, collection: DataCollection, api: Probe, scope: Scope) -> None:
        self.collection = collection
        self._api = api
        self._scope = scope

    def find(self, method: RecordMethod, **given: Any) -> Any:
        """The record that the method gives, None if there's none."""
        if method.function is None:
            return value_at({"$var": method.record}, self._send(method, given))
        made = by_function(method, {**self._scope, **given}, self._api.functions)
        if isinstance(made, Call):
            return value_at({"$var": method.record}, shown(self._api.send(made)))
        name = str(method.function)
        found, _ = concluded(
            made, name, lambda call: self._api.send(as_call(call, name, method.errors))
        )
        return found

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
    alive = [record for record in records if not is_gone(collection, record)]
    for name in ("find_by_id", "match", "search"):
        method = getattr(collection, name)
        if method is None or method.not_supported:
            findings.undeclared(name)
        elif not alive:
            findings.unproven(name, "there is no record to look for")
        else:
            with failing(name, findings):
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


def is_gone(collection: DataCollection, record: Any) -> bool:
    """Whether the record is a tombstone."""
    tombstone = collection.deletes.tombstone
    return tombstone is not None and bool(value_at(tombstone, record))


@contextmanager
def failing(promise: str, findings: Findings) -> Iterator[None]:
    """An error of the app is a finding, and the next promise is looked at."""
    try:
        yield
    except MembraneError as error:
        findings.failed(promise, error.message, error.hint)
