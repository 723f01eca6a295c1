"""A webhook that came to nothing is taken in once more when its declaration is mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from membrane_sync.errors import NotFound, Rejected
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.events import Arrival, Webhook
from membrane_sync.ports.subscriptions import Subscription
from tests.end_to_end.helpers import Workspace
from tests.server.helpers import project_with_echo

COLLECTION = "connectors/echo/data_collections/contacts.yaml"
DECLARED = """
fields_schema: {type: object, properties: {id: {type: string}}}
list: {path: /contacts}
events:
  all:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    handle: {type: {$var: $.body.what}, record: {$var: $.body.record}}
"""
BODY = {"event": "updated", "record": {"id": "c1"}}
HOOK = Webhook(
    "webhook",
    "k1",
    json.dumps(BODY).encode(),
    {"content-type": "application/json"},
    status="failed",
    error="no type",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = project_with_echo(tmp_path / "project")
    workspace.write(COLLECTION, DECLARED)
    record = ConnectionRecord("acme", "echo", "acme", input={"url": "http://127.0.0.1:9"})
    workspace.runtime.ledger.connect(record)
    config = {"kind": "record", "collection": "contacts", "stream": "contacts", "change": "all"}
    workspace.runtime.ledger.subscriptions.keep(Subscription("k1", "acme", "acme", config))
    return workspace


def kept(workspace: Workspace, webhook: Webhook = HOOK) -> int:
    (put,) = workspace.runtime.ledger.inbox.put([Arrival(webhook)])
    assert put.webhook is not None
    return put.webhook


def test_once_the_yaml_is_mended_a_webhook_brings_its_events(workspace: Workspace) -> None:
    id = kept(workspace)
    with pytest.raises(Rejected, match="failed"):
        workspace.runtime.events.webhook_replay.webhook(id)
    workspace.replace(COLLECTION, "$.body.what", "$.body.event")
    runtime = workspace.runtime
    assert len(runtime.events.webhook_replay.webhook(id).events) == 1
    (event,) = runtime.ledger.inbox.pending("acme", 10)
    assert (event.webhook, event.external_id, event.change) == (id, "c1", "updated")
    assert runtime.ledger.webhooks.webhook(id).status == "routed"
    assert runtime.events.webhook_replay.webhook(id).duplicates == 1
    assert runtime.ledger.event_log("acme").webhook(event.id) is not None


def test_a_webhook_whose_subscription_is_gone_stays_as_it_is(workspace: Workspace) -> None:
    id = kept(workspace)
    workspace.runtime.ledger.subscriptions.drop("k1")
    with pytest.raises(NotFound, match="nothing takes in webhook"):
        workspace.runtime.events.webhook_replay.webhook(id)
    assert workspace.runtime.ledger.webhooks.webhook(id).status == "failed"
