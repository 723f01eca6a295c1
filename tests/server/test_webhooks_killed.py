"""The server is killed under load: all that it answered is there, once, and nothing forged is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import httpx
import pytest

from membrane_sync.apps.process import free_port
from tests.server.helpers import SETTINGS
from tests.server.hooks import client, connect, event, signed, subscribe
from tests.server.test_webhooks import hooks_project
from tests.stores.databases import fresh_database, read

SENDERS = 8
ANSWERED_BEFORE_THE_KILL = 40
KILLS = {"sqlite": 2, "postgresql": 1}
"""A file of SQLite is taken over as the killed process left it."""


@contextmanager
def served(root: Path, url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`membrane serve` in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "membrane_sync.cli.main", "serve", "--port", str(port)]
    kept = {n: v for n, v in os.environ.items() if not n.startswith("MEMBRANE_")}
    environ = {**kept, **SETTINGS, "MEMBRANE_LEDGER_URL": url}
    with (root.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=root, env=environ, stdout=log, stderr=log)
    try:
        there = f"http://127.0.0.1:{port}"
        wait_for(there, process)
        yield process, there
    finally:
        process.kill()
        process.wait(timeout=20)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        try:
            assert httpx.get(f"{url}/health", timeout=30, trust_env=False).status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return


class Load:
    """Senders who send events, each twice or more, and forgeries, until the server is gone."""

    def __init__(self, round_: int) -> None:
        self._round = round_
        self._lock = Lock()
        self.answered: set[str] = set()
        self.forged_taken = 0

    def run(self, process: subprocess.Popen[bytes], url: str) -> None:
        with ThreadPoolExecutor(SENDERS) as senders:
            for done in [senders.submit(self._send, process, url, n) for n in range(SENDERS)]:
                done.result()

    def _send(self, process: subprocess.Popen[bytes], url: str, sender: int) -> None:
        with client(url) as http:
            for number in range(10_000):
                name = f"{self._round}-{sender}-{number}"
                try:
                    self._tell(process, http, name)
                except httpx.TransportError:
                    return  # it's dead

    def _tell(self, process: subprocess.Popen[bytes], http: httpx.Client, name: str) -> None:
        good = signed(event(name))
        for _ in range(2):
            if http.post("/webhooks/k1", **good).status_code == 202:
                with self._lock:
                    self.answered.add(f"c{name}")
        forged = signed(event(f"forged-{name}"), "a guess")
        self.forged_taken += http.post("/webhooks/k1", **forged).status_code != 401
        if len(self.answered) >= ANSWERED_BEFORE_THE_KILL:
            process.kill()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_all_that_was_answered_is_there_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(kind, tmp_path, request) as url:
        monkeypatch.setenv("MEMBRANE_LEDGER_URL", url)
        runtime = hooks_project(tmp_path / "project").runtime
        connect(runtime, "acme")
        subscribe(runtime, "k1")
        answered: set[str] = set()
        for round_ in range(KILLS[kind]):
            load = Load(round_)
            with served(tmp_path / "project", url) as (process, there):
                load.run(process, there)
            assert load.forged_taken == 0
            assert len(load.answered) >= ANSWERED_BEFORE_THE_KILL
            answered |= load.answered
        rows = read(url, "SELECT external_id, webhook FROM membrane_events")
        found = [str(row["external_id"]) for row in rows]
        assert answered <= {*found}
        assert len(found) == len({*found})
        assert not any("forged" in one for one in found)
        hooks = {row["id"] for row in read(url, "SELECT id FROM membrane_webhooks")}
        assert {row["webhook"] for row in rows} == hooks
        runtime.close()
