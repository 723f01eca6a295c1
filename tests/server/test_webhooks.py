"""Webhooks over real sockets into real databases: kept before they're answered, or refused."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from membrane_sync.bootstrap import Runtime
from membrane_sync.errors import LedgerUnavailable
from membrane_sync.events import recipients
from membrane_sync.ports.events import Arrival, Put, Webhook
from membrane_sync.server.app import create_app
from membrane_sync.server.webhooks.routes import Webhooks
from tests.end_to_end.helpers import Workspace
from tests.server.helpers import API_KEY, SETTINGS, Caller, project_with_echo, serving
from tests.server.hooks import (
    APP_SECRET,
    CONTACTS,
    FILES,
    SECRET,
    client,
    connect,
    event,
    signed,
    slack_signed,
    subscribe,
)
from tests.stores.databases import fresh_database, read

PUBLIC_URL = "https://hooks.example.com/sync"


@dataclass
class World:
    """A server, its project, and somebody who sends webhooks."""

    url: str
    runtime: Runtime
    webhooks: Webhooks
    client: httpx.Client

    def rows(self, table: str, columns: str = "*") -> list[dict[str, Any]]:
        sql = f"SELECT {columns} FROM membrane_{table} ORDER BY id"
        return read(self.runtime.settings.ledger_url, sql)

    def post(self, key: str, body: Any, **signing: Any) -> httpx.Response:
        return self.client.post(f"/webhooks/{key}", **signed(body, **signing))

    def clear(self) -> None:
        """Nobody has been sent anything."""
        names = ("webhooks", "events", "seen_events", "event_queues", "subscriptions")
        with self.runtime.ledger._database.begin() as transaction:
            for name in names:
                transaction.exec_driver_sql(f"DELETE FROM membrane_{name}")
        self.runtime.events.intake.recipients.forget()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A server on either kind of ledger."""
    root = tmp_path_factory.mktemp("webhooks")
    with (
        pytest.MonkeyPatch.context() as patch,
        fresh_database(request.param, root, request) as url,
    ):
        environ = {"MEMBRANE_LEDGER_URL": url, "MEMBRANE_PUBLIC_URL": PUBLIC_URL}
        for name, value in {**SETTINGS, **environ}.items():
            patch.setenv(name, value)
        runtime = hooks_project(root / "project").runtime
        connect(runtime, "acme", "globex", "initech")
        app = create_app(runtime)
        with serving(app) as there, client(there) as sender:
            yield World(there, runtime, app.state.webhooks, sender)


@pytest.fixture
def world(both: World) -> World:
    both.clear()
    subscribe(both.runtime, "k1")
    return both


def hooks_project(root: Any) -> Workspace:
    workspace = project_with_echo(root)
    for path, text in FILES.items():
        workspace.write(path, text)
    return workspace


def test_what_is_answered_is_kept(world: World) -> None:
    answer = world.post("k1", event(1))
    assert (answer.status_code, answer.json(), answer.headers["X-Got"]) == (
        *(202, {"ok": True}),
        "evt-1",
    )
    (hook,), (kept,) = world.rows("webhooks"), world.rows("events")
    assert (hook["name"], hook["status"], bytes(hook["body"])) == (
        *("k1", "routed"),
        json.dumps(event(1)).encode(),
    )
    names = ("webhook", "kind", "name", "tenant", "connection", "subscription", "change")
    assert [kept[name] for name in names] == [
        *(hook["id"], "record", "contacts", "acme", "acme", "k1", "updated")
    ]
    assert (kept["external_id"], kept["occurred_at"], kept["status"]) == (
        *("c1", 1_772_600_767.0),
        "pending",
    )
    assert json.loads(kept["payload"]) == event(1)["record"]
    assert len(world.runtime.ledger.inbox.claim(10, 10, 60)) == 1


def test_what_comes_again_is_one(world: World) -> None:
    for body in (event(1), event(1), event(2), {**event(3), "event_id": None}) * 2:
        assert world.post("k1", body).status_code == 202
    assert [row["external_id"] for row in world.rows("events")] == ["c1", "c2", "c3"]
    assert len(world.rows("webhooks", "id")) == 3


def test_an_id_alone_is_no_duplicate_without_an_event_id(world: World) -> None:
    """It says that something happened, maybe again: taken for a duplicate, it would be lost."""
    for _ in range(2):
        world.post("k1", {"event": "updated", "id": 7})
    rows = world.rows("events", "id, external_id, payload")
    assert [(row["external_id"], row["payload"]) for row in rows] == [("7", "")] * 2


