"""The promises of a list of deleted records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import MembraneError
from membrane_sync.kit.cursors import check_cursor
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, Reading, id_in, read, value_at
from membrane_sync.sync.collection import deleted_collection

ENOUGH = 10
"""So many ids show what ids look like."""


def check_deletions(
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    reading: Reading,
    pages: int,
    findings: Findings,
) -> None:
    """Read the list of deleted records, and hold its ids against those that exist."""
    endpoint = collection.deletes.endpoint
    if endpoint is None or endpoint.not_supported:
        return
    gone, findings = deleted_collection(collection), findings.of("deleted")
    try:
        deleted = read(gone, api, scope, pages)
    except MembraneError as error:
        findings.failed("list", error.message, error.hint)
        return
    findings.ok("list", f"{len(deleted.records):,} records on {len(deleted.pages)} pages")
    if not deleted.records and not deleted.strange:
        findings.unproven("id", "nothing was deleted", "delete a record over there")
        return
    _ids(collection, gone, reading, deleted, findings)
    if gone.list_ is not None and gone.list_.cursor is not None:
        check_cursor(gone, api, scope, deleted, pages, findings)
    else:
        findings.undeclared("cursor", "without one, every sync reads all deletions")


def _ids(
    collection: DataCollection,
    gone: DataCollection,
    reading: Reading,
    deleted: Reading,
    findings: Findings,
) -> None:
    ids = [id_in(gone, record) for record in deleted.records]
    missing = ids.count(None) + deleted.strange
    tombstone = collection.deletes.tombstone
    alive = {
        id_in(collection, record)
        for record in reading.records
        if tombstone is None or not value_at(tombstone, record)
    }
    known, told = _texts(alive), _texts(ids)
    if missing:
        seen = f"{missing} of {len(ids) + deleted.strange} records have no id at {gone.id}"
        findings.failed("id", seen, "say in `id` of the endpoint where the deleted id is")
    elif told <= known:
        seen = f"all {len(told)} are in the list of those that exist, too"
        findings.failed("id", seen, "are those really deleted? They would come back at each sync")
    elif len(known) >= ENOUGH and (strange := _signs(told) - _signs(known)):
        seen = f"they have {' '.join(sorted(strange))}, which no id of the list has: {min(told)!r}"
        findings.failed("id", seen, "is that the id of the record, as the list has it?")
    else:
        findings.ok("id", f"{len(told)} ids, {len(told & known)} of them in the list again")


def _texts(ids: Iterable[str | None]) -> set[str]:
    return {found for found in ids if found is not None}


def _signs(ids: Iterable[str]) -> set[str]:
    """What ids are written with: digits, letters, and each other sign."""
    letters = (re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", one)) for one in ids)
    return {sign for one in letters for sign in re.sub(r"\d", "9", one)}
