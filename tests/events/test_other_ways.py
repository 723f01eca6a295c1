"""Subscriptions that come by a global webhook, an external event, or a function of hooks.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.subscriptions import Subscription
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import write_project

PACKAGE = "mappings/universal/packages/contacts.yaml"
COLLECTION = "connectors/simulator/data_collections/contacts.yaml"

BY_URL_OF_ALL = """\
events:
  all:
    type: webhook
    global_webhook: all
    subscribe: {path: /me}
    state: {account: {$var: $.body.account}}
    selector: {$var: $.state.account}
    handle: {type: {$var: $.body.change}, record: {$var: $.body.record}}
"""
BY_CONNECTOR = """\
events:
  all:
    type: connector_event
    event: changed
    handle: {type: {$var: $.body.change}, record: {$var: $.body.record}}
"""
BY_FUNCTION = """\
events:
  all:
    type: webhook
    subscribe: {function: subscribe}
    state: {id: {$var: $.body.hook}}
    unsubscribe: {function: unsubscribe}
    signature: {scheme: hmac, header: X-Simulator-Signature, secret: {$var: $.secret}}
    handle: {type: {$var: $.body.change}, record: {$var: $.body.record}}
"""
CHANGED = """\
type: webhook
subscribe:
  method: POST
  path: /webhooks
  body: {url: {$var: $.webhook_url}, collection: contacts, secret: {$var: $.secret}}
state: {id: {$var: $.body.id}}
unsubscribe: {method: DELETE, path: "/webhooks/{id}", path_parameters: {id: {$var: $.state.id}}}
signature: {scheme: hmac, header: X-Simulator-Signature, secret: {$var: $.secret}}
"""
HOOKS = """\
def subscribe(scope):
    body = {"url": scope["webhook_url"], "collection": "contacts"}
    answer = yield {"method": "POST", "path": "/webhooks", "body": body}
    seen = yield {"path": "/webhooks/" + answer.body["id"]}
    return {"hook": seen.body["id"]}


def unsubscribe(scope):
    return {"method": "DELETE", "path": "/webhooks/" + scope["state"]["id"]}
