"""Stripe's webhooks, from a server that signs them as Stripe does, to the lake and the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

from membrane_sync.ports import ConnectionRecord
from tests.apps.localstripe import KEY, LocalStripe, start_localstripe
from tests.end_to_end.helpers import Workspace
from tests.end_to_end.test_webhooks import names, served, until
from tests.stores.databases import read

__all__ = ["served"]

CONNECTOR = """
name: Stripe
base_url: {$var: $.input.url}
input_schema: {type: object, properties: {url: {type: string}}, required: [url]}
authentication:
  type: basic
  username: {$var: $.credentials.key}
  password: ""
  input_schema:
    type: object
    properties: {key: {type: string, isSensitive: true}}
    required: [key]
test: {path: /v1/customers, query: {limit: 1}}
"""
CUSTOMERS = """
fields_schema:
  type: object
  properties: {id: {type: string}, email: {type: string}, name: {type: string}}
list:
  path: /v1/customers
  records: $.body.data
  pagination:
    type: keyset
    parameter: starting_after
    next: {$var: $.id}
    has_more: {$var: $.body.has_more}
    page_size_parameter: limit
    page_size: 100
deletes: {full_scan: true, max_share: 1}
find_by_id: {path: "/v1/customers/{id}", path_parameters: {id: {$var: $.id}}}
events:
  all:
    type: webhook
    # Stripe's own is POST /v1/webhook_endpoints, and gives the secret in its answer.
    subscribe:
      method: POST
      path: /_config/webhooks/acme
      body:
        url: {$var: $.webhook_url}
        secret: {$var: $.secret}
        events: [customer.created, customer.updated, customer.deleted]
    signature: {scheme: stripe}
    event_id: {$var: $.body.id}
    occurred_at: {$var: $.body.created}
    handle:
      record: {$var: $.body.data.object}
      type:
        $case:
          cases:
            - {filter: {$eval: {$var: $.body.type}, is: customer.created}, value: created}
            - {filter: {$eval: {$var: $.body.type}, is: customer.deleted}, value: deleted}
          default: updated
"""
MAPPING = """
import_value: {email: {$var: $.email}, full_name: {$var: $.name}, stage: lead}
"""
FILES = {
    "connectors/stripe/connector.yaml": CONNECTOR,
    "connectors/stripe/data_collections/contacts.yaml": CUSTOMERS,
    "mappings/integrations/stripe/integration.yaml": "connector: stripe\n",
    "mappings/integrations/stripe/field_mappings/contacts.yaml": MAPPING,
}


@pytest.fixture
def declared() -> dict[str, str]:
    """What `served` has besides the repository's own declarations."""
    return FILES


@pytest.fixture
def stripe(apps_dir: Path, tmp_path: Path) -> Iterator[LocalStripe]:
    with FileLock(apps_dir / "localstripe.lock"):
        running = start_localstripe(apps_dir / "localstripe", data=tmp_path / "localstripe")
    with running:
        yield running


def test_what_stripe_tells_of_is_in_the_lake_and_in_the_products_rows(
    served: Workspace, stripe: LocalStripe
) -> None:
    given = {"input": {"url": stripe.url}, "credentials": {"key": KEY}}
    connection = served.connect(ConnectionRecord("acme_stripe", "stripe", "acme", **given))
    subscriptions = served.runtime.ledger.subscriptions
    until(lambda: [one.status for one in subscriptions.of_connection(connection)] == ["subscribed"])

    ada, grace, edsger = (
        stripe.create(email=f"{name}@example.org", name=name) for name in ("Ada", "Grace", "Edsger")
    )
    stripe.update(ada, name="Ada L.")
    stripe.delete(grace)
    truth = {ada: "Ada L.", edsger: "Edsger"}
    until(lambda: names(served, connection) == truth)
    until(lambda: served.runtime.ledger.inbox.waiting() == 0)
    rows = served.delivered(connection)
    assert {key: row["full_name"] for key, row in rows.items()} == truth

    # As it came it's kept, and so it can be sent again: it's the same event, and changes nothing.
    (made,) = subscriptions.of_connection(connection)
    ledger = served.runtime.settings.ledger_url
    kept = read(ledger, "SELECT body FROM membrane_webhooks ORDER BY id")
    assert len(kept) == 5
    assert {json.loads(bytes(row["body"]))["object"] for row in kept} == {"event"}
    url = f"{served.runtime.settings.connect.public_url}/webhooks/{made.key}"
    for headers in ({}, {"Stripe-Signature": "t=1,v1=" + "0" * 64}):
        body = bytes(kept[0]["body"])
        refused = httpx.post(url, content=body, headers=headers, trust_env=False)
        assert refused.status_code == 401
    assert names(served, connection) == truth
    assert served.sync(connection).written == 0
