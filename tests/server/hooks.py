"""A project whose app sends webhooks of all kinds, and its subscriptions."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import httpx

from membrane_sync.bootstrap import Runtime
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.subscriptions import Subscription

SECRET = "signing-secret-4711"
APP_SECRET = "app-secret-0815"

COLLECTION = """
fields_schema: {type: object, properties: {id: {type: string}, name: {type: string}}}
list: {path: /contacts}
events:
  all:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    signature: {scheme: github, header: X-Signature}
    handle: {type: {$var: $.body.event}, record: {$var: $.body.record}, id: {$var: $.body.id}}
    event_id: {$var: $.body.event_id}
    occurred_at: {$var: $.record.updated}
    max_body_bytes: 20000
    reply: {status: 202, headers: {X-Got: {$var: $.body.event_id}}, body: {ok: true}}
"""
PEOPLE = """
fields_schema: {type: object, properties: {id: {type: string}, name: {type: string}}}
list: {path: /people}
events:
  created:
    type: connector_event
    event: told
    handle: {type: created, record: {$var: $.body}}
"""
LEADS = """
fields_schema: {type: object, properties: {id: {type: string}, name: {type: string}}}
list: {path: /leads}
events:
  updated:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    signature: {scheme: github, header: X-Signature}
  deleted:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    signature: {scheme: github, header: X-Signature}
"""
GLOBAL = """
signature: {scheme: hmac, header: X-Signature, secret: {$var: $.parameters.app_secret}}
events:
  $iterate:
    source: {$var: $.body.events}
    item: {selector: {$var: $.item.account}, payload: {$var: $.item}}
event_id: {$var: $.payload.id}
"""
TOLD = """
type: global_webhook
global_webhook: all
selector: {$var: $.input.url}
handle: {id: {$var: $.body.record.id}, name: {$var: $.body.record.name}}
"""
CHALLENGES = {
    # https://api.slack.com/events/url_verification
    "slack": """
type: webhook
subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
signature: {scheme: slack}
challenge:
  when: {$eval: {$var: $.body.type}, is: url_verification}
  body: {$var: $.body.challenge}
""",
    # https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    "meta": """
type: webhook
subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
signature: {scheme: github}
challenge:
  signed: false
  when:
    $and:
      - {$eval: {$var: "$.query.hub\\\\.mode"}, is: subscribe}
      - {$eval: {$var: "$.query.hub\\\\.verify_token"}, is: {$var: $.secret}}
  body: {$var: "$.query.hub\\\\.challenge"}
""",
    # https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
    "graph": """
type: webhook
subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
signature:
  scheme: bearer
  token: {$iterate: {source: {$var: $.body.value}, item: {$var: $.item.clientState}}}
challenge:
  signed: false
  when: {$eval: {$var: $.query.validationToken}, isNotEmpty: true}
  body: {$var: $.query.validationToken}
handle: {$var: $.body.value}
reply: {status: 202}
""",
    # https://www.dropbox.com/developers/reference/webhooks
    "dropbox": """
type: webhook
subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
signature: {scheme: hmac, header: X-Dropbox-Signature}
challenge:
  signed: false
  when: {$eval: {$var: $.method}, is: GET}
  headers: {X-Content-Type-Options: nosniff}
  body: {$var: $.query.challenge}
""",
}
FILES = {
    "connectors/echo/data_collections/contacts.yaml": COLLECTION,
    "connectors/echo/data_collections/people.yaml": PEOPLE,
    "connectors/echo/data_collections/leads.yaml": LEADS,
    "connectors/echo/global_webhooks/all.yaml": GLOBAL,
    "connectors/echo/external_events/told.yaml": TOLD,
    "mappings/integrations/echo/integration.yaml": "connector: echo\n"
    f"parameters: {{app_secret: {APP_SECRET}}}\n",
    **{f"connectors/echo/external_events/{n}.yaml": text for n, text in CHALLENGES.items()},
}

CONTACTS = {"kind": "record", "collection": "contacts", "stream": "contacts", "change": "all"}


def connect(runtime: Runtime, *tenants: str) -> None:
    """A connection of each tenant, with the tenant's name as its key."""
    for tenant in tenants:
        there = {"url": "http://127.0.0.1:9", "pin": "0"}
        runtime.ledger.connect(ConnectionRecord(tenant, "echo", tenant, input=there))


def subscribe(runtime: Runtime, key: str, connection: str = "acme", **more: Any) -> None:
    """A subscription to the connection's contacts, unless it's said otherwise."""
    given = {"config": CONTACTS, "secret": SECRET, "status": "subscribed", **more}
    runtime.ledger.subscriptions.keep(Subscription(key, connection, connection, **given))


def event(number: int | str, name: str = "Ada", change: str = "updated") -> dict[str, Any]:
    """What the app says of a contact that changed."""
    record = {"id": f"c{number}", "name": name, "updated": "2026-03-04T05:06:07Z"}
    return {"event_id": f"evt-{number}", "event": change, "record": record}


def signed(body: Any, secret: str = SECRET, prefix: str = "sha256=") -> dict[str, Any]:
    """Content and headers of a request with this body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Signature": prefix + signature}
    return {"content": content, "headers": headers}


def slack_signed(body: Any, secret: str = SECRET) -> dict[str, Any]:
    """The same as Slack signs it, now."""
    content, moment = json.dumps(body).encode(), str(int(time.time()))
    text = f"v0:{moment}:".encode() + content
    signature = "v0=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    headers = {"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": signature}
    return {"content": content, "headers": {"Content-Type": "application/json", **headers}}


def client(url: str) -> httpx.Client:
    """Somebody who sends webhooks."""
    return httpx.Client(base_url=url, timeout=30, trust_env=False)
