"""From a webhook's 2xx until its record is in the lake, mapped and delivered, by sensor and worker.

    python -m benchmarks.events latency [sensor|worker ...] [--events N]

Everything is a process of its own, as in production: `membrane serve`, Dagster's daemon with a code
server, or `membrane worker`. The simulator's contacts change one at a time, at random moments; each
webhook is sent and answered before the clock starts. The ledger is SQLite.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import sqlalchemy as sa

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.dagster_process import dagster_environment
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import write_project

KEY = "benchmark-key-" + "k" * 32
PATIENCE = 120.0
PAUSES = {"worker": (0.2, 1.5), "sensor": (1.0, 9.0)}
WAYS = {
    "worker": ["-m", "membrane_sync.cli.main", "worker"],
    "sensor": ["-m", "dagster._daemon", "run", "-w", "workspace.yaml"],
}


@dataclass(frozen=True)
class World:
    """A project that is told of changes by an app."""

    root: Path
    app: Simulator
    runtime: Runtime


def measured(way: str, events: int) -> list[float]:
    """Seconds that each of so many events took."""
    with _world() as world, _process(WAYS[way], world.root):
        dice = random.Random(3)
        _told(world, [])  # until everything has started
        took: list[float] = []
        for _ in range(events):
            time.sleep(dice.uniform(*PAUSES[way]))
            _told(world, took)
        return took


def _told(world: World, took: list[float]) -> None:
    world.app.edit("contacts", 1)
    (delivery,) = world.app.webhooks.take()
    assert 200 <= delivery.send() < 300
    answered = time.time()
    took.append(_finished(world.runtime) - answered)
    print(f"  {took[-1]:.2f} s", file=sys.stderr)


def _finished(runtime: Runtime) -> float:
    """When the newest event was settled: after its lake's commit, and the product's database's."""
    engine = sa.create_engine(runtime.settings.ledger_url)
    query = "SELECT status, finished_at FROM membrane_events ORDER BY id DESC LIMIT 1"
    try:
        for _ in range(int(PATIENCE / 0.05)):
            with engine.connect() as connection:
                status, finished_at = connection.execute(sa.text(query)).one()
            if status == "done":
                return float(finished_at)
            time.sleep(0.05)
    finally:
        engine.dispose()
    raise SystemExit(f"an event wasn't applied within {PATIENCE:g} s")


@contextmanager
def _world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder, running(app := Simulator(), sending=False) as url:
        root, port = Path(folder) / "project", _free_port()
        scaffold(root, examples=False)
        write_project(root)
        public = f"http://127.0.0.1:{port}"
        os.environ |= {
            "MEMBRANE_API_KEYS": KEY,
            "MEMBRANE_PUBLIC_URL": public,
            "MEMBRANE_PRIVATE_HOSTS": "127.0.0.1",
        }
        runtime = open_runtime(root)
        given = {"token": "token-acme"}
        runtime.register(
            ConnectionRecord("acme", "simulator", "acme", input={"url": url}, credentials=given)
        )
        with _process(["-m", "membrane_sync.cli.main", "serve", "--port", str(port)], root):
            _wait_for(f"{public}/health")
            runtime.events.subscriptions.one("acme")
            yield World(root, app, runtime)
        runtime.close()


@contextmanager
def _process(arguments: Sequence[str], root: Path) -> Iterator[None]:
    with (root.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=root,
            env=dagster_environment(root),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            # The daemon's code server and its runs, too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def _wait_for(url: str) -> None:
    for _ in range(int(PATIENCE / 0.1)):
        with suppress(OSError), urlopen(url, timeout=5) as answer:
            assert answer.status == 200
            return
        time.sleep(0.1)
    raise SystemExit(f"{url} didn't answer within {PATIENCE:g} s")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.events latency", description=__doc__
    )
    parser.add_argument("ways", nargs="*", default=["worker", "sensor"])
    parser.add_argument("--events", type=int, default=40)
    given = parser.parse_args(arguments)
    # Told to end, it ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    for way in given.ways:
        took = sorted(measured(way, given.events))
        p50, p95 = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.95))]
        print(f"{way}: {len(took)} events, p50 {p50:.2f} s, p95 {p95:.2f} s, max {took[-1]:.2f} s")
