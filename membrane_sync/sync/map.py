"""3 map: records of the app become records of the product, by the field mapping's formulas."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.formulas import MISSING, FieldError, evaluate_fields
from membrane_sync.ports import Lake
from membrane_sync.records import Change, DeadLetter, MappedRecord, Offset, Report
from membrane_sync.sync.shape import ShapeError, shaped
from membrane_sync.sync.store import Progress

BATCH = 5_000


def map_stream(
    lake: Lake,
    sync: str,
    stream: str,
    mapping: FieldMapping,
    schema: DataSchema | None,
    version: str,
    report: Report,
    progress: Progress = lambda _v, _r: None,
) -> None:
    """Map what changed in the stream since the last time; all of it if the mapping is another.

    Each batch commits its mapped records together with how far it came.
    """
    consumer = f"map:{sync}"
    offset = lake.offset(consumer)
    if offset.version != version:
        offset = Offset(consumer, 0, version)
    while changes := lake.changes(stream, offset.seq, BATCH):
        records, dead = import_records(mapping, schema, sync, changes)
        offset = replace(offset, seq=changes[-1].seq)
        fields = schema.schema_ if schema else mapping.app_schema
        counts = lake.keep_mapped(sync, records, dead, offset, fields)
        report.mapped += counts.mapped
        report.failed += len({letter.external_id for letter in dead})
        progress("map", report)


def import_records(
    mapping: FieldMapping, schema: DataSchema | None, sync: str, changes: Sequence[Change]
) -> tuple[list[MappedRecord], list[DeadLetter]]:
    """The changed records in the product's shape; of each record only its present state.

    A record with a field that fails is not mapped at all, and each such field is a dead letter.
    """
    latest = {change.external_id: change for change in changes}
    records: list[MappedRecord] = []
    dead: list[DeadLetter] = []
    for change in latest.values():
        if change.payload is None:
            records.append(MappedRecord(change.external_id, None, ""))
            continue
        value, errors = import_record(mapping, schema, json.loads(change.payload))
        dead.extend(_dead_letter(sync, change.external_id, error) for error in errors)
        if not errors:
            records.append(MappedRecord(change.external_id, _json(value), _digest(value)))
    return records, dead


def import_record(
    mapping: FieldMapping, schema: DataSchema | None, record: Mapping[str, Any]
) -> tuple[dict[str, Any], list[FieldError]]:
    """One record through the import formulas into the schema's types, and what failed."""
    template = mapping.import_value
    if template is None:
        template = mapping.default_import_value
    value, errors = evaluate_fields(template, record)
    if errors:
        return {}, list(errors)
    if value is MISSING or not isinstance(value, dict):
        return {}, [FieldError("", template, value, "the mapping gives no object")]
    if mapping.include_raw_fields:
        value = {**value, "raw_fields": dict(record)}
    try:
        fitted = shaped(value, schema.schema_ if schema else mapping.app_schema)
        _json(fitted).encode()
    except ShapeError as error:
        formula = template.get(error.field) if isinstance(template, dict) else template
        return {}, [FieldError(error.field, formula, error.value, error.reason)]
    except ValueError as error:
        return {}, [FieldError("", template, MISSING, f"its value can't be kept as JSON: {error}")]
    return fitted, []


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
    return "" if value is MISSING else json.dumps(value, ensure_ascii=False, default=str)


def _json(value: Any, *, sort_keys: bool = False) -> str:
    return json.dumps(
        value, sort_keys=sort_keys, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def _digest(value: Any) -> str:
    canonical = _json(value, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
