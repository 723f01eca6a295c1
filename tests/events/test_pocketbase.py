"""PocketBase tells of changes by real webhooks, to a subscription that's made by its connector."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from membrane_sync.apps.pocketbase import PocketBase, record_id, start_pocketbase
from tests.end_to_end.helpers import Workspace, new_workspace, pocketbase_connection

Received = tuple[str, str, bytes]


@pytest.fixture
def app(apps_dir: Path, tmp_path: Path, pocketbase: PocketBase) -> Iterator[PocketBase]:
    """A server with an empty `contacts`; the session's own has seen to the installation."""
    with start_pocketbase(apps_dir / "pocketbase", data=tmp_path / "pocketbase") as running:
        running.create_contacts_collection()
        running.create_webhooks_collection()
        yield running


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.Queue[Received]]:
    """What is sent to where our webhooks go: path, signature and body."""
    found: queue.Queue[Received] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.put((self.path, self.headers["X-Webhook-Signature"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MEMBRANE_PUBLIC_URL", f"http://127.0.0.1:{server.server_port}")
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return new_workspace(tmp_path / "project")


def test_every_change_is_told_to_the_subscription_and_signed(
    workspace: Workspace, app: PocketBase, received: queue.Queue[Received]
) -> None:
    connection = workspace.connect(pocketbase_connection(app))
    workspace.runtime.events.reconcile_subscriptions()
    (made,) = workspace.runtime.ledger.subscriptions.of_connection(connection)
    assert (made.status, made.error) == ("subscribed", "")
    assert [one["id"] for one in app.list("webhooks")] == [made.state["id"]]

    one = {"id": record_id(7), "email": "ada@example.org", "name": "Åda"}
    app.write("contacts", [one])
    app.update("contacts", [{"id": one["id"], "name": "Ada"}])
    app.delete("contacts", [one["id"]])
    told = []
    for _ in range(3):
        path, signature, body = received.get(timeout=60)
        proof = hmac.new(made.secret.encode(), body, hashlib.sha256).hexdigest()
        assert (path, signature) == (f"/webhooks/{made.key}", f"sha256={proof}")
        event = json.loads(body)
        told.append((event["change"], event["record"]["id"], event["record"]["name"]))
    names = [("created", "Åda"), ("updated", "Ada"), ("deleted", "Ada")]
    assert told == [(change, one["id"], name) for change, name in names]

    workspace.runtime.archive(connection)
    assert app.list("webhooks") == []
