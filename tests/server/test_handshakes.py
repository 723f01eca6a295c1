"""Apps that make up the secret, as Asana: they give it once, while they are subscribed to."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from membrane_sync.bootstrap import Runtime
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.subscriptions import Subscription
from membrane_sync.server.app import create_app
from membrane_sync.stores.ledger import subscriptions as sql_subscriptions
from tests.server.helpers import API_KEY, SETTINGS, Caller, project_with_echo, serving
from tests.server.hooks import client
from tests.stores.databases import fresh_database, read

# https://developers.asana.com/docs/webhooks-guide
TOLD = """
subscribe: {method: POST, path: /webhooks, body: {target: {$var: $.webhook_url}}}
unsubscribe: {method: DELETE, path: "/webhooks/{id}", path_parameters: {id: {$var: $.state.id}}}
state: {id: {$var: $.body.gid}}
signature: {scheme: hmac, header: X-Hook-Signature}
challenge:
  signed: false
  when: {$eval: {$var: $.headers.x-hook-secret}, isNotEmpty: true}
  secret: {$var: $.headers.x-hook-secret}
  headers: {X-Hook-Secret: {$var: $.headers.x-hook-secret}}
handle: {$var: $.body.events}
"""
SYNC = """
data_schemas:
  notes:
    schema: {type: object, properties: {text: {type: string}}}
    table: {name: notes, create: true}
data_sources: {notes: {collection_key: contacts}}
field_mappings:
  notes: {data_source: notes, data_schema: notes, import_value: {text: {$var: $.note}}}
data_link_tables: {notes: {}}
syncs:
  notes:
    field_mapping: notes
    data_link_table: notes
    triggers: [{external_event: told}]
"""
COLLECTION = """
fields_schema: {type: object, properties: {id: {type: string}, note: {type: string}}}
list: {path: /contacts}
"""
FILES = {
    "connectors/echo/external_events/told.yaml": TOLD,
    "connectors/echo/data_collections/contacts.yaml": COLLECTION,
    "mappings/integrations/echo/packages/notes.yaml": SYNC,
}


@dataclass
class App:
    """Gives a secret of its own to whoever subscribes, as it's told to: `gives` says what for."""

    secrets: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    gives: bool = True
    answered: list[int] = field(default_factory=list)

    def asgi(self) -> Starlette:
        async def subscribe(request: Request) -> Response:
            self.targets.append((await request.json())["target"])
            self.secrets.append(f"asana-secret-{len(self.secrets)}-{'s' * 20}")
            if self.gives and not await run_in_threadpool(self.shake):
                return JSONResponse({"error": "the handshake failed"}, 400)
            return JSONResponse({"gid": f"hook-{len(self.targets)}"}, 201)

        async def remove(request: Request) -> Response:
            self.removed.append(request.path_params["id"])
            return JSONResponse({})

        routes = [
            Route("/webhooks", subscribe, methods=["POST"]),
            Route("/webhooks/{id}", remove, methods=["DELETE"]),
        ]
        return Starlette(routes=routes)

    def shake(self, secret: str = "") -> bool:
        """Give the secret; whether the subscriber gives it back, as it has to."""
        given = secret or self.secrets[-1]
        headers = {"X-Hook-Secret": given}
        answer = httpx.post(self.targets[-1], headers=headers, trust_env=False, timeout=30)
        self.answered.append(answer.status_code)
        return answer.is_success and answer.headers.get("X-Hook-Secret") == given


@dataclass
class World:
    """A server, its project, and the app."""

    runtime: Runtime
    app: App
    client: httpx.Client

    @property
    def made(self) -> Subscription:
        (found,) = self.runtime.ledger.subscriptions.of_connection("acme")
        return found

    def reconcile(self, *, anew: bool = False) -> Subscription:
        looked = self.runtime.events.subscriptions.one("acme", anew=anew)
        assert looked.error == ""
        return self.made

    def tell(self, number: int, secret: str) -> int:
        content = json.dumps({"events": [{"number": number}]}).encode()
        signature = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
        headers = {"X-Hook-Signature": signature, "Content-Type": "application/json"}
        path = f"/webhooks/{self.made.key}"
        return self.client.post(path, content=content, headers=headers).status_code

    def told(self) -> list[int]:
        url = self.runtime.settings.ledger_url
        rows = read(url, "SELECT payload FROM membrane_events ORDER BY id")
        return [json.loads(row["payload"])["number"] for row in rows]


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    app = App()
    with fresh_database(request.param, tmp_path, request) as url, serving(app.asgi()) as there:
        for name, value in {**SETTINGS, "MEMBRANE_LEDGER_URL": url}.items():
            monkeypatch.setenv(name, value)
        workspace = project_with_echo(tmp_path / "project")
        for path, text in FILES.items():
            workspace.write(path, text)
        runtime = workspace.runtime
        record = ConnectionRecord("acme", "echo", "acme", input={"url": there, "pin": "0"})
        runtime.ledger.connect(replace(record, credentials={"token": "app-token"}))
        with serving(create_app(runtime)) as here, client(here) as sender:
            runtime.events.subscriptions.public_url = here
            yield World(runtime, app, sender)