def test_forgeries_leave_nothing_but_a_count(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    good = signed(event(1))
    forged: list[dict[str, Any]] = [
        {"content": good["content"], "headers": {}},
        {**good, "headers": {**good["headers"], "X-Signature": "sha256=" + "0" * 64}},
        {**good, "headers": {**good["headers"], "X-Signature": SECRET}},
        {**good, "content": good["content"] + b" "},
        signed(event(1), "another secret"),
        signed(event(1), ""),
        signed(event(1), prefix="sha1="),
    ]
    before = counts(world).get("acme/contacts/all", {}).get("refused", 0)
    with caplog.at_level(logging.INFO):
        answers = [world.client.post("/webhooks/k1", **one) for one in forged]
    assert {answer.status_code for answer in answers} == {401}
    assert len({strip_id(answer) for answer in answers}) == 1
    assert world.rows("webhooks") == world.rows("events") == []
    count = counts(world)["acme/contacts/all"]
    assert count["refused"] == before + len(forged)
    assert count["last_reason"] == "its signature doesn't begin with sha256="
    log = "".join(one.getMessage() for one in caplog.records if one.name != "httpx")
    assert "acme/contacts/all is refused: it has no header X-Signature" in log or before
    for secret in ("k1", SECRET):
        assert secret not in log + str(counts(world))


def counts(world: World) -> dict[str, Any]:
    answer = Caller(world.url, API_KEY)("GET", "/webhook-counts").json()
    return {one["endpoint"]: one for one in answer["items"]}


def strip_id(answer: httpx.Response) -> str:
    said = answer.json()["error"]
    said.pop("request_id")
    return json.dumps(said)


def test_an_unknown_url_tells_nothing(world: World) -> None:
    runtime = world.runtime
    subscribe(runtime, "gone", config={**CONTACTS, "collection": "nothing"})
    subscribe(runtime, "polled", config={"kind": "external", "event": "none"})
    subscribe(runtime, "global", global_webhook="echo/all", selector="1")
    paths = ["/webhooks/nobody", "/webhooks/gone", "/webhooks/polled", "/webhooks/global"]
    paths += ["/webhooks/%00", "/webhooks/..%2Fk1", "/global-webhooks/echo/none"]
    paths += ["/global-webhooks/none/all", "/global-webhooks/kinto/all"]
    said = set()
    for path in paths:
        for method in ("POST", "GET"):
            answer = world.client.request(method, path, **signed(event(1)))
            assert answer.status_code == 404, path
            said.add(answer.json()["error"]["message"])
    assert len(said) <= 2  # a path that no route has, and a key that nobody has
    assert world.rows("webhooks") == []


def test_a_key_as_soon_as_it_is_there(world: World) -> None:
    assert world.post("new", event(1)).status_code == 404
    subscribe(world.runtime, "new")
    assert world.post("new", event(1)).status_code == 202


def test_a_new_secret_is_good_at_once_and_two_are_while_one_replaces_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipients, "RENEWED_AFTER_SECONDS", 0)
    assert world.post("k1", event(1)).status_code == 202
    subscribe(world.runtime, "k1", secret="a newer secret")
    assert world.post("k1", event(2), secret="a newer secret").status_code == 202
    assert world.post("k1", event(3)).status_code == 401


def test_a_body_is_bounded_before_it_is_read(world: World) -> None:
    large = event(1, "x" * 30_000)
    assert world.post("k1", large).status_code == 413
    pieces = signed(large)
    content = pieces.pop("content")
    chunked = (content[start : start + 1000] for start in range(0, len(content), 1000))
    answer = world.client.post("/webhooks/k1", content=chunked, **pieces)
    assert answer.status_code == 413
    assert world.post("k1", event(1)).status_code == 202
    assert len(world.rows("webhooks")) == 1


