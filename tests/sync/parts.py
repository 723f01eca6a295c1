"""Short ways to declare a sync, and an app in memory to sync with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.integration import Integration
from membrane_sync.elements.sync import Sync
from membrane_sync.ports import Api, ConnectionRecord, Destination, Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call
from membrane_sync.sync.run import Parties
from membrane_sync.testing import answer

CONNECTION = ConnectionRecord("acme_app", "app", "acme")

CURSOR = {"field": "$.at", "type": "integer", "inclusive": True, "sorted": "ascending"}
PAGES = {"type": "page", "parameter": "page"}


def collection(
    pagination: Mapping[str, Any] | None = None,
    cursor: Mapping[str, Any] | None = None,
    **more: Any,
) -> DataCollection:
    listing: dict[str, Any] = {"path": "/contacts", "records": "$.body.data"}
    listing["pagination"] = dict(pagination or {"type": "none"})
    if cursor is not None:
        listing["cursor"] = {**CURSOR, **cursor}
        listing["query"] = {"since": {"$var": "$.cursor"}}
    return DataCollection.model_validate({"key": "contacts", "list": listing, **more})


def schema(**more: Any) -> DataSchema:
    fields = {"email": {"type": "string"}, "score": {"type": "integer"}}
    table = {"name": "contacts", "tenant_column": "tenant", **more.pop("table", {})}
    declared = {"type": "object", "properties": fields, **more}
    return DataSchema.model_validate({"key": "contacts", "schema": declared, "table": table})


def mapping(**import_value: Any) -> FieldMapping:
    value = import_value or {"email": {"$var": "$.email"}, "score": {"$var": "$.score"}}
    return FieldMapping.model_validate({"key": "contacts", "import_value": value})


def declared_sync(**more: Any) -> Sync:
    links = {"field_mapping": "contacts", "data_link_table": "people"}
    return Sync.model_validate({"key": "contacts", **links, **more})


def resolved(
    of: DataCollection,
    *,
    schema_: DataSchema | None = None,
    mapping_: FieldMapping | None = None,
    sync: Sync | None = None,
    one_to_one: bool = True,
) -> ResolvedSync:
    return ResolvedSync(
        sync=sync or declared_sync(),
        integration=Integration.model_validate({"key": "app", "connector": "app"}),
        connector=Connector.model_validate({"key": "app", "base_url": "https://app.test"}),
        source=DataSource.model_validate({"key": "contacts", "collection_key": "contacts"}),
        collection=of,
        mapping=mapping_ or mapping(),
        schema=schema_ or schema(),
        links=DataLinkTable.model_validate({"key": "people", "one_to_one": one_to_one}),
    )


def parties(api: Api, lake: Lake, destination: Destination) -> Parties:
    return Parties(CONNECTION, api, lake, destination)


@dataclass
class App:
    """An app with records that carry the time of their last change, sorted by it.

    It pages by number and answers what is at `since` or later; `between` is called before each
    answer, so that the records can change while they're read. Equal times come in any order that
    is the same each time.
    """

    page_size: int = 3
    exclusive: bool = False
    tombstones: bool = True
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    now: int = 0
    between: Callable[[], None] = lambda: None

    def put(self, external_id: str, *, tick: int = 1, **fields: Any) -> None:
        """Create or replace a record; with tick=0 at the same time as the last change."""
        self.now += tick
        self.records[external_id] = {"id": external_id, "at": self.now, **fields}

    def delete(self, external_id: str, *, tick: int = 1) -> None:
        self.now += tick
        self.records[external_id] = {"id": external_id, "at": self.now, "deleted": True}

    def alive(self) -> dict[str, dict[str, Any]]:
        return {i: record for i, record in self.records.items() if not record.get("deleted")}

    def respond(self, call: Call) -> Answer:
        self.between()
        since = call.query.get("since")
        shown = [r for r in self.records.values() if self.tombstones or not r.get("deleted")]
        if since is not None:
            shown = [
                r for r in shown if r["at"] > since or (not self.exclusive and r["at"] == since)
            ]
        shown.sort(key=lambda record: (record["at"], record["id"]))
        start = (call.query.get("page", 1) - 1) * self.page_size
        return answer({"data": shown[start : start + self.page_size], "total": len(shown)})
