"""The product's database in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from membrane_sync.elements.data_schema import DataSchema, Table
from membrane_sync.errors import DestinationError
from membrane_sync.ports import Outcome, Owner
from membrane_sync.records import Delivery


class MemoryDestination:
    """Implements `ports.Destination`, with tables keyed by tenant and key.

    `refuses` gives the reason why a row can't be taken, None if it can.
    """

    place = "memory"

    def __init__(self, refuses: Callable[[Mapping[str, Any]], str | None] = lambda _: None) -> None:
        self.refuses = refuses
        self._tables: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, of every tenant, in order of their keys."""
        return [row for _, row in sorted(self._tables.get(table, {}).items())]

    def prepare(self, schema: DataSchema) -> None:
        self._tables.setdefault(_table(schema).name, {})

    def match(
        self,
        schema: DataSchema,
        owner: Owner,
        fields: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Sequence[str | None]:
        declared = _table(schema)
        mine = [
            (key, row)
            for (tenant, key), row in self._tables.get(declared.name, {}).items()
            if tenant == owner.tenant and not _is_foreign(row, declared, owner)
        ]
        return [_match([key for key, row in mine if _equal(row, w, fields)]) for w in rows]

    def holds(self, schema: DataSchema, owner: Owner, app_ids: Sequence[str]) -> bool:
        rows = self._tables.get(_table(schema).name, {})
        return any((owner.tenant, app_id) in rows for app_id in app_ids)

    def write(
        self,
        schema: DataSchema,
        owner: Owner,
        deliveries: Sequence[Delivery],
        *,
        soft: bool = False,
    ) -> Outcome:
        latest = {delivery.external_id: delivery for delivery in deliveries}.values()
        reasons = {d.external_id: self._reason(_table(schema), owner, d) for d in latest}
        refused = {i: reason for i, reason in reasons.items() if reason is not None}
        taken = [delivery for delivery in latest if delivery.external_id not in refused]
        written = [delivery for delivery in taken if delivery.values is not None]
        removed = [delivery for delivery in taken if delivery.values is None]
        for delivery in removed:
            self._remove(_table(schema), owner, delivery.app_id, soft=soft)
        for delivery in written:
            self._upsert(schema, owner, delivery)
        ids = [[delivery.external_id for delivery in group] for group in (written, removed)]
        return Outcome(ids[0], ids[1], refused)

    def _reason(self, declared: Table, owner: Owner, delivery: Delivery) -> str | None:
        row = self._tables.get(declared.name, {}).get((owner.tenant, delivery.app_id), {})
        if _is_foreign(row, declared, owner):
            return "the row with this key belongs to another connection"
        return None if delivery.values is None else self.refuses(delivery.values)

    def _upsert(self, schema: DataSchema, owner: Owner, delivery: Delivery) -> None:
        declared, values = _table(schema), delivery.values or {}
        row = {field: values.get(field) for field in schema.schema_.get("properties", {})}
        row[declared.key] = delivery.app_id
        for column, value in (
            (declared.tenant_column, owner.tenant),
            (declared.connection_column, owner.connection),
            (declared.deleted_column, None),
        ):
            if column:
                row[column] = value
        rows = self._tables.setdefault(declared.name, {})
        present = rows.setdefault((owner.tenant, delivery.app_id), {})
        present.update(row)

    def _remove(self, declared: Table, owner: Owner, app_id: str, *, soft: bool) -> None:
        rows = self._tables.get(declared.name, {})
        if not soft or not declared.deleted_column:
            rows.pop((owner.tenant, app_id), None)
        elif (owner.tenant, app_id) in rows:
            rows[owner.tenant, app_id][declared.deleted_column] = datetime.now(UTC)


def _table(schema: DataSchema) -> Table:
    if schema.table is None:
        raise DestinationError(f"data schema {schema.key!r} names no table")
    return schema.table


def _is_foreign(row: Mapping[str, Any], declared: Table, owner: Owner) -> bool:
    column = declared.connection_column
    return bool(column) and row.get(column or "") not in (None, "", owner.connection)


def _equal(row: Mapping[str, Any], wanted: Mapping[str, Any], fields: Sequence[str]) -> bool:
    return all(wanted.get(f) is not None and row.get(f) == wanted[f] for f in fields)


def _match(keys: Sequence[str]) -> str | None:
    return keys[0] if len(keys) == 1 else None
