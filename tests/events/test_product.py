"""The product is asked to tell of a tenant's events while a sync needs them, and no longer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from membrane_sync.clients.product import AUDIENCE, TOKEN_HEADER
from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.helpers import Workspace
from tests.events.ledgers import ORDER_PAID, workspace_on
from tests.server.helpers import SECRET, SETTINGS, WORKSPACE, EchoApp, echo_app
from tests.stores.databases import read

EVENT = "mappings/universal/internal_events/order_paid.yaml"
REQUESTS = """
subscribe:
  method: POST
  url: {BASE}/hooks
  headers: {X-Tenant: {$var: $.tenant.key}}
  query: {event: {$var: $.event}}
  body: {url: {$var: $.webhook_url}, id: planted-hook-7, plan: {$var: $.tenant.fields.plan}}
unsubscribe:
  method: DELETE
  url: {$concat: {values: ["BASE/", {$var: $.state.id}]}}
"""


@pytest.fixture(scope="module")
def product() -> Iterator[EchoApp]:
    with echo_app() as running:
        yield running


@dataclass
class World:
    workspace: Workspace
    url: str
    product: EchoApp

    def reconcile(self, *tenants: str, later: float = 0.0) -> dict[tuple[str, str], str]:
        subscriber = self.workspace.runtime.events.product_subscriber
        moment = subscriber.now() + later
        return dict(replace(subscriber, now=lambda: moment).reconcile(tenants))

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(seen.method, seen.path) for seen in self.product.seen]

    def rows(self) -> list[dict[str, Any]]:
        return read(self.url, "SELECT * FROM membrane_product_subscriptions ORDER BY tenant")


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    product: EchoApp,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    product.seen.clear()
    with workspace_on(request.param, request, tmp_path) as (workspace, url):
        declare(workspace, product.url)
        workspace.runtime.ledger.tenants.keep("acme", fields={"plan": "pro"})
        yield World(workspace, url, product)


def declare(workspace: Workspace, base: str) -> None:
    workspace.write(EVENT, ORDER_PAID + REQUESTS.replace("{BASE}", base).replace("BASE", base))


def test_it_is_asked_once_for_each_tenant_whose_syncs_need_it(world: World) -> None:
    for _ in range(2):
        assert world.reconcile("acme", "globex", "initech") == {}
    assert world.asked == [("POST", "/hooks")] * 2
    seen = world.product.seen[0]
    assert (seen.headers["x-tenant"], seen.query) == ("acme", "event=order_paid")
    body = json.loads(seen.body)
    assert body["url"].endswith("/internal-events/order_paid") and body["plan"] == "pro"
    assert [row["tenant"] for row in world.rows()] == ["acme", "globex"]
    assert "planted-hook-7" not in str(world.rows()), "what it answered is sealed"


def test_a_request_says_in_a_token_for_which_tenant_it_is(world: World) -> None:
    world.reconcile("acme")
    token = world.product.last.headers[TOKEN_HEADER.lower()]
    claims = jwt.decode(token, OctKey.import_key(SECRET), algorithms=["HS256"]).claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == (WORKSPACE, "acme", AUDIENCE)
    assert claims["fields"] == {"plan": "pro"} and claims["exp"] - claims["iat"] <= 300


def test_it_ends_with_the_last_connection_that_needs_it(world: World) -> None:
    world.reconcile("acme", "globex")
    runtime = world.workspace.runtime
    runtime.archive("acme_1")
    assert world.reconcile() == {}
    assert len(world.asked) == 2, "acme_2 needs it yet"
    runtime.archive("acme_2")
    assert world.reconcile() == {}
    assert world.asked[2:] == [("DELETE", "/planted-hook-7")]
    assert [row["tenant"] for row in world.rows()] == ["globex"]
    runtime.ledger.connect(ConnectionRecord("acme_4", "kinto", "acme"))
    world.reconcile("acme")
    assert world.asked[3:] == [("POST", "/hooks")]


def test_a_product_that_is_down_is_asked_again_later(world: World) -> None:
    declare(world.workspace, f"{world.product.url}/v1/status/500?x=")
    errors = world.reconcile("acme")
    assert "500" in errors["acme", "order_paid"]
    assert world.reconcile("acme") == {} and len(world.asked) == 1, "it rests"
    assert world.rows()[0]["attempts"] == 1
    declare(world.workspace, world.product.url)
    assert world.reconcile("acme", later=31) == {}
    assert world.asked[1:] == [("POST", "/hooks")]
    assert (world.rows()[0]["attempts"], world.rows()[0]["error"]) == (0, "")


def test_a_request_that_is_another_is_asked_anew(world: World) -> None:
    world.reconcile("acme")
    world.workspace.replace(EVENT, "/hooks", "/v2/hooks")
    world.reconcile("acme")
    assert world.asked == [("POST", "/hooks"), ("POST", "/v2/hooks")]


def test_what_the_product_knows_no_more_is_gone(world: World) -> None:
    world.reconcile("globex")
    gone = world.product.url + "/v1/status/410?"
    world.workspace.replace(EVENT, '"' + world.product.url + '/"', f'"{gone}"')
    world.workspace.runtime.archive("globex_1")
    assert world.reconcile() == {}
    assert world.rows() == []


def test_only_one_process_asks_at_a_time(world: World) -> None:
    kept = world.workspace.runtime.ledger.product_subscriptions
    assert kept.claim("acme", "order_paid", 60) is not None
    assert kept.claim("acme", "order_paid", 60) is None
    assert world.reconcile("acme") == {} and world.asked == []
    assert kept.claim("globex", "order_paid", 0) is not None
    assert kept.due(10) == ["globex"], "whoever claimed it was killed"
    world.reconcile()
    assert world.asked == [("POST", "/hooks")]


def test_new_connections_are_looked_at_by_and_by(world: World) -> None:
    world.workspace.runtime.events.reconcile_subscriptions()
    assert sorted(seen.headers["x-tenant"] for seen in world.product.seen) == ["acme", "globex"]


def test_an_address_that_is_none_is_said(world: World) -> None:
    world.workspace.replace(EVENT, f"url: {world.product.url}/hooks", "url: hooks")
    assert "is no address" in world.reconcile("acme")["acme", "order_paid"]
