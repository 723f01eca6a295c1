"""All of GitHub's recorded webhooks, signed as GitHub signs them, through the endpoint."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.bootstrap import Runtime
from membrane_sync.server.app import create_app
from tests.server.helpers import SETTINGS, project_with_echo, serving
from tests.server.hooks import SECRET, client, connect, subscribe
from tests.stores.databases import read

DELIVERED = """
subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
signature: {scheme: github}
handle:
  event: {$var: $.headers.x-github-event}
  action: {$var: $.body.action}
  repository: {$var: $.body.repository.full_name}
event_id: {$var: $.headers.x-github-delivery}
"""
TOLD = {"kind": "external", "event": "delivered"}


@dataclass(frozen=True)
class Delivery:
    """One request of GitHub's."""

    id: str
    event: str
    body: bytes

    @property
    def payload(self) -> Any:
        return json.loads(self.body)

    def headers(self, secret: str = SECRET) -> dict[str, str]:
        """https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers"""
        return {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Delivery": self.id,
            "X-GitHub-Event": self.event,
            "X-Hub-Signature": "sha1=" + _hmac(secret, self.body, hashlib.sha1),
            "X-Hub-Signature-256": "sha256=" + _hmac(secret, self.body, hashlib.sha256),
        }


def _hmac(secret: str, body: bytes, algorithm: Any) -> str:
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


@pytest.fixture(scope="module")
def deliveries(github_examples: Path) -> list[Delivery]:
    events = json.loads(github_examples.read_text(encoding="utf-8"))
    found = [
        Delivery(str(uuid.uuid4()), event["name"], _body(example))
        for event in events
        for example in event["examples"]
    ]
    assert len(events) > 50 and len(found) > 300
    return found


def _body(example: Any) -> bytes:
    """In UTF-8 and without spaces, as GitHub writes it."""
    return json.dumps(example, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Runtime]]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    workspace = project_with_echo(tmp_path / "project")
    workspace.write("connectors/echo/external_events/delivered.yaml", DELIVERED)
    connect(workspace.runtime, "acme")
    subscribe(workspace.runtime, "k1", config=TOLD)
    with serving(create_app(workspace.runtime)) as url:
        yield url, workspace.runtime


def test_each_is_verified_read_and_kept_once(
    served: tuple[str, Runtime], deliveries: list[Delivery]
) -> None:
    url, runtime = served
    forged = [replace(one, body=one.body + b" ") for one in deliveries]
    with client(url) as sender, ThreadPoolExecutor(8) as senders:

        def send(one: Delivery, headers: dict[str, str]) -> int:
            return sender.post("/webhooks/k1", content=one.body, headers=headers).status_code

        for _ in range(2):  # GitHub, or a user of its, may deliver it again
            answers = senders.map(send, deliveries, [one.headers() for one in deliveries])
            assert {*answers} == {200}
        # Of another body, and by another secret.
        signed = [one.headers() for one in deliveries]
        assert {*senders.map(send, forged, signed)} == {401}
        others = [one.headers("another secret") for one in deliveries]
        assert {*senders.map(send, deliveries, others)} == {401}

    ledger = runtime.settings.ledger_url
    rows = read(ledger, "SELECT payload FROM membrane_events")
    told = [json.loads(row["payload"]) for row in rows]
    assert sorted(map(str, told)) == sorted(str(_told(one)) for one in deliveries)
    kept = {
        row["headers"]["x-github-delivery"]: bytes(row["body"])
        for row in ({**r, "headers": _headers(r)} for r in _webhooks(ledger))
    }
    assert kept == {one.id: one.body for one in deliveries}
    assert {row["status"] for row in _webhooks(ledger)} == {"routed"}


def _told(one: Delivery) -> dict[str, Any]:
    """What `handle` makes of it: what isn't there is left out."""
    repository = one.payload.get("repository") or {}
    told = {
        "event": one.event,
        "action": one.payload.get("action"),
        "repository": repository.get("full_name"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _webhooks(ledger: str) -> list[dict[str, Any]]:
    return read(ledger, "SELECT headers, body, status FROM membrane_webhooks")


def _headers(row: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = json.loads(row["headers"])
    return found
