"""The kit against a real app: what PocketBase's connector promises holds, and so do writes."""

import json
from secrets import token_hex
from typing import Any

from membrane_sync.apps.pocketbase import PocketBase
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.kit.connector import Target, check_connector
from membrane_sync.kit.recorded import live_api
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from tests.docs.pages import REPOSITORY

RECORDS = "/api/collections/contacts/records"
ONE = {"path": f"{RECORDS}/{{id}}", "path_parameters": {"id": {"$var": "$.id"}}}
FIELDS = {"$var": "$.fields"}
WRITES: dict[str, Any] = {
    "create": {
        "method": "POST",
        "path": RECORDS,
        "body": FIELDS,
        "response": {"$var": "$.body.id"},
        "fields": ["email", "name", "phone"],
    },
    "update": {**ONE, "method": "PATCH", "body": FIELDS},
    "delete": {**ONE, "method": "DELETE"},
}


def test_pocketbase_keeps_what_its_connector_promises(pocketbase: PocketBase) -> None:
    name = f"kit_{token_hex(4)}"
    pocketbase.create_contacts_collection(name)
    people = [{"email": f"p{n}@example.org", "name": f"Name {n}"} for n in range(60)]
    pocketbase.write(name, people)
    project = Project.load(REPOSITORY)
    connector = project.connector("pocketbase")
    connection = ConnectionRecord(
        "check",
        "pocketbase",
        "check",
        input={"url": pocketbase.url},
        credentials={"token": pocketbase.login()},
    )
    declared = project.get(DataCollection, "contacts", integration="pocketbase")
    value = declared.model_dump(mode="json", by_alias=False, exclude_unset=True)
    listed: dict[str, Any] = value.pop("list_")
    listed["pagination"] |= {"page_size": 25}
    text = json.dumps({**value, **WRITES, "list": listed})
    own = json.loads(text.replace("/collections/contacts/", f"/collections/{name}/"))
    of = DataCollection.model_validate(own)
    target = Target(connector, [of], connection, live_api(connector, {}), write=True)
    found = {one.promise: one for one in check_connector(target)}
    assert [one for one in found.values() if one.verdict == "failed"] == []
    seen = {name for name, one in found.items() if one.verdict == "ok"}
    assert {"end of the list", "total_pages", "find_by_id", "full_scan lacks it"} <= seen
    assert {"create is seen", "update is seen", "filter inclusive"} <= seen
