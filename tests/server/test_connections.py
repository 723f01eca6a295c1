"""Connections over HTTP: connect, look, page, pause, archive; and nothing secret comes back."""

from __future__ import annotations

import pytest

from tests.server.conftest import Api
from tests.server.helpers import PIN, TOKEN


def test_an_account_is_connected_shown_and_archived(api: Api) -> None:
    acme = api.tenant()
    key = api.connect(name="Our echo")
    shown = acme("GET", f"/connections/{key}").json()
    assert (shown["key"], shown["name"], shown["tenant"]) == (key, "Our echo", "acme")
    assert (shown["integration"], shown["status"]) == ("echo", "ready")
    assert shown["input"] == {"url": api.echo.url}
    assert api.runtime.ledger.connection(key).credentials == {"token": TOKEN}
    assert acme("POST", f"/connections/{key}/test").json()["works"] is True

    gone = acme("DELETE", f"/connections/{key}")
    assert (gone.status_code, gone.json()["status"]) == (200, "archived")
    assert api.runtime.ledger.connection(key).credentials == {}
    through = acme("GET", f"/connections/{key}/proxy/me")
    assert (through.status_code, through.json()["error"]["code"]) == (422, "fatal")


def test_no_answer_has_a_secret(api: Api) -> None:
    acme = api.tenant()
    key = api.connect()
    bad = {"token": "planted-wrong-token"}
    answers = [
        acme("GET", f"/connections/{key}"),
        acme("GET", "/connections"),
        acme("POST", f"/connections/{key}/test"),
        acme("PUT", f"/connections/{key}/credentials", {"credentials": bad}),
        acme("POST", "/connections", {"integration": 7, "credentials": bad}),
        acme("POST", "/connections", {"integration": "echo", "credentials": bad, "surplus": PIN}),
        acme("GET", "/integrations/echo"),
    ]
    for answer in answers:
        assert not any(s in answer.text for s in (TOKEN, PIN, "planted")), answer.text


def test_wrong_credentials_are_refused_and_change_nothing(api: Api) -> None:
    acme = api.tenant()
    key = api.connect()
    refused = acme("PUT", f"/connections/{key}/credentials", {"credentials": {"token": "no"}})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "not_authorized"
    assert api.runtime.ledger.connection(key).credentials == {"token": TOKEN}
    body = {"integration": "echo", "input": {"url": api.echo.url}, "credentials": {"token": "no"}}
    before = len(api.runtime.ledger.connections())
    assert acme("POST", "/connections", body).status_code == 422
    assert len(api.runtime.ledger.connections()) == before


def test_credentials_that_no_longer_work_are_told_by_the_test(api: Api) -> None:
    key = api.connect()
    api.echo.token = "another"
    try:
        tested = api.tenant()("POST", f"/connections/{key}/test").json()
    finally:
        api.echo.token = TOKEN
    assert (tested["works"], tested["code"]) == (False, "not_authorized")


def test_new_credentials_for_the_same_account(api: Api) -> None:
    acme = api.tenant()
    key = api.connect()
    acme("DELETE", f"/connections/{key}")
    again = acme("PUT", f"/connections/{key}/credentials", {"credentials": {"token": TOKEN}})
    assert (again.status_code, again.json()["status"]) == (200, "ready")
    pinned = {"credentials": {"token": TOKEN}, "input": {"url": api.echo.url, "pin": PIN}}
    assert acme("PUT", f"/connections/{key}/credentials", pinned).status_code == 200
    acme("PUT", f"/connections/{key}/credentials", {"credentials": {"token": TOKEN}})
    assert api.runtime.ledger.connection(key).input == pinned["input"], "what is known stays"
    other = {"credentials": {"token": TOKEN}, "input": {"url": api.echo.url + "/other"}}
    refused = acme("PUT", f"/connections/{key}/credentials", other)
    assert refused.status_code == 422
    moved = acme("PUT", f"/connections/{key}/credentials", {**other, "same_account": True})
    assert moved.json()["input"] == {"url": api.echo.url + "/other"}


def test_pause_resume_and_rename(api: Api) -> None:
    acme = api.tenant()
    key = api.connect()
    paused = acme("PATCH", f"/connections/{key}", {"paused": True, "name": "Later"}).json()
    assert (paused["status"], paused["name"]) == ("paused", "Later")
    assert acme("PATCH", f"/connections/{key}", {"paused": False}).json()["status"] == "ready"
    assert acme("PATCH", f"/connections/{key}", {}).json()["name"] == "Later"


def test_pages_give_each_connection_once(api: Api) -> None:
    pages = api.tenant("pages")
    made = sorted(api.connect("pages") for _ in range(5))
    api.connect("other")
    found, cursor, calls = [], "", 0
    while cursor is not None:
        page = pages("GET", "/connections", params={"limit": 2, "cursor": cursor}).json()
        found += [item["key"] for item in page["items"]]
        cursor, calls = page["next_cursor"], calls + 1
    assert (found, calls) == (made, 3)
    pages("PATCH", f"/connections/{made[1]}", {"paused": True})
    paused = pages("GET", "/connections", params={"status": "paused"}).json()["items"]
    assert [item["key"] for item in paused] == [made[1]]


@pytest.mark.parametrize("cursor", ["%%%", "\ud800".encode("utf-8", "surrogatepass").hex(), "AA"])
def test_a_cursor_that_is_none_of_ours_is_refused(cursor: str, api: Api) -> None:
    answer = api.tenant()("GET", "/connections", params={"cursor": cursor})
    assert answer.status_code in (200, 422)
    assert api.tenant()("GET", "/connections", params={"cursor": "AA"}).status_code == 422


def test_only_the_backend_chooses_keys(api: Api) -> None:
    body = {"integration": "echo", "input": {"url": api.echo.url}, "credentials": {"token": TOKEN}}
    named = {**body, "key": "acme_echo"}
    assert api.tenant()("POST", "/connections", named).status_code == 403
    backend = api.workspace("acme")
    assert backend("POST", "/connections", named).json()["key"] == "acme_echo"
    assert backend("POST", "/connections", named).status_code == 409
    # Of another tenant it's no more than another key that is taken.
    taken = api.workspace("other")("POST", "/connections", named)
    assert taken.status_code == 422
    assert api.runtime.ledger.connection("acme_echo").tenant == "acme"
    assert api.workspace()("POST", "/connections", body).json()["error"]["message"] == (
        "no tenant is named"
    )


def test_integrations_show_what_to_type_and_no_parameters(api: Api) -> None:
    echo = api.tenant()("GET", "/integrations/echo").json()
    [option] = echo["authentication_options"]
    assert option["type"] == "bearer"
    assert option["input_schema"]["required"] == ["token"]
    assert echo["input_schema"]["required"] == ["url"]
    assert "parameters" not in str(echo)
    keys = [item["key"] for item in api.tenant()("GET", "/integrations").json()["items"]]
    assert keys == ["echo", "kinto", "pocketbase"]
    assert api.tenant()("GET", "/integrations/nope").status_code == 404
