"""Collections of the packaged connector, changed as a test needs, and checks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.kit.connector import Target, check_connector
from membrane_sync.kit.findings import Finding
from membrane_sync.kit.recorded import live_api
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.testing.simulator.project import KEY

TOKEN = "token-acme"
WRITES: Mapping[str, Any] = {
    "find_by_id": {"path": "/{key}/{id}", "path_parameters": {"id": {"$var": "$.id"}}},
    "create": {
        "method": "POST",
        "path": "/{key}",
        "body": {"$var": "$.fields"},
        "response": {"$var": "$.body.id"},
        "fields": ["email", "name"],
    },
    "update": {
        "method": "PATCH",
        "path": "/{key}/{id}",
        "path_parameters": {"id": {"$var": "$.id"}},
        "body": {"$var": "$.fields"},
    },
    "delete": {
        "method": "DELETE",
        "path": "/{key}/{id}",
        "path_parameters": {"id": {"$var": "$.id"}},
    },
}


def collection(project: Project, key: str, **changes: Any) -> DataCollection:
    """The packaged collection with some keys changed: `list` and `cursor` are merged."""
    declared = project.get(DataCollection, key, integration=KEY)
    value = declared.model_dump(mode="json", by_alias=False, exclude_unset=True)
    listed: dict[str, Any] = value.pop("list_")
    listed["cursor"] = {**listed.get("cursor", {}), **changes.pop("cursor", {})}
    paged = {**listed.get("pagination", {"type": "none"}), **changes.pop("pagination", {})}
    listed["pagination"] = paged
    listed |= changes.pop("list", {})
    if not listed["cursor"]:
        del listed["cursor"]
    return DataCollection.model_validate({**value, "list": listed, **changes})


def written(project: Project, key: str, **changes: Any) -> DataCollection:
    """The same, and its records can be created, changed and deleted."""
    writes = {
        name: {**method, "path": method["path"].replace("{key}", key)}
        for name, method in WRITES.items()
    }
    return collection(project, key, **{**writes, **changes})


def target(
    project: Project, url: str, *collections: DataCollection, token: str = TOKEN, **more: Any
) -> Target:
    connector = project.connector(KEY)
    connection = ConnectionRecord(
        "check", KEY, "check", input={"url": url}, credentials={"token": token}
    )
    quick = {"sleep": lambda _seconds: None, **more}
    return Target(connector, collections, connection, live_api(connector, {}), **quick)


def checked(project: Project, url: str, of: DataCollection, **more: Any) -> dict[str, Finding]:
    """The findings of one collection, by promise."""
    found = check_connector(target(project, url, of, **more))
    return {finding.promise: finding for finding in found if finding.collection}
