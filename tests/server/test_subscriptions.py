"""Subscriptions over HTTP: how they stand, and nothing by which an event could be forged."""

from __future__ import annotations

from membrane_sync.ports.subscriptions import Subscription
from tests.server.conftest import Api

CONFIG = {"kind": "record", "collection": "contacts", "stream": "contacts", "change": "all"}


def test_a_tenant_sees_how_its_own_stand(api: Api) -> None:
    key = api.connect()
    api.runtime.ledger.subscriptions.keep(
        Subscription(
            "planted-key",
            key,
            "acme",
            {**CONFIG, "parameters": {}},
            "error",
            state={"id": "planted-id"},
            secret="planted-secret",
            refresh_at=1_800_000_000.0,
            attempts=2,
            error="answered 403",
        )
    )
    answered = api.tenant()("GET", f"/connections/{key}/subscriptions")
    assert answered.status_code == 200 and "planted" not in answered.text
    assert answered.json()["items"] == [
        {
            "about": "contacts",
            "change": "all",
            "status": "error",
            "global_webhook": "",
            "renews_at": "2027-01-15T08:00:00Z",
            "attempts": 2,
            "error": "answered 403",
        }
    ]
    assert api.tenant("globex")("GET", f"/connections/{key}/subscriptions").status_code == 404
