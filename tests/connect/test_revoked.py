"""Links that the product takes back before they're answered."""

from __future__ import annotations

import time
from typing import Any

import httpx

from membrane_sync.apps.oidc_provider import OidcProvider
from tests.connect.visitor import Visitor
from tests.connect.world import World

FILLED = {"option": "key", "input__subdomain": "acme", "input__region": "us"}
FILLED |= {"credentials__api_key": "planted-api-key"}


def revoke(world: World, request: dict[str, Any], tenant: str = "") -> httpx.Response:
    headers = {"X-Membrane-Tenant": tenant} if tenant else {}
    return world.backend.delete(f"/connection-requests/{request['id']}", headers=headers)


def test_a_link_that_is_taken_back_can_not_be_answered(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    with Visitor() as visitor:
        visitor.open(f"{request['url']}?option=key")
        said = revoke(plain, request).json()
        assert (said["status"], said["error"]) == ("cancelled", {"code": "revoked"})
        assert visitor.send(request["url"], **FILLED).status_code == 410
        assert "This link was taken back" in visitor.text and "Acme CRM" in visitor.text
        assert visitor.open(request["url"]).status_code == 410
        status = httpx.get(f"{request['url']}/status").json()
        assert (status["status"], status["error"]) == ("cancelled", "revoked")
    assert plain.seen(request) == said
    assert list(plain.runtime.tenant_ledger(tenant).connections("", 10)) == []
    assert revoke(plain, request).json() == said


def test_who_is_at_the_app_meanwhile_connects_nothing(
    world: World, provider: OidcProvider, tenant: str
) -> None:
    request = world.ask(tenant, "ledgerly")
    with Visitor() as visitor:
        visitor.open(request["url"])
        visitor.send(request["url"])
        answer = provider.allow(visitor.target, "ann")
        world.expire(request)  # a link that has expired can be come back to, too
        assert revoke(world, request).json()["error"] == {"code": "revoked"}
        back = httpx.URL(f"{world.url}/oauth/callback", params=answer)
        assert visitor.open(str(back)).status_code == 400
    assert list(world.runtime.tenant_ledger(tenant).connections("", 10)) == []


def test_what_was_answered_stays_so(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    with Visitor() as visitor:
        visitor.open(f"{request['url']}?option=key")
        visitor.send(request["url"], **FILLED)
    said = revoke(plain, request).json()
    assert (said["status"], said["error"]) == ("success", None)
    assert plain.runtime.ledger.connection(said["connection"]).status == "ready"


def test_one_that_is_being_answered_is_not_torn_away(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    assert plain.runtime.requests.claim(request["id"], "b", time.time(), 300)
    refused = revoke(plain, request)
    assert refused.status_code == 409 and "being answered" in refused.text
    assert plain.seen(request)["status"] == "pending"


def test_nobody_elses_is_taken_back(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    theirs = revoke(plain, request, "another")
    nothing = revoke(plain, {"id": "cr_nothing"}, "another")
    assert theirs.status_code == nothing.status_code == 404
    assert httpx.delete(f"{plain.url}/connection-requests/{request['id']}").status_code == 401
    assert plain.seen(request)["status"] == "pending"
