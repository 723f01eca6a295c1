"""Other processes pull the same strings over HTTP; writes by API; webhooks."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from pydantic import ValidationError

from membrane_sync.testing.simulator import Collection, Faults, Simulator
from membrane_sync.testing.simulator.webhooks import SIGNATURE, sign
from tests.testing.simulator.helpers import TOKEN, client_of


def test_a_misspelt_switch_is_refused() -> None:
    with pytest.raises(ValidationError):
        Faults.model_validate({"eror": 0.5})
    with client_of(Simulator(records=5)) as client:
        assert client.post("/_control/faults", json={"eror": 0.5}).status_code == 400
        assert client.post("/_control/edit", json={"collection": "none"}).status_code == 400


def test_the_strings_over_http() -> None:
    simulator = Simulator(records=20)
    with client_of(simulator) as client:

        def pull(name: str, **given: object) -> dict:
            answer = client.post(f"/_control/{name}", json=given)
            return answer.raise_for_status().json()

        made = pull("create", collection="contacts", count=2)["ids"]
        edited = pull("edit", collection="contacts", ids=made, together=True)["ids"]
        assert edited == made
        assert pull("delete", collection="contacts", ids=made[:1])["ids"] == made[:1]
        before = simulator.now
        assert pull("tick", seconds=2.5)["now"] == before + 2_500_000
        assert pull("faults", error=1.0)["error"] == 1.0
        assert client.get("/me").status_code >= 500
        pull("faults", error=0)
        quota = {"requests": 1, "per_seconds": 60}
        pull("limits", quotas=[quota], dialect="zero")
        assert [client.get("/me").status_code for _ in range(2)] == [200, 429]
        pull("limits", quotas=[])
        state = client.get("/_control/state").json()
        assert state["collections"]["contacts"] == 22
        assert state["statuses"]["429"] == 1
        log = client.get("/_control/log").json()
        assert [entry["path"] for entry in log] == ["/me"] * 3
        window = client.get("/_control/window", params={"seconds": 60}).json()
        assert window == {"most": 2}
        truth = client.get("/_control/truth", params={"collection": "contacts"}).json()
        assert truth == simulator.truth("contacts")
        pull("forget_log")
        assert client.get("/_control/log").json() == []


def test_records_are_written_by_api() -> None:
    simulator = Simulator(records=5)
    with client_of(simulator) as client:
        key = {"Idempotency-Key": "once"}
        made = [
            client.post("/contacts", json={"email": "ada@x.example"}, headers=key).json()["id"]
            for _ in range(2)
        ]
        assert made[0] == made[1]
        path = f"/contacts/{made[0]}"
        changed = client.patch(path, json={"city": "Faro", "id": "mine"}).json()
        assert (changed["city"], changed["id"]) == ("Faro", made[0])
        match = client.get("/contacts/match", params={"email": "ada@x.example"}).json()["items"]
        assert [record["id"] for record in match] == made[:1]
        found = client.get("/contacts/search", params={"q": "faro"}).json()["items"]
        assert [record["id"] for record in found] == made[:1]
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404
        assert client.post("/contacts", content=b"{").status_code == 400
    assert made[0] not in simulator.truth("contacts")


def test_a_process_of_its_own_serves_the_same_app() -> None:
    code = (
        "from membrane_sync.testing.simulator import Simulator, serve\n"
        "from membrane_sync.testing.simulator.server import address, bound\n"
        "listening = bound()\n"
        "print(address(listening), flush=True)\n"
        "serve(Simulator(seed=9, records=7), listening)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            url = other.stdout.readline().strip()
            items = httpx.get(f"{url}/contacts", headers=TOKEN).json()["items"]
        finally:
            other.kill()
    mine = Simulator(seed=9, records=7).truth("contacts")
    assert {record["id"]: record for record in items} == mine


def test_webhooks_are_signed_and_misbehave_on_demand() -> None:
    received: list[tuple[str, bytes]] = []

    class Subscriber(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers[SIGNATURE], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Subscriber)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    simulator = Simulator(seed=1, collections=[Collection(key="c")])
    simulator.webhooks.urls.append(f"http://127.0.0.1:{server.server_port}/")
    events = [("c.updated", {"id": f"c-{n}"}) for n in range(20)]
    try:
        made = simulator.webhooks.deliveries(events, duplicate=0.5, forged=0.5, shuffled=True)
        assert [delivery.send() for delivery in made] == [204] * len(made)
    finally:
        server.shutdown()
        server.server_close()
    genuine = [body for signature, body in received if signature == sign(body)]
    assert len(received) > len(genuine) > len(set(genuine)) == 20
    order = [json.loads(body)["event_id"] for body in dict.fromkeys(genuine)]
    assert order != sorted(order, key=lambda name: int(name.removeprefix("evt-")))
