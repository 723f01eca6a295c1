"""The kit against a real app: what Kinto's connector promises holds."""

from secrets import token_hex
from typing import Any

import pytest

from membrane_sync.apps.kinto import Account, Kinto
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.kit.connector import Target, check_connector
from membrane_sync.kit.recorded import live_api
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from tests.docs.pages import REPOSITORY


def connected(kinto: Kinto, key: str) -> tuple[Account, ConnectionRecord]:
    """A new account with an empty collection, in a bucket that has the account's name."""
    user = f"kit-{token_hex(4)}"
    account = kinto.create_account(user, f"{user}-password")
    kinto.create_bucket(account, user)
    kinto.create_collection(account, user, key)
    given = {"username": user, "password": account.password}
    place = {"url": kinto.url, "bucket": user}
    return account, ConnectionRecord("check", "kinto", "check", input=place, credentials=given)


@pytest.mark.parametrize("key", ["contacts", "companies"])
def test_kinto_keeps_what_its_connector_promises(kinto: Kinto, key: str) -> None:
    account, connection = connected(kinto, key)
    kinto.write(
        account, account.user, key, [{"id": f"r{n}", "name": f"Name {n}"} for n in range(150)]
    )
    kinto.delete(account, account.user, key, ["r7", "r8"])
    project = Project.load(REPOSITORY)
    connector = project.connector("kinto")
    collection = project.get(DataCollection, key, integration="kinto")
    target = Target(connector, [collection], connection, live_api(connector, {}))
    found = check_connector(target)
    assert [finding for finding in found if finding.verdict == "failed"] == []
    proved = {finding.promise for finding in found if finding.verdict == "ok"}
    assert {"test", "test refuses others", "list", "id", "cursor field"} <= proved


RECORDS = "/buckets/{bucket}/collections/contacts/records"
ONE = {
    "path": f"{RECORDS}/{{id}}",
    "path_parameters": {"bucket": {"$var": "$.input.bucket"}, "id": {"$var": "$.id"}},
}
FIELDS = {"data": {"$var": "$.fields"}}
WRITES: dict[str, Any] = {
    "find_by_id": {**ONE, "record": "$.body.data"},
    "create": {
        "method": "POST",
        "path": RECORDS,
        "path_parameters": {"bucket": {"$var": "$.input.bucket"}},
        "body": FIELDS,
        "response": {"$var": "$.body.data.id"},
    },
    "update": {**ONE, "method": "PATCH", "body": FIELDS},
    "delete": {**ONE, "method": "DELETE"},
}


def test_what_is_written_to_kinto_is_seen_by_the_next_sync(kinto: Kinto) -> None:
    account, connection = connected(kinto, "contacts")
    kinto.write(
        account, account.user, "contacts", [{"id": "r1", "name": "Ada", "email": "a@example.org"}]
    )
    project = Project.load(REPOSITORY)
    connector = project.connector("kinto")

    def checked(**changes: Any) -> dict[str, str]:
        declared = project.get(DataCollection, "contacts", integration="kinto")
        value = declared.model_dump(mode="json", by_alias=False, exclude_unset=True)
        listed = {**value.pop("list_"), "conditional": "first_page", **changes}
        of = DataCollection.model_validate({**value, **WRITES, "list": listed})
        target = Target(
            connector, [of], connection, live_api(connector, {}), write=True, sleep=lambda _: None
        )
        return {found.promise: found.verdict for found in check_connector(target)}

    found = checked()
    seen = ["create", "create is seen", "update", "update is seen", "delete", "delete is seen"]
    seen += ["conditional", "conditional sees what is changed"]
    assert {name: found[name] for name in seen} == dict.fromkeys(seen, "ok")
    without = checked(query={"_sort": "last_modified"})
    assert without["delete is seen"] == "failed", "Kinto hides tombstones from who asks for all"
