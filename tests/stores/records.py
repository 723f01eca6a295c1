"""Short ways to write records, batches and schemas in tests of the stores."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.records import Batch, Delivery, MappedRecord, RawRecord


def raw(external_id: str, *, deleted: bool = False, **fields: Any) -> RawRecord:
    payload = json.dumps({"id": external_id, **fields}, ensure_ascii=False)
    return RawRecord(external_id, payload, deleted)


def batch(*records: RawRecord, stream: str = "contacts", **options: Any) -> Batch:
    return Batch(stream, records, **options)


def mapped_record(external_id: str, value: dict[str, Any] | None) -> MappedRecord:
    text = None if value is None else json.dumps(value, ensure_ascii=False)
    return MappedRecord(external_id, text, digest(text or ""))


def delivery(external_id: str, values: dict[str, Any] | None, app_id: str = "") -> Delivery:
    return Delivery(external_id, app_id or f"app-{external_id}", values)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def contacts_schema(
    properties: dict[str, Any] | None = None, *, table: dict[str, Any] | None = None
) -> DataSchema:
    fields = properties or {"email": {"type": "string"}, "score": {"type": "integer"}}
    place = {"name": "contacts", "tenant_column": "tenant", "create": True, **(table or {})}
    return DataSchema.model_validate(
        {
            "key": "contacts",
            "schema": {"type": "object", "properties": fields},
            "table": place,
        }
    )
