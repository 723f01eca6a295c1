"""Webhooks taken in for good, beside the same server answering without keeping anything.

    python -m benchmarks.events intake [sqlite|postgresql ...] [--seconds N]

A server process takes what a load process sends: signed bodies of about 1 kB for 50 connections,
over 64 connections that stay open. PostgreSQL is a server of its own, with its defaults: each
commit is durable. It prints events a second, latencies, the CPU of the server's process, and the
ratio to the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.events.meter import cpu_seconds, databases

CONNECTIONS = 50
SENDERS = 64
MOST_A_SECOND = 5_000
RUN = secrets.token_hex(4)
SECRET = "benchmark-secret"
KEY = "benchmark-key-" + "k" * 32

FILES = {
    "connectors/bench/connector.yaml": "name: Bench\nbase_url: http://127.0.0.1:9\n",
    "connectors/bench/data_collections/contacts.yaml": """
fields_schema: {type: object, properties: {id: {type: string}}}
list: {path: /contacts}
events:
  all:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    signature: {scheme: github}
    handle: {type: {$var: $.body.type}, record: {$var: $.body.record}}
    event_id: {$var: $.body.event_id}
    occurred_at: {$var: $.record.updated_at}
""",
    "mappings/integrations/bench/integration.yaml": "connector: bench\n",
    "pyproject.toml": "[tool.membrane_sync]\n",
}


@dataclass(frozen=True)
class Figures:
    """What one run measured."""

    answered: int
    seconds: float
    latencies: Sequence[float]
    cpu_seconds: float
    refused: int

    @property
    def rate(self) -> float:
        return self.answered / self.seconds

    def at(self, share: float) -> float:
        """A latency in milliseconds that so many were below."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


def project(root: Path, ledger_url: str) -> None:
    """A project whose connections are subscribed."""
    from membrane_sync.bootstrap import open_runtime
    from membrane_sync.ports import ConnectionRecord
    from membrane_sync.ports.subscriptions import Subscription

    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    os.environ["MEMBRANE_LEDGER_URL"] = ledger_url
    runtime = open_runtime(root)
    about = {"kind": "record", "collection": "contacts", "stream": "contacts", "change": "all"}
    for number in range(CONNECTIONS):
        key = f"tenant{number}"
        runtime.ledger.connect(ConnectionRecord(key, "bench", key))
        subscription = Subscription(f"key{number}", key, key, about, "subscribed", secret=SECRET)
        runtime.ledger.subscriptions.keep(subscription)
    runtime.close()


def serve(root: str, keep: bool) -> None:
    """Serve the project; the floor reads each body whole, and answers."""
    import socket

    import uvicorn

    from membrane_sync.bootstrap import open_runtime
    from membrane_sync.server.app import create_app

    app = create_app(open_runtime(Path(root)))
    if not keep:
        app.router.routes.insert(0, _floor())
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run([listening])


def _floor() -> Any:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(b"")

    return Route("/webhooks/{key}", answer, methods=["POST"])


def load(url: str, seconds: float) -> None:
    """Send for so long; prints what came of it as JSON."""
    print(json.dumps(asyncio.run(_load(url, seconds))))


class Sender(asyncio.Protocol):
    """Sends one request after another, each when the last is answered; it's as cheap as it can be.

    The requests are made beforehand, so that no time is taken for them while it's measured.
    """

    def __init__(self, number: int, requests: int) -> None:
        self.latencies: list[float] = []
        self.refused = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        made = (f"{RUN}-{number}-{count}" for count in range(requests))
        self._requests = [_request(number + count, name) for count, name in enumerate(made)]
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def begin(self, until: float) -> None:
        self._until = until
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if found and len(body) >= length:
            now = time.perf_counter()
            if head.startswith(b"HTTP/1.1 200"):
                self.latencies.append(now - self._sent)
            else:
                self.refused += 1
            self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def _send(self) -> None:
        self._answer = b""
        self._sent = time.perf_counter()
        if self._sent > self._until or not self._requests:
            self._transport.close()
            return
        self._transport.write(self._requests.pop())