"""


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(records=5)


@pytest.fixture
def url(simulator: Simulator) -> Iterator[str]:
    with running(simulator, sending=False) as url:
        yield url


@pytest.fixture
def root(tmp_path: Path) -> Path:
    scaffold(tmp_path / "project", examples=False)
    write_project(tmp_path / "project")
    return tmp_path / "project"


def write(root: Path, file: str, text: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text, encoding="utf-8")


def with_events(root: Path, events: str) -> None:
    text = (root / COLLECTION).read_text(encoding="utf-8")
    write(root, COLLECTION, text[: text.index("events:\n")] + events)


def connect(runtime: Runtime, url: str) -> None:
    given = {"token": "token-acme"}
    runtime.register(
        ConnectionRecord("acme", "simulator", "acme", input={"url": url}, credentials=given)
    )


def subscribed(root: Path, url: str) -> tuple[Runtime, list[Subscription]]:
    runtime = open_runtime(root)
    connect(runtime, url)
    (looked,) = runtime.events.reconcile_subscriptions()
    assert looked.error == ""
    assert [(one.status, one.error) for one in looked.subscriptions] == [
        ("subscribed", "") for _ in looked.subscriptions
    ]
    return runtime, list(looked.subscriptions)


def test_events_of_all_customers_find_theirs_by_what_the_app_says(
    root: Path, url: str, simulator: Simulator
) -> None:
    with_events(root, BY_URL_OF_ALL)
    write(root, "connectors/simulator/global_webhooks/all.yaml", "events: {$var: $.body}\n")
    runtime, (made,) = subscribed(root, url)
    assert (made.global_webhook, made.selector) == ("simulator/all", "acme")
    assert runtime.ledger.subscriptions.matching("simulator/all", ["acme"]) == {"acme": [made]}
    assert runtime.events.subscriptions.covered("acme") == {"contacts"}
    assert simulator.webhooks.hooks == {}


def test_an_event_that_is_meant_nowhere_is_an_error(root: Path, url: str) -> None:
    with_events(root, BY_URL_OF_ALL.replace("$.state.account", "$.input.account"))
    write(root, "connectors/simulator/global_webhooks/all.yaml", "events: {$var: $.body}\n")
    runtime = open_runtime(root)
    connect(runtime, url)
    runtime.events.reconcile_subscriptions()
    (made,) = runtime.ledger.subscriptions.of_connection("acme")
    assert made.status == "error" and "`selector` gives nothing" in made.error


def test_a_connector_event_tells_of_records_and_makes_syncs_run(
    root: Path, url: str, simulator: Simulator
) -> None:
    with_events(root, BY_CONNECTOR)
    write(root, "connectors/simulator/external_events/changed.yaml", CHANGED)
    links = "data_link_table: contacts"
    text = (root / PACKAGE).read_text(encoding="utf-8")
    triggers = f"{links}\n    triggers: [{{external_event: changed}}]"
    write(root, PACKAGE, text.replace(links, triggers))
    runtime, made = subscribed(root, url)
    assert sorted(one.config["kind"] for one in made) == ["external", "record"]
    assert len(simulator.webhooks.hooks) == 2
    assert runtime.events.subscriptions.covered("acme") == {"contacts"}
    runtime.archive("acme")
    assert simulator.webhooks.hooks == {}


def test_functions_may_subscribe_in_several_calls(
    root: Path, url: str, simulator: Simulator
) -> None:
    with_events(root, BY_FUNCTION)
    write(root, "connectors/simulator/hooks.py", HOOKS)
    runtime, (made,) = subscribed(root, url)
    assert list(simulator.webhooks.hooks) == [made.state["id"]]
    runtime.archive("acme")
    assert simulator.webhooks.hooks == {}


def test_a_function_that_fails_is_noted_and_holds_up_nobody(
    root: Path, url: str, simulator: Simulator
) -> None:
    with_events(root, BY_FUNCTION)
    write(
        root, "connectors/simulator/hooks.py", HOOKS.replace('answer.body["id"]', "answer.nothing")
    )
    runtime = open_runtime(root)
    connect(runtime, url)
    (looked,) = runtime.events.reconcile_subscriptions()
    (made,) = looked.subscriptions
    assert (made.status, made.attempts, looked.error) == ("error", 1, "")
    assert "hooks.py" in made.error and "subscribe raised AttributeError" in made.error


def test_an_app_that_wants_to_know_for_how_long_is_asked_anew_in_time(
    root: Path, url: str, simulator: Simulator
) -> None:
    with_events(
        root,
        """\
events:
  all:
    type: webhook
    subscribe:
      method: POST
      path: /webhooks
      body: {url: {$var: $.webhook_url}, collection: contacts, until: {$var: $.expires_at}}
    state: {id: {$var: $.body.id}}
    lifetime_seconds: 86400
    unsubscribe: {method: DELETE, path: "/webhooks/{id}", path_parameters: {id: {$var: $.state.id}}}
    existing: {path: /webhooks, subscriptions: $.body.items}
    signature: {scheme: hmac, header: X-Simulator-Signature, secret: {$var: $.secret}}
    handle: {type: {$var: $.body.change}, record: {$var: $.body.record}}
""",
    )
    runtime, (made,) = subscribed(root, url)
    assert made.refresh_at is not None
    assert 80_000 < made.refresh_at - time.time() < 86_400 - 3_500
    runtime.ledger.subscriptions.keep(replace(made, refresh_at=1.0))
    runtime.events.subscriptions.one("acme")
    (again,) = runtime.ledger.subscriptions.of_connection("acme")
    assert again.state != made.state, "how long the old one lives yet isn't known"
    assert list(simulator.webhooks.hooks) == [again.state["id"]]
