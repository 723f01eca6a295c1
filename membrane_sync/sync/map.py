"""3 map: records of the app become records of the product, by the field mapping's formulas."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.formulas import MISSING, FieldError, clock
from membrane_sync.formulas.lookups import Find, is_asking
from membrane_sync.formulas.python import Functions
from membrane_sync.ports import Lake
from membrane_sync.records import Change, DeadLetter, MappedRecord, Offset, Report
from membrane_sync.sync.mapper import Mapper, importer, map_texts
from membrane_sync.sync.store import Progress

BATCH = 20_000

MOST_NAMES = 100
"""Names of dropped fields that a report keeps; a mapping may take its names from records."""


def map_stream(
    lake: Lake,
    sync: str,
    stream: str,
    mapping: FieldMapping,
    schema: DataSchema | None,
    version: str,
    report: Report,
    progress: Progress = lambda _v, _r: None,
    find: Find | None = None,
    functions: Functions | None = None,
) -> None:
    """Map what changed in the stream since the last time; all of it if the mapping is another.

    Each batch commits its mapped records together with how far it came. Records that asked in vain
    for a link, or for another record, are mapped again each time, until they find it.
    """
    consumer = f"map:{sync}"
    offset = lake.offset(consumer)
    if offset.version != version:
        offset = Offset(consumer, 0, version)
    mapper = replace(importer(mapping, schema), find=find, functions=functions)
    for changes, reached in _batches(lake, sync, stream, offset, is_asking(mapper.template)):
        batch = import_records(mapper, sync, changes)
        counts = lake.keep_mapped(
            sync, batch.records, batch.dead, reached, mapper.schema, waiting=batch.waiting
        )
        report.mapped += counts.mapped
        report.failed += len({letter.external_id for letter in batch.dead})
        report.dropped_fields = dropped_names(report.dropped_fields, batch.dropped)
        progress("map", report)


def _batches(
    lake: Lake, sync: str, stream: str, offset: Offset, asking: bool
) -> Iterator[tuple[Sequence[Change], Offset]]:
    """What waits since an earlier run, then what changed; each with how far it brings us."""
    after = ""
    while asking and offset.seq and (again := lake.waiting(sync, stream, after, BATCH)):
        after = again[-1].external_id
        yield again, offset
    while changes := lake.changes(stream, offset.seq, BATCH):
        offset = replace(offset, seq=changes[-1].seq)
        yield changes, offset


@dataclass
class Imported:
    """What one batch of changes became."""

    records: list[MappedRecord] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)


def import_records(mapper: Mapper, sync: str, changes: Sequence[Change]) -> Imported:
    """The changed records in the product's shape; of each record only its present state.

    A record with a field that fails is not mapped at all, and each such field is a dead letter.
    """
    latest = {change.external_id: change.payload for change in changes}
    present = {i: payload for i, payload in latest.items() if payload is not None}
    with clock.at(datetime.now(UTC)):
        mapped = dict(zip(present, map_texts(mapper, list(present.values())), strict=True))
    result = Imported()
    for external_id in latest:
        found = mapped.get(external_id)
        if found is None:
            result.records.append(MappedRecord(external_id, None, ""))
        elif found.text is not None:
            result.records.append(MappedRecord(external_id, found.text, _digest(found.text)))
        if found is not None:
            result.dead += [_dead_letter(sync, external_id, error) for error in found.errors]
            result.dropped |= found.dropped
            result.waiting += [external_id] if found.waits else []
    return result


def dropped_names(known: Sequence[str], more: Iterable[str]) -> list[str]:
    """The names of both, each once and in order; not more than fit in a message."""
    return sorted({*known, *more})[:MOST_NAMES]


def _dead_letter(sync: str, external_id: str, error: FieldError) -> DeadLetter:
    return DeadLetter(
        verb="map",
        element=sync,
        external_id=external_id,
        field=error.field,
        reason=error.reason,
        value=_text(error.value),
        formula=_text(error.formula),
    )


def _text(value: Any) -> str:
    if value is MISSING:
        return ""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return ""
    return text.encode("utf-8", "replace").decode()


def _digest(canonical: str) -> str:
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