async def _load(url: str, seconds: float) -> dict[str, Any]:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    each = int(seconds * MOST_A_SECOND / SENDERS) + 1
    senders = [Sender(number, each) for number in range(SENDERS)]
    for sender in senders:
        await loop.create_connection(lambda made=sender: made, parts.hostname, parts.port)
    began = time.perf_counter()
    for sender in senders:
        sender.begin(began + seconds)
    await asyncio.gather(*(sender.over for sender in senders))
    took = time.perf_counter() - began
    latencies = [one for sender in senders for one in sender.latencies]
    refused = sum(sender.refused for sender in senders)
    return {"seconds": took, "latencies": latencies, "refused": refused}


def _request(number: int, name: str) -> bytes:
    record = {
        "id": f"c{number % 10_000}",
        "updated_at": time.time(),
        "name": "Ada Lovelace",
        "notes": "x" * 800,
    }
    body = json.dumps({"event_id": name, "type": "updated", "record": record}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST /webhooks/key{number % CONNECTIONS} HTTP/1.1\r\nHost: bench\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
    return head.encode() + body


def measured(root: Path, ledger_url: str, keep: bool, seconds: float) -> Figures:
    """One run in processes of its own."""
    environ = {**os.environ, "MEMBRANE_LEDGER_URL": ledger_url, "MEMBRANE_API_KEYS": KEY}
    words = [sys.executable, "-m", "benchmarks.events", "intake"]
    command = [*words, "serve", str(root), *(["--keep"] if keep else [])]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        _sent(words, url, 1.0)  # so that both sides are warm
        before = cpu_seconds(process.pid)
        said = _sent(words, url, seconds)
        cpu = cpu_seconds(process.pid) - before
    finally:
        process.terminate()
        process.wait(timeout=30)
    latencies = said["latencies"]
    return Figures(len(latencies), said["seconds"], latencies, cpu, said["refused"])


def _sent(words: list[str], url: str, seconds: float) -> dict[str, Any]:
    command = [*words, "load", url, str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def intake(kinds: Sequence[str], seconds: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory, databases(kinds, Path(directory)) as urls:
        print(
            f"{'':12}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms each':>13}{'of floor':>10}"
        )
        floor: Figures | None = None
        for kind, url in urls.items():
            root = Path(directory) / kind
            project(root, url)
            if floor is None:
                floor = measured(root, url, False, seconds)
                show("floor", floor, floor)
            figures = measured(root, url, True, seconds)
            show(kind, figures, floor)
            check(url, figures)


def show(name: str, figures: Figures, floor: Figures) -> None:
    """A line of the table."""
    each = figures.cpu_seconds / max(figures.answered, 1) * 1000
    print(
        f"{name:12}{figures.rate:>10,.0f}{figures.at(0.5):>9.1f}{figures.at(0.99):>9.1f}"
        f"{each:>13.3f}{figures.rate / floor.rate:>10.0%}"
        + (f"  {figures.refused} refused" if figures.refused else ""),
        flush=True,
    )


def check(url: str, figures: Figures) -> None:
    """What was answered is there."""
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT count(*) FROM membrane_events")).scalar_one()
    engine.dispose()
    assert kept >= figures.answered, f"{figures.answered} were answered and {kept} kept"


def main(arguments: Sequence[str]) -> None:
    """Measure, or be the server or the load of a measurement."""
    if arguments[:1] == ["serve"]:
        serve(arguments[1], "--keep" in arguments)
    elif arguments[:1] == ["load"]:
        load(arguments[1], float(arguments[2]))
    else:
        parser = argparse.ArgumentParser(
            prog="python -m benchmarks.events intake", description=__doc__
        )
        parser.add_argument("kinds", nargs="*", default=["sqlite", "postgresql"])
        parser.add_argument("--seconds", type=float, default=10.0)
        given = parser.parse_args(arguments)
        intake(given.kinds, given.seconds)
