"""The simulator's own webhooks: subscribed to, sent as they're made, and wrong on demand."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from membrane_sync.testing.simulator import Collection, Hooks, Simulator
from membrane_sync.testing.simulator.webhooks import SIGNATURE, Delivery, sign
from tests.testing.simulator.helpers import client_of

ONE = [Collection(key="contacts", deletes="tombstone")]


def subscribe(client: httpx.Client, url: str = "http://127.0.0.1:9/in", **more: object) -> str:
    body = {"url": url, "collection": "contacts", "secret": "ours", **more}
    return str(client.post("/webhooks", json=body).raise_for_status().json()["id"])


def told(delivery: Delivery) -> dict:
    assert delivery.headers[SIGNATURE] == sign(delivery.body, "ours")
    return json.loads(delivery.body)


def sent_by(hooks: Hooks, edits: int = 200) -> list[Delivery]:
    simulator = Simulator(seed=3, records=50, collections=ONE, hooks=hooks)
    simulator.webhooks.subscribe("http://127.0.0.1:9/in", "contacts", "ours", "acme")
    for _ in range(edits):
        simulator.edit("contacts", 1)
    return simulator.webhooks.take()


def test_every_kind_of_change_is_told_with_its_record() -> None:
    simulator = Simulator(records=5, collections=ONE)
    hook = simulator.webhooks.subscribe("http://127.0.0.1:9/in", "contacts", "ours", "acme")
    [made] = simulator.create("contacts")
    simulator.edit("contacts", [made], {"name": "Ada"})
    simulator.delete("contacts", [made])
    events = [told(delivery) for delivery in simulator.webhooks.take()]
    assert [event["change"] for event in events] == ["created", "updated", "deleted"]
    assert [event["record"]["id"] for event in events] == [made] * 3
    assert events[1]["record"]["name"] == "Ada" and events[2]["record"]["deleted"] is True
    assert hook.url == "http://127.0.0.1:9/in" and simulator.webhooks.take() == []


def test_a_subscription_is_seen_renewed_and_ended() -> None:
    simulator = Simulator(records=5, collections=ONE, hooks=Hooks(longest_seconds=3_600))
    with client_of(simulator) as client:
        id = subscribe(client, expires_in=30)
        (shown,) = client.get("/webhooks").json()["items"]
        assert shown["id"] == id and "ours" not in json.dumps(shown)
        renewed = client.patch(f"/webhooks/{id}", json={"expires_in": 60}).json()
        assert renewed["expires_at"] > shown["expires_at"]
        assert client.delete(f"/webhooks/{id}").status_code == 204
        gone = [client.request(verb, f"/webhooks/{id}").status_code for verb in ("GET", "DELETE")]
        assert gone == [404, 404]
        assert client.post("/webhooks", json={"url": "x"}).status_code == 400


def test_one_that_has_ended_is_not_there_and_hears_nothing() -> None:
    simulator = Simulator(records=5, collections=ONE)
    simulator.webhooks.subscribe("http://127.0.0.1:9/", "contacts", "", "acme", seconds=-1)
    simulator.edit("contacts", 1)
    assert (simulator.webhooks.of("acme"), simulator.webhooks.take()) == ([], [])


def test_the_seed_draws_what_goes_wrong() -> None:
    bad = Hooks(dropped=0.1, duplicate=0.2, forged=0.1, late=0.3)
    first, second = sent_by(bad), sent_by(bad)
    assert [one.body for one in first] == [one.body for one in second]
    genuine = [one for one in first if one.headers[SIGNATURE] == sign(one.body, "ours")]
    ids = [int(told(one)["event_id"].removeprefix("evt-")) for one in genuine]
    counts = Counter(ids)
    assert 150 < len(counts) < 200 and max(counts.values()) == 2, "dropped, and twice"
    assert len(first) > len(genuine), "forged"
    assert ids != sorted(ids), "late"


def test_an_id_only_webhook_has_no_record() -> None:
    (event, *_) = [told(delivery) for delivery in sent_by(Hooks(id_only=True), edits=1)]
    assert event["id"].startswith("contacts-") and "record" not in event


@pytest.fixture
def receiver() -> Iterator[tuple[str, queue.Queue[bytes]]]:
    """A server that refuses the first request, and takes all others."""
    taken: queue.Queue[bytes] = queue.Queue()
    seen = iter([503])

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = next(seen, 204)
            if status == 204:
                taken.put(body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/in", taken
    server.shutdown()
    server.server_close()


def test_while_it_is_served_it_sends_until_it_is_taken(
    receiver: tuple[str, queue.Queue[bytes]],
) -> None:
    url, taken = receiver
    hooks = Hooks(attempts=3, again_seconds=0, late=1)
    simulator = Simulator(records=5, collections=ONE, hooks=hooks)
    with client_of(simulator) as client:
        subscribe(client, url)
        client.post("/_control/edit", json={"collection": "contacts", "count": 3})
        bodies = [taken.get(timeout=60) for _ in range(3)]
        deadline = time.monotonic() + 60
        while sum(simulator.webhooks.answers.values()) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert simulator.webhooks.answers == {503: 1, 204: 3}
        state = client.get("/_control/webhooks").json()
        assert (state["waiting"], len(state["subscriptions"])) == (0, 1)
    assert len({*bodies}) == 3
