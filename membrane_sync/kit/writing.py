"""The promises about one record that is written: created, updated, deleted, and seen after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.following import Following
from membrane_sync.kit.patience import Patience
from membrane_sync.kit.reading import id_in
from membrane_sync.kit.single import Single, failing, is_gone

Scope = Mapping[str, Any]
MARK = "membrane-check"
"""In the addresses of records that the kit creates."""


def check_writing(
    single: Single,
    following: Following,
    patience: Patience,
    sample: Mapping[str, Any] | None,
    mark: str,
    records: list[Any],
    findings: Findings,
) -> None:
    """Create a record, change it, delete it; whatever fails, what was created is deleted.

    After each, what the next sync would read is read.

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
    with failing("create", findings):
        following.before()
        made = single.write(collection.create, fields=fields)
        if isinstance(made, bool) or not isinstance(made, str | int):
            advice = "look for a record with texts of membrane-check and delete it by hand"
            findings.failed("create", "`response` gives no id", advice)
            return
        if str(made) in {id_in(collection, record) for record in records}:
            advice = "let it leave the id to the app: name it in excluded_fields"
            findings.failed("create", f"{made} is the id of a record that was there before", advice)
            return
        created = str(made)
        _created(_Found(single, created, patience), fields, findings)
    if created is None:
        return
    deleted, found = False, _Found(single, created, patience)
    try:
        with failing("create is seen", findings):
            following.created(created, findings)
        with failing("update", findings):
            _updated(found, following, fields, findings)
    finally:
        with failing("conditional", findings):
            following.before()
        with failing("delete", findings):
            deleted = _deleted(found, findings)
        if deleted:
            with failing("delete is seen", findings):
                following.deleted(created, findings)
        if not deleted:
            advice = f"delete the record {created} by hand"
            findings.failed("cleaning up", "the record that was created is still there", advice)


class _Found:
    """The record that was created, as find_by_id gives it; None where that isn't declared."""

    def __init__(self, single: Single, made: str, patience: Patience) -> None:
        self.single = single
        self.id = made
        self._patience = patience

    def until(self, holds: Callable[[Any], bool]) -> Any:
        """The record once it's as it should be, or as it is at last; one that's gone is `{}`."""
        if self.single.collection.find_by_id is None:
            return None
        return self._patience.until(self._now, holds)

    def _now(self) -> Any:
        method = self.single.collection.find_by_id
        assert method is not None
        try:
            found = self.single.find(method, id=self.id)
        except MembraneError:
            return {}
        return {} if is_gone(self.single.collection, found) else found


def _created(found: _Found, fields: Scope, findings: Findings) -> None:
    def wrong(record: Any) -> list[str]:
        given = record if isinstance(record, dict) else {}
        return [name for name, value in fields.items() if given.get(name) != value]

    record = found.until(lambda record: not wrong(record))
    if record is None:
        findings.unproven("create", "an id came back", "declare find_by_id to see the record")
    elif not record:
        seen = "find_by_id doesn't find it by the id that `response` gives"
        findings.failed("create", seen, "compare `response` with what the app answers")
    elif wrong(record):
        seen = f"other values came back: {', '.join(wrong(record))}"
        findings.failed("create", seen, "are they read-only? Then name them in excluded_fields")
    else:
        findings.ok("create", f"a record with {len(fields)} fields as given")


def _updated(found: _Found, following: Following, fields: Scope, findings: Findings) -> None:
    method = found.single.collection.update
    if method is None or method.not_supported:
        findings.undeclared("update")
        return
    name = next((n for n, v in fields.items() if isinstance(v, str) and MARK in v), None)
    if name is None:
        findings.unproven("update", "the record has no text to change")
        return
    for last in (False, True):
        following.before()
        value = str(fields[name]).replace(MARK, f"{MARK}-{3 if last else 2}")
        found.single.write(method, id=found.id, fields={name: value})
        if not _is_changed(found, name, value, findings):
            return
        if following.updated(found.id, name, value, findings, last=last):
            return


def _is_changed(found: _Found, name: str, value: str, findings: Findings) -> bool:
    def is_so(record: Any) -> bool:
        return isinstance(record, dict) and record.get(name) == value

    record = found.until(is_so)
    if record is None:
        findings.unproven("update", "the call went well", "declare find_by_id to see the record")
    elif is_so(record):
        findings.ok("update", f"{name} is as given")
    else:
        findings.failed("update", f"{name} is as it was", "compare the request with the app's API")
    return record is None or is_so(record)


def _deleted(found: _Found, findings: Findings) -> bool:
    method = found.single.collection.delete
    if method is None or method.not_supported:
        findings.undeclared("delete")
        return False
    found.single.write(method, id=found.id)
    if found.until(lambda record: not record):
        findings.failed("delete", "the record is still there", "compare the request with the API")
        return False
    findings.ok("delete", "the record is gone")
    return True


def sample_of(collection: DataCollection, mark: str, records: list[Any]) -> dict[str, Any]:
    """Fields for a new record: those of one that's there, with texts of their own."""
    create = collection.create
    if create is None or not records:
        return {}
    declared = collection.fields_schema.get("properties") or {}
    cursor = collection.list_.cursor if collection.list_ else None
    apps = {collection.id, cursor.field if cursor else ""}
    names = create.fields or [name for name in declared if f"$.{name}" not in apps]
    names = [*create.required_fields, *(n for n in names if n not in create.required_fields)]
    model = next((r for r in records if not is_gone(collection, r)), records[0])
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