def test_the_secret_that_an_app_gives_is_kept_and_proves_what_it_sends(world: World) -> None:
    made = world.reconcile()
    assert (made.status, made.error, made.state) == ("subscribed", "", {"id": "hook-1"})
    (secret,) = world.app.secrets
    assert (made.given, made.secret_until) == ((secret,), None)
    assert world.tell(1, secret) == 200
    assert world.tell(2, made.secret) == world.tell(3, "guessed") == 401
    assert world.told() == [1]
    everything = read(world.runtime.settings.ledger_url, "SELECT * FROM membrane_subscriptions")
    assert secret not in str(everything)
    assert secret not in str(
        read(world.runtime.settings.ledger_url, "SELECT * FROM membrane_webhooks")
    )
    assert world.reconcile().given == (secret,)
    assert len(world.app.targets) == 1


def test_a_forged_secret_takes_no_ones_place(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = world.reconcile()
    (secret,) = world.app.secrets
    forged = f"forged-{'f' * 20}"
    assert not world.app.shake(forged)
    assert not world.app.shake("short")
    assert world.app.answered == [200, 401, 400]
    assert (world.tell(1, forged), world.tell(2, secret)) == (401, 200)
    assert world.made.given == (secret,)
    # The app's own, once more: it may not have heard the answer.
    assert world.app.shake(secret)
    assert world.made == made
    count = Caller(str(world.client.base_url), API_KEY)("GET", "/webhook-counts").json()["items"]
    assert forged not in caplog.text + str(count)


def test_none_is_taken_before_the_app_is_asked(world: World) -> None:
    config = {"kind": "external", "event": "told", "parameters": {}}
    world.runtime.ledger.subscriptions.keep(
        Subscription("early", "acme", "acme", config, secret="our-own-secret")
    )
    world.app.targets.append(f"{world.client.base_url}/webhooks/early")
    assert not world.app.shake(f"forged-{'f' * 20}")
    assert (world.app.answered, list(world.made.given)) == ([401], [])


def test_of_many_that_come_at_once_one_is_taken(world: World) -> None:
    world.app.gives = False
    made = world.reconcile()
    assert made.secret_until is not None and made.status == "subscribed"
    secrets = [f"secret-{number}-{'s' * 20}" for number in range(8)]
    with ThreadPoolExecutor(8) as senders:
        taken = list(senders.map(world.app.shake, secrets))
    assert sum(taken) == 1
    assert world.made.given == (secrets[taken.index(True)],)
    subscriptions = world.runtime.ledger.subscriptions
    subscriptions.expect_secret(made.key, 60)
    with ThreadPoolExecutor(8) as takers:
        kept = list(takers.map(lambda secret: subscriptions.take_secret(made.key, secret), secrets))
    assert sum(kept) == 1


def test_an_app_may_give_it_after_its_answer_but_not_never(world: World) -> None:
    world.app.gives = False
    world.reconcile()
    assert world.tell(1, world.app.secrets[0]) == 401
    assert world.app.shake()
    assert world.tell(1, world.app.secrets[0]) == 200
    assert (world.reconcile().status, len(world.app.targets)) == ("subscribed", 1)

    assert world.reconcile(anew=True).secret_until is not None
    world.runtime.ledger.subscriptions.expect_secret(world.made.key, 0)
    failed = world.reconcile()
    assert (failed.status, failed.secret_until) == ("error", None)
    assert "gave no secret" in failed.error and failed.refresh_at is not None
    assert not world.app.shake(f"too-late-{'s' * 20}")


def test_an_app_whose_handshake_fails_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(App, "shake", lambda self: False)
    failed = world.reconcile()
    assert (failed.status, failed.secret_until) == ("error", None)
    monkeypatch.undo()
    assert world.reconcile().status == "error"  # not yet: it's asked later
    assert world.reconcile(anew=True).status == "subscribed"
    assert world.tell(1, world.app.secrets[-1]) == 200


def test_one_that_is_made_anew_gets_a_new_secret_and_the_old_one_is_good_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.reconcile()
    made = world.reconcile(anew=True)
    old, new = world.app.secrets
    assert (made.given, made.state) == ((new, old), {"id": "hook-2"})
    assert world.app.removed == ["hook-1"]
    assert [world.tell(n, secret) for n, secret in enumerate((old, new))] == [200, 200]
    monkeypatch.setattr(sql_subscriptions, "FORMER_SECONDS", 0.0)
    world.reconcile(anew=True)
    assert world.made.given == (world.app.secrets[-1],)
    assert [world.tell(n, s) for n, s in enumerate(world.app.secrets)] == [401, 401, 200]


def test_nothing_of_it_is_left_when_the_subscription_ends(world: World) -> None:
    world.reconcile()
    world.runtime.events.subscriptions.end(world.runtime.ledger.connection("acme"))
    rows: list[Any] = read(
        world.runtime.settings.ledger_url, "SELECT * FROM membrane_subscriptions"
    )
    assert rows == []
