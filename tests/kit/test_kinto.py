"""The kit against a real app: what Kinto's connector promises holds."""

from secrets import token_hex

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.kit.connector import Target, check_connector
from membrane_sync.kit.recorded import live_api
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from tests.docs.pages import REPOSITORY


@pytest.mark.parametrize("key", ["contacts", "companies"])
def test_kinto_keeps_what_its_connector_promises(kinto: Kinto, key: str) -> None:
    user = f"kit-{token_hex(4)}"
    account = kinto.create_account(user, f"{user}-password")
    kinto.create_bucket(account, user)
    kinto.create_collection(account, user, key)
    kinto.write(account, user, key, [{"id": f"r{n}", "name": f"Name {n}"} for n in range(150)])
    kinto.delete(account, user, key, ["r7", "r8"])
    project = Project.load(REPOSITORY)
    connector = project.connector("kinto")
    connection = ConnectionRecord(
        "check",
        "kinto",
        "check",
        input={"url": kinto.url, "bucket": user},
        credentials={"username": user, "password": account.password},
    )
    collection = project.get(DataCollection, key, integration="kinto")
    target = Target(connector, [collection], connection, live_api(connector, {}))
    found = check_connector(target)
    assert [finding for finding in found if finding.verdict == "failed"] == []
    proved = {finding.promise for finding in found if finding.verdict == "ok"}
    assert {"test", "test refuses others", "list", "id", "cursor field"} <= proved
