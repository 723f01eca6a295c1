"""Many processes and one quota: what a real server counts."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from membrane_sync.stores.quota_schedule import COME_BACK, HORIZON, SECOND
from membrane_sync.testing.simulator.traffic import most_within
from tests.clients.quota_process import LEFT, LIMITS
from tests.stores.databases import fresh_database

PROCESSES = 16
SECONDS = 8.0
RATE, BURST = 10, 3
assert [(limit["requests"], limit["burst"]) for limit in LIMITS] == [(RATE, BURST)]


class Counting:
    """A server on loopback that notes when each request left, and for whom.

    Not when it came: on a busy machine, its own threads let some wait, and then take them at once.
    """

    def __init__(self) -> None:
        self.left: list[tuple[float, str]] = []
        left = self.left

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                left.append((float(self.headers[LEFT]), self.path.strip("/")))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Counting]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()


def started(ledger: str, app: Counting, *parties: str) -> subprocess.Popen[str]:
    """A process that sends for these, once it's let go."""
    command = [sys.executable, "-m", "tests.clients.quota_process", ledger, app.url, *parties]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(processes: Sequence[subprocess.Popen[str]], seconds: float, after: float = 0.5) -> float:
    """Have them all begin at one moment, which is given, and send for so long."""
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * len(processes)
    begin = time.time() + after
    for process in processes:
        process.stdin.write(f"{begin} {begin + seconds}\n")
        process.stdin.flush()
    return begin


def ended(process: subprocess.Popen[str]) -> list[str]:
    """What it said at its end, by lines."""
    said, _ = process.communicate(timeout=SECONDS + 30)
    assert process.returncode == 0
    return said.splitlines()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nine_who_want_one_page_wait_briefly_beside_one_who_wants_a_thousand(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """And who waits at a screen waits less than any of them."""
    seconds, few = 6.0, [f"t{n}" for n in range(9)]
    with fresh_database(kind, tmp_path, request) as url, Counting().running() as app:
        greedy = [started(url, app, "acme") for _ in range(3)]
        small = started(url, app, *few, "interactive/clicks")
        begin = let_go(greedy, seconds)
        let_go([small], seconds, after=begin + seconds / 2 - time.time())
        took, *_, stalled = ended(small)
        late = max(float(stalled), *(float(ended(process)[-1]) for process in greedy))
    *waits, click = map(float, took.split())
    # Nine of them, and as many of the large one's share, at the quota's pace; and to ask again.
    assert max(waits) <= 2 * len(few) / RATE + COME_BACK / SECOND + late
    assert click <= 2 * HORIZON / SECOND + late
    sent = Counter(who for _, who in app.left)
    assert [sent[who] for who in (*few, "clicks")] == [1] * 10
    assert sent["acme"] >= 0.9 * RATE * (seconds - late) - 10, "what they leave is the large one's"
    moments = sorted(moment for moment, _ in app.left)
    assert most_within(moments, 1.0) <= RATE + BURST


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_sixteen_processes_keep_to_one_quota_and_use_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with fresh_database(kind, tmp_path, request) as url, Counting().running() as app:
        tenants = [["acme"]] * (PROCESSES - 2) + [["beta"]] * 2
        processes = [started(url, app, *tenant) for tenant in tenants]
        begin = let_go(processes, SECONDS)
        stalled = max(float(ended(process)[-1]) for process in processes)
    left = sorted(app.left)
    assert left[0][0] >= begin
    within = [(moment, who) for moment, who in left if moment < begin + SECONDS]
    moments = [moment for moment, _ in left]
    for window in (0.5, 1.0, 2.0, 5.0):
        assert most_within(moments, window) <= RATE * window + BURST, window
    # On a machine that lets none of them run for a while, nobody can use what is due then.
    assert len(within) >= 0.9 * RATE * (SECONDS - stalled), f"stalled for {stalled:.1f} s"
    assert stalled < SECONDS / 2, "too little was measured"
    # Two processes of one tenant get what fourteen of another do.
    assert Counter(who for _, who in within)["beta"] >= 0.4 * len(within)