def test_a_body_that_drips_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.webhooks.bodies, "seconds", 0.3)
    with opened(world) as sender:
        sender.sendall(head("k1", 1000) + b"{")
        answer = b"".join(iter(lambda: sender.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408")
    assert world.webhooks.bodies.held == 0


def test_whoever_floods_one_address_leaves_room_for_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(world.runtime, "k2", "globex")
    monkeypatch.setattr(world.webhooks.bodies, "most_bytes", 8_000)
    with ExitStack() as flood:
        for _ in range(20):  # a body that never ends, of nobody who proves anything
            sender = flood.enter_context(opened(world))
            sender.sendall(head("k1", 1_500) + b"x" * 999)
        within(lambda: world.webhooks.bodies.held >= 1_000)
        assert world.post("k2", event(1)).status_code == 202
        assert world.post("k1", event(1, "y" * 2_000)).status_code == 503
    within(lambda: world.webhooks.bodies.held == 0)
    assert world.post("k1", event(2)).status_code == 202


def test_what_databases_cannot_hold_is_held_all_the_same(world: World) -> None:
    sent = signed({**event(1), "note": "\ud800\0"})
    sent["headers"] |= {"X-Note": b"\xff\xfe"}
    url = "/webhooks/k1?a=%00&b=%ED%A0%80&a=2"
    assert world.client.post(url, **sent).status_code == 202
    (row,) = world.rows("webhooks")
    assert row["status"] == "routed" and len(world.rows("events")) == 1


def opened(world: World) -> socket.socket:
    parts = urlsplit(world.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


def head(key: str, length: int, *headers: str) -> bytes:
    lines = [f"POST /webhooks/{key} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Gate:
    """Holds up what is put into the inbox until it's opened; `puts` are the sizes of groups."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.puts: list[int] = []
        self.fails: Callable[[Sequence[Arrival]], None] = lambda _: None
        self._put = type(world.runtime.ledger.inbox).put.__get__(world.runtime.ledger.inbox)
        patch.setattr(world.runtime.events.intake, "_inbox", self)

    def put(self, arrivals: Sequence[Arrival]) -> Sequence[Put]:
        self.reached.set()
        assert self.open.wait(30)
        self.puts.append(len(arrivals))
        self.fails(arrivals)
        put: Sequence[Put] = self._put(arrivals)
        return put


@pytest.fixture
def gate(world: World, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(world, monkeypatch)


def test_whoever_goes_away_is_kept_all_the_same(world: World, gate: Gate) -> None:
    sent = signed(event(1))
    headers = [f"{name}: {value}" for name, value in sent["headers"].items()]
    with opened(world) as sender:
        sender.sendall(head("k1", len(sent["content"]), *headers) + sent["content"])
        assert gate.reached.wait(20)
    gate.open.set()
    within(lambda: len(world.rows("events")) == 1)


def within(good: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_comes_meanwhile_is_kept_together(world: World, gate: Gate) -> None:
    with ThreadPoolExecutor(20) as senders:
        first = senders.submit(world.post, "k1", event("first"))
        assert gate.reached.wait(20)
        rest = [senders.submit(world.post, "k1", event(n)) for n in range(19)]
        within(lambda: world.webhooks.waiting == 19)
        assert not any(one.done() for one in [first, *rest])  # no answer before its commit
        gate.open.set()
        assert {one.result().status_code for one in [first, *rest]} == {202}
    assert gate.puts == [1, 19]
    assert len(world.rows("events")) == 20


def test_a_commit_that_fails_is_told_to_all_of_it(world: World, gate: Gate) -> None:
    def away(_: Sequence[Arrival]) -> None:
        raise LedgerUnavailable("planted: the database is away")

    gate.fails = away
    with ThreadPoolExecutor(5) as senders:
        sent = [senders.submit(world.post, "k1", event(n)) for n in range(5)]
        assert gate.reached.wait(20)
        gate.open.set()
        answers = [one.result() for one in sent]
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert "planted" not in answers[0].text
    assert world.rows("events") == []
    gate.fails = lambda _: None
    assert world.post("k1", event(1)).status_code == 202


def test_one_that_cannot_be_kept_does_not_take_the_others_along(world: World, gate: Gate) -> None:
    def poisoned(arrivals: Sequence[Arrival]) -> None:
        if any(b"poison" in one.webhook.body for one in arrivals if one.webhook):
            raise ZeroDivisionError("planted")

    gate.fails = poisoned
    names = ["Ada", "poison", "Grace"]
    with ThreadPoolExecutor(4) as senders:
        first = senders.submit(world.post, "k1", event("first"))
        assert gate.reached.wait(20)
        sent = [senders.submit(world.post, "k1", event(n, name)) for n, name in enumerate(names)]
        within(lambda: world.webhooks.waiting == 3)
        gate.open.set()
        assert [one.result().status_code for one in sent] == [202, 500, 202]
        assert first.result().status_code == 202
    assert len(world.rows("events")) == 3


def test_more_than_there_is_room_for_may_come_again(
    world: World, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.webhooks, "most_waiting", 2)
    with ThreadPoolExecutor(4) as senders:
        taken = [senders.submit(world.post, "k1", event("first"))]
        assert gate.reached.wait(20)
        taken += [senders.submit(world.post, "k1", event(n)) for n in range(2)]
        within(lambda: world.webhooks.waiting == 2)
        answer = world.post("k1", event(9))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert int(answer.headers["Retry-After"]) > 0
        gate.open.set()
        assert {one.result().status_code for one in taken} == {202}
    monkeypatch.setattr(world.webhooks.bodies, "most_bytes", 10)
    assert world.post("k1", event(9)).status_code == 503
    assert world.webhooks.bodies.held == 0


def test_who_proves_nothing_has_nothing_parsed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []

    def note(body: bytes) -> Any:
        parsed.append(body)
        return json.loads(body)

    monkeypatch.setattr("membrane_sync.events.request._json", note)
    forged = {**signed(event(1), "another secret")}
    assert world.client.post("/webhooks/k1", **forged).status_code == 401
    assert parsed == []
    assert world.post("k1", event(1)).status_code == 202
    assert len(parsed) == 1


def test_one_body_by_two_urls_is_two_events(world: World) -> None:
    """By the one of them the record was changed, by the other deleted; neither says so itself."""
    config = {**CONTACTS, "collection": "leads", "stream": "leads"}
    for change in ("updated", "deleted"):
        subscribe(world.runtime, change, config={**config, "change": change})
    for change in ("updated", "deleted") * 2:
        assert world.post(change, {"id": "c1", "name": "Ada"}).status_code == 200
    rows = world.rows("events", "id, change, external_id")
    assert [row["change"] for row in rows] == ["updated", "deleted"]


def test_requests_that_two_servers_may_read_differently_are_refused(world: World) -> None:
    sent = signed(event(1))
    proof = f"X-Signature: {sent['headers']['X-Signature']}"
    body, other = sent["content"], f"X-Signature: sha256={'0' * 64}"
    size, packed = len(body), gzip.compress(body)
    chunked = f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    bad = [
        head("k1", size, proof, other) + body,
        head("k1", size, other, proof) + body,
        head("k1", size, proof, "Transfer-Encoding: chunked") + chunked,
        head("k1", size, proof, f"Content-Length: {size + 5}") + body + b"12345",
        head("k1", size, f"X-Signature : {proof[13:]}") + body,
        head("k1", size, "X_Signature: " + proof[13:]) + body,
        head("k1", len(packed), proof, "Content-Encoding: gzip") + packed,
    ]
    for raw in bad:
        status = answered(world, raw)
        assert status in (400, 401), (status, raw[:200])
    assert world.rows("webhooks") == world.rows("events") == []
    # The same header twice says one thing; pieces are one body.
    good = b"POST /webhooks/k1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    good += f"{proof}\r\n{proof}\r\n\r\n".encode() + chunked
    assert answered(world, good) == 202
    assert len(world.rows("events")) == 1


def answered(world: World, raw: bytes) -> int:
    """The status that's answered to these bytes; 0 if the server only hangs up."""
    with opened(world) as sender:
        sender.sendall(raw)
        line = sender.makefile("rb").readline()
    return int(line.split()[1]) if line else 0


def test_a_compressed_body_is_signed_as_it_comes_and_kept_to_look_at(world: World) -> None:
    sent = signed(gzip.compress(json.dumps(event(1)).encode(), mtime=0))
    sent["headers"] |= {"Content-Encoding": "gzip"}
    assert world.client.post("/webhooks/k1", **sent).status_code == 202
    assert [row["status"] for row in world.rows("webhooks")] == ["failed"]


def test_bodies_in_other_encodings_say_the_same(world: World) -> None:
    for number, encoding in enumerate(("utf-8-sig", "utf-16", "utf-32")):
        body = json.dumps(event(number, "Åda"), ensure_ascii=False).encode(encoding)
        assert world.post("k1", body).status_code == 202
    names = [json.loads(row["payload"])["name"] for row in world.rows("events")]
    assert names == ["Åda"] * 3


def test_keys_of_others_in_any_spelling_are_none(world: World) -> None:
    subscribe(world.runtime, "K1", "globex", secret="globex-secret")
    for path in ("ключ", "k1%00", "k1%2f", "K1%20", "%EF%BC%AB1", "k1/..", "k" * 5_000):
        assert world.client.post(f"/webhooks/{path}", **signed(event(1))).status_code == 404
    assert world.post("K1", event(1)).status_code == 401  # it's another one's
    # The same event of two tenants is two.
    assert world.post("k1", event(1)).status_code == 202
    assert world.post("K1", event(1), secret="globex-secret").status_code == 202
    assert [row["connection"] for row in world.rows("events")] == ["acme", "globex"]


def test_a_genuine_one_that_makes_no_sense_is_kept_to_look_at(world: World) -> None:
    bodies: list[Any] = [
        {"event": "merged", "record": {"id": "1"}},
        {"event": "updated", "record": {"name": "nobody"}},
        {"event": "updated", "record": {"id": "1", "updated": "yesterday"}},
        {"event": "updated", "record": "Ada"},
        {"event": "updated", "record": {"id": "a\0b"}},
        b"{broken",
        b"[" * 5000,
        b'{"event": "updated", "record": {"id": NaN}}',
        b'{"event": "updated", "record": {"id": "1", "n": 1e400}}',
        b"\xff\xfe",
    ]
    for body in bodies:
        assert world.post("k1", body).status_code == 202, body
    rows = world.rows("webhooks")
    assert [row["status"] for row in rows] == ["failed"] * len(bodies)
    assert all(row["error"] for row in rows)
    assert world.rows("events") == []


def test_what_proves_the_sender_is_not_kept(world: World) -> None:
    sent = signed(event(1))
    sent["headers"] |= {"Authorization": "Bearer of-someone", "Cookie": "a=b", "X-Delivery": "7"}
    sent["headers"] |= {"X-Echo": f"secret={SECRET}"}
    world.client.post("/webhooks/k1", params={"token": SECRET, "page": "1"}, **sent)
    (row,) = world.rows("webhooks")
    assert "x-delivery" in str(row["headers"]) and "page" in str(row["query"])
    for name in ("x-signature", "authorization", "cookie", "of-someone", SECRET):
        assert name not in str({**row, "body": ""}).lower()


def test_a_global_webhook_finds_every_tenant_of_each_of_its_events(world: World) -> None:
    told = {"kind": "external", "event": "told"}
    created = {**CONTACTS, "collection": "people", "stream": "people", "change": "created"}
    here = {"global_webhook": "echo/all", "secret": ""}
    subscribe(world.runtime, "g1", "acme", selector="1", config=told, **here)
    subscribe(world.runtime, "g2", "globex", selector="2", config=created, **here)
    subscribe(world.runtime, "g3", "initech", selector="2", config=told, **here)
    accounts = [1, "2", "2", "unknown"]
    events = [
        {"id": f"e{n}", "account": account, "record": {"id": f"c{n}", "name": "Ada"}}
        for n, account in enumerate(accounts)
    ]
    sent = signed({"events": events}, APP_SECRET, "")
    for _ in range(2):
        assert world.client.post("/global-webhooks/echo/all", **sent).status_code == 200
    found = [
        (row["connection"], row["kind"], row["name"], row["external_id"], row["payload"])
        for row in world.rows("events")
    ]
    said = [json.dumps({"id": f"c{n}", "name": "Ada"}) for n in range(3)]
    assert sorted(found) == [
        ("acme", "external", "told", "", said[0]),
        ("globex", "record", "people", "c1", said[1]),
        ("globex", "record", "people", "c2", said[2]),
        ("initech", "external", "told", "", said[1]),
        ("initech", "external", "told", "", said[2]),
    ]
    (hook,) = world.rows("webhooks")
    assert (hook["status"], hook["error"]) == ("routed", "nobody is subscribed to unknown")
    forged = signed({"events": events}, SECRET, "")
    assert world.client.post("/global-webhooks/echo/all", **forged).status_code == 401


def test_what_is_meant_for_nobody_is_kept_and_can_be_decided_again(world: World) -> None:
    record = {"id": "c1", "name": "Ada"}
    sent = signed({"events": [{"account": "1", "record": record}]}, APP_SECRET, "")
    assert world.client.post("/global-webhooks/echo/all", **sent).status_code == 200
    (row,) = world.rows("webhooks")
    assert row["status"] == "unmatched"
    told = {"kind": "external", "event": "told"}
    subscribe(world.runtime, "g1", config=told, global_webhook="echo/all", selector="1")
    kept = Webhook(row["source"], row["name"], bytes(row["body"]), id=row["id"])
    decision = world.runtime.events.intake.decide_again(kept)
    assert decision is not None
    assert [(e.connection, json.loads(e.payload)) for e in decision.events] == [("acme", record)]


CONTENT = {"Content-Type": "application/json"}


def test_challenges_are_answered_as_their_senders_ask(world: World) -> None:
    for name in ("slack", "meta", "graph", "dropbox"):
        subscribe(world.runtime, name, config={"kind": "external", "event": name})
    slack = {"type": "url_verification", "challenge": "3eZbrw1aB"}
    answer = world.client.post("/webhooks/slack", **slack_signed(slack))
    assert said(answer) == (200, "3eZbrw1aB", "text/plain")
    assert world.client.post("/webhooks/slack", **signed(slack)).status_code == 401

    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": SECRET}
    answer = world.client.get("/webhooks/meta", params=asked)
    assert said(answer) == (200, "1158201444", "text/plain")
    wrong = {**asked, "hub.verify_token": "another"}
    assert world.client.get("/webhooks/meta", params=wrong).status_code == 401

    token = "Validation: Testing <b>client</b> application"
    answer = world.client.post("/webhooks/graph", params={"validationToken": token})
    assert said(answer) == (200, token, "text/plain")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    values = [{"resource": "1", "clientState": SECRET}, {"resource": "2", "clientState": SECRET}]
    assert world.client.post("/webhooks/graph", json={"value": values}).status_code == 202
    forged = [values[0], {"resource": "3", "clientState": "guessed"}]
    assert world.client.post("/webhooks/graph", json={"value": forged}).status_code == 401

    answer = world.client.get("/webhooks/dropbox", params={"challenge": "abc"})
    assert said(answer) == (200, "abc", "text/plain")
    answer = world.client.get("/webhooks/k1")
    assert answer.status_code == 401
    assert [row["name"] for row in world.rows("webhooks")] == ["graph"]
    assert len(world.rows("events")) == 2


def said(answer: httpx.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.text, answer.headers["Content-Type"].partition(";")[0]


def test_servers_count_together_and_a_forgery_costs_no_write_of_its_own(world: World) -> None:
    before = counts(world).get("acme/contacts/all", {})
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            statements.append(statement)

    engine = world.runtime.ledger._database._engine
    sa.event.listen(engine, "before_cursor_execute", note)
    other = create_app(world.runtime)
    with serving(other) as there, client(there) as sender:
        for _ in range(50):
            for one in (sender, world.client):
                assert one.post("/webhooks/k1", content=b"forged").status_code == 401
        assert sender.post("/webhooks/k1", **signed(event(1))).status_code == 202
        assert Caller(there, API_KEY)("GET", "/webhook-counts").status_code == 200
    found = counts(world)["acme/contacts/all"]
    sa.event.remove(engine, "before_cursor_execute", note)
    assert found["refused"] == before.get("refused", 0) + 100
    assert found["received"] == before.get("received", 0) + 1
    assert sum("webhook_counts" in statement for statement in statements) < 20
    subscribe(world.runtime, "k2", "globex")
    world.post("k2", event(1))
    pages, cursor = [], ""
    while cursor is not None:
        asked = {"limit": 1, "cursor": cursor}
        page = Caller(world.url, API_KEY)("GET", "/webhook-counts", params=asked).json()
        pages.append([one["endpoint"] for one in page["items"]])
        cursor = page["next_cursor"]
    assert {len(names) for names in pages} == {1}
    assert ["acme/contacts/all"] in pages and ["globex/contacts/all"] in pages


def test_counts_outlive_a_ledger_that_is_away_and_a_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = counts(world).get("acme/contacts/all", {}).get("refused", 0)

    def away(_: Any) -> None:
        raise LedgerUnavailable("planted: the database is away")

    with monkeypatch.context() as broken:
        broken.setattr(world.webhooks.tally, "_keep", away)
        world.client.post("/webhooks/k1", content=b"forged")
        assert counts(world).get("acme/contacts/all", {}).get("refused", 0) == before
    world.client.post("/webhooks/k1", content=b"forged")
    found = counts(world)["acme/contacts/all"]
    said = (found["refused"], found["last_reason"])
    assert said == (before + 2, "it has no header X-Signature")
    with serving(create_app(world.runtime)) as there:
        items = Caller(there, API_KEY)("GET", "/webhook-counts").json()["items"]
    assert found in items


def test_the_counts_are_for_the_backend(world: World) -> None:
    assert world.client.get("/webhook-counts").status_code == 401
    world.post("k1", event(1))
    assert counts(world)["acme/contacts/all"]["received"] >= 1
