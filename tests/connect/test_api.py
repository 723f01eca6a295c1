"""Connection requests over the API: what may be asked, by whom, and what it comes to."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from membrane_sync.connections.requests import hashed
from membrane_sync.ports import ConnectionRecord, ConnectionStatus
from tests.connect.world import World


def connect(
    world: World, tenant: str, key: str, *, status: ConnectionStatus = "ready", **more: Any
) -> None:
    record = ConnectionRecord(key, "gallery", tenant, status=status, **more)
    world.runtime.ledger.connect(record)


def key_of(world: World, made: dict[str, Any]) -> str:
    found = world.runtime.requests.find(made["id"])
    assert found
    return found.connection


def test_a_request_is_a_link_and_a_status(plain: World, tenant: str) -> None:
    made = plain.ask(tenant, "gallery", name="Main", custom_state="7")
    assert made["url"].startswith(f"{plain.url}/connect/")
    assert (made["status"], made["connection"], made["error"]) == ("pending", None, None)
    seen = plain.seen(made)
    assert seen == {name: value for name, value in made.items() if name != "url"}


def test_of_the_links_secret_only_a_hash_is_kept(plain: World, tenant: str) -> None:
    made = plain.ask(tenant, "gallery")
    token = made["url"].rpartition("/")[2]
    assert len(token) >= 43
    found = plain.runtime.requests.find(made["id"])
    assert found and found.token_hash == hashed(token)
    assert token not in repr(found)


def test_a_tenant_sees_its_own_alone(plain: World, tenant: str) -> None:
    made = plain.ask(tenant, "gallery")
    theirs = plain.backend.get(
        f"/connection-requests/{made['id']}", headers={"X-Membrane-Tenant": "another"}
    )
    nothing = plain.backend.get(
        "/connection-requests/cr_nothing", headers={"X-Membrane-Tenant": "another"}
    )
    assert theirs.status_code == nothing.status_code == 404
    assert httpx.get(f"{plain.url}/connection-requests/{made['id']}").status_code == 401
    assert httpx.post(f"{plain.url}/connection-requests", json={}).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"integration": "nothing"}, 404, "nothing"),
        ({"option": "nothing"}, 404, "key, password"),
        ({"redirect_uri": "https://evil.example/"}, 422, "connect.redirects"),
        ({"redirect_uri": "javascript:alert(1)"}, 422, "connect.redirects"),
        ({"expires_in": 5}, 422, "expires_in"),
        ({"expires_in": 10**9}, 422, "expires_in"),
        ({"conection": "x"}, 422, "conection"),
        ({"connection": "../x"}, 422, "connection"),
        ({"name": "a\nb"}, 422, "name"),
    ],
)
def test_what_can_not_be_is_refused(
    body: dict[str, Any], status: int, says: str, plain: World, tenant: str
) -> None:
    answer = plain.try_asking(tenant, **{"integration": "gallery", **body})
    assert answer.status_code == status and says in answer.text
    assert set(answer.json()) == {"error"}


def test_a_tenant_has_to_be_named(plain: World) -> None:
    answer = plain.backend.post("/connection-requests", json={"integration": "gallery"})
    assert answer.status_code == 422 and "X-Membrane-Tenant" in answer.text


def test_a_tenants_connection_is_the_one_that_is_reconnected(plain: World, tenant: str) -> None:
    connect(plain, tenant, f"{tenant}_a")
    connect(plain, tenant, f"{tenant}_b", status="reconnect_needed")
    assert key_of(plain, plain.ask(tenant, "gallery")) == f"{tenant}_b"
    assert key_of(plain, plain.ask(tenant, "gallery", connection=f"{tenant}_a")) == f"{tenant}_a"
    more = key_of(plain, plain.ask(tenant, "gallery", allow_multiple_connections=True))
    assert more not in (f"{tenant}_a", f"{tenant}_b")


def test_one_that_was_archived_is_left_alone(plain: World, tenant: str) -> None:
    connect(plain, tenant, f"{tenant}_a", status="archived")
    assert key_of(plain, plain.ask(tenant, "gallery")) != f"{tenant}_a"


def test_two_requests_for_a_first_connection_are_about_the_same(plain: World, tenant: str) -> None:
    first, second = plain.ask(tenant, "gallery"), plain.ask(tenant, "gallery")
    assert key_of(plain, first) == key_of(plain, second)
    several = [plain.ask(tenant, "gallery", allow_multiple_connections=True) for _ in range(2)]
    assert len({key_of(plain, made) for made in several}) == 2
    assert key_of(plain, plain.ask(f"{tenant}2", "gallery")) != key_of(plain, first)


def test_a_key_of_another_tenant_is_taken(plain: World, tenant: str) -> None:
    connect(plain, "globex", f"{tenant}_x")
    answer = plain.try_asking(tenant, "gallery", connection=f"{tenant}_x")
    assert answer.status_code == 422 and "taken" in answer.text
    assert "globex" not in answer.json()["error"]["message"]
    made = plain.ask(tenant, "gallery", connection=f"{tenant}_y")
    assert key_of(plain, made) == f"{tenant}_y"


def test_an_account_stays_the_account_it_is(plain: World, tenant: str) -> None:
    connect(plain, tenant, f"{tenant}_a", input={"subdomain": "a"})
    same = plain.try_asking(tenant, "gallery", input={"subdomain": "a"})
    other = plain.try_asking(tenant, "gallery", input={"subdomain": "b"})
    assert (same.status_code, other.status_code) == (201, 422)
