"""Connection requests by a tenant's own token: it reconnects what is its own, and nothing else."""

from __future__ import annotations

from tests.connect.visitor import Visitor
from tests.server.conftest import Api
from tests.server.helpers import PIN, TOKEN


def test_a_tenant_asks_for_itself(api: Api) -> None:
    tenant = api.tenant("acme")
    made = tenant("POST", "/connection-requests", {"integration": "echo"})
    assert made.status_code == 201 and made.json()["tenant"] == "acme"
    seen = tenant("GET", f"/connection-requests/{made.json()['id']}")
    assert seen.status_code == 200 and "url" not in seen.json()


def test_a_tenant_reconnects_what_is_its_own(api: Api) -> None:
    key = api.connect("acme")
    body = {"integration": "echo", "connection": key}
    made = api.tenant("acme")("POST", "/connection-requests", body)
    assert made.status_code == 201
    found = api.runtime.requests.find(made.json()["id"])
    assert found and found.connection == key
    assert PIN not in made.text


def test_of_anothers_key_it_hears_what_it_hears_of_none(api: Api) -> None:
    key, other = api.connect("acme"), api.tenant("other")
    theirs = other("POST", "/connection-requests", {"integration": "echo", "connection": key})
    none = other("POST", "/connection-requests", {"integration": "echo", "connection": "none"})
    assert theirs.status_code == none.status_code == 404
    said, nothing = theirs.json()["error"], none.json()["error"]
    assert said["code"] == nothing["code"]
    assert said["message"].replace(key, "none") == nothing["message"]


def test_a_link_shows_no_secret_of_the_connection(api: Api) -> None:
    key = api.connect("acme")
    body = {"integration": "echo", "connection": key}
    made = api.tenant("acme")("POST", "/connection-requests", body).json()
    path = "/connect/" + made["url"].rpartition("/")[2]
    page = api.nobody()("GET", path)
    assert page.status_code == 200 and "Reconnect Echo" in page.text
    assert PIN not in page.text


def test_reconnecting_keeps_input_that_is_secret(api: Api) -> None:
    key = api.connect("acme")
    body = {"integration": "echo", "connection": key}
    made = api.tenant("acme")("POST", "/connection-requests", body).json()
    link = f"{api.url}/connect/{made['url'].rpartition('/')[2]}"
    with Visitor() as visitor:
        visitor.open(link)
        visitor.send(link, credentials__token=TOKEN)
        assert "Echo is connected" in visitor.text
    assert api.runtime.ledger.connection(key).input["pin"] == PIN
