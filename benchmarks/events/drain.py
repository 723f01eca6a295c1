"""A million events that wait, applied by `membrane worker`: how fast, and in how much memory.

    python -m benchmarks.events drain [sqlite|postgresql] [--events N] [--connections N] [--hot S]

Each event carries a record of about 500 bytes, and came as a webhook, by the inbox's own `put`. A
share `--hot` is of one connection; the others have the rest. They tell of half as many records,
which go through all verbs into the product's database. The worker is a process of its own. A tick
of the sensor `inbox` is timed before, with an empty ledger, and afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from benchmarks.events.meter import cpu_seconds, databases, resident_mb
from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.dagster_process import dagster_environment, worker
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.events import Arrival, Event, Webhook

PUT_AT_ONCE = 1_000
LOOK_SECONDS, SHOW_SECONDS = 1.0, 10.0
PATIENCE = 300.0
"""So long may pass without an event that takes effect."""
TICKS = 20
NOTES = "x" * 380

FILES = {
    "connectors/bench/connector.yaml": "name: Bench\nbase_url: http://127.0.0.1:9\n",
    "connectors/bench/data_collections/contacts.yaml": """
fields_schema:
  type: object
  properties:
    id: {type: string}
    name: {type: string}
    email: {type: string}
    notes: {type: string}
    updated_at: {type: string, format: date-time}
list: {path: /contacts, cursor: {field: $.updated_at, type: timestamp, inclusive: true}}
events:
  all:
    type: webhook
    subscribe: {method: POST, path: /hooks, body: {url: {$var: $.webhook_url}}}
    signature: {scheme: github}
    handle: {type: {$var: $.body.type}, record: {$var: $.body.record}}
""",
    "mappings/integrations/bench/integration.yaml": "connector: bench\n",
    "mappings/universal/packages/contacts.yaml": """
data_schemas:
  contacts:
    schema:
      type: object
      properties: {email: {type: string}, full_name: {type: string}}
      required: [email]
    table:
      {name: contacts, key: id, tenant_column: tenant, connection_column: connection, create: true}
data_sources:
  contacts: {collection_key: contacts}
field_mappings:
  contacts:
    data_source: contacts
    data_schema: contacts
    direction: import
    import_value: {email: {$lower: {$var: $.email}}, full_name: {$var: $.name}}
data_link_tables: {contacts: {}}
syncs:
  contacts: {field_mapping: contacts, data_link_table: contacts}
""",
}


@dataclass(frozen=True)
class Shape:
    """How many events there are, and of which connections: `hot` is the share of the first."""

    events: int = 1_000_000
    connections: int = 300
    hot: float = 0.2

    def told(self) -> Iterator[tuple[int, int]]:
        """The connection and the record of each event, by number, in the order in which they come.

        Each connection has records of its own, half as many as events.
        """
        dice = random.Random(3)
        others = max(1, self.connections - 1)
        of_hot = int(self.events * self.hot) if self.connections > 1 else self.events
        for _ in range(self.events):
            if dice.random() * self.events < of_hot:
                yield 0, dice.randrange(max(1, of_hot // 2))
            else:
                records = (self.events - of_hot) // others // 2
                yield 1 + dice.randrange(others), dice.randrange(max(1, records))


@dataclass
class Watched:
    """What was seen of the worker: its memory by how many events it had applied."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = 0.0
    memory: list[tuple[int, float]] = field(default_factory=list)

    def memory_at(self, events: float) -> float:
        """Megabytes once so many events were applied."""
        return next(mb for done, mb in self.memory if done >= events)


def drain(kind: str, shape: Shape) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, databases([kind], Path(folder)) as urls:
        root = Path(folder) / "project"
        runtime = _project(root, urls[kind], shape.connections)
        hot = f"{shape.hot:.0%} of them of one" if shape.connections > 1 else ""
        _say(f"{kind}: {shape.events:,} events of {shape.connections:,} connections, {hot}")
        _say(_ticks(root, runtime, "an empty ledger"))
        began = time.perf_counter()
        newest = _queue(runtime, shape)
        _say(f"queued in {time.perf_counter() - began:.0f} s")
        watched = _drained(root, runtime, shape.events)
        _check(runtime, newest)
        _say(_ticks(root, runtime, f"{shape.events:,} handled events"))
        runtime.close()
    _say(
        f"drained in {watched.seconds:.0f} s, {shape.events / watched.seconds:,.0f} events/s; "
        f"worker's CPU {watched.cpu / shape.events * 1e3:.2f} ms an event; resident after the "
        f"first tenth {watched.memory_at(shape.events / 10):.0f} MB, after the last "
        f"{watched.memory_at(shape.events):.0f} MB, at most {watched.peak_mb:.0f} MB"
    )


def _project(root: Path, url: str, connections: int) -> Runtime:
    scaffold(root, examples=False)
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    os.environ["MEMBRANE_LEDGER_URL"] = url
    if url.startswith("postgresql"):
        os.environ["MEMBRANE_DATABASE_APP"] = url
    runtime = open_runtime(root)
    for number in range(connections):
        runtime.ledger.connect(ConnectionRecord(f"c{number}", "bench", f"tenant{number}"))
    return runtime


def _queue(runtime: Runtime, shape: Shape) -> dict[tuple[int, int], str]:
    """As webhooks bring them, each known by a key of its own; gives the records' last names."""
    newest: dict[tuple[int, int], str] = {}
    arrivals: list[Arrival] = []
    for number, told in enumerate(shape.told()):
        newest[told] = f"Ada {number}"
        arrivals.append(_arrival(number, *told))
        if len(arrivals) == PUT_AT_ONCE:
            runtime.ledger.inbox.put(arrivals)
            arrivals = []
    runtime.ledger.inbox.put(arrivals)
    return newest


def _arrival(number: int, connection: int, record: int) -> Arrival:
    occurred_at, key = 1_700_000_000.0 + number, f"key{connection}"
    body = {
        "id": f"r{record}",
        "name": f"Ada {number}",
        "email": f"Ada{record}@example.com",
        "notes": f"{number} {NOTES}",
        "updated_at": datetime.fromtimestamp(occurred_at, UTC).isoformat(),
    }
    text = json.dumps(body)
    event = Event(
        *("webhook", "record", "contacts", f"tenant{connection}", f"c{connection}", key),
        *("updated", f"r{record}", text, occurred_at, f"event{number}", 86_400.0),
    )
    webhook = Webhook("webhook", key, text.encode(), {"content-type": "application/json"})
    return Arrival(webhook, [event])


def _drained(root: Path, runtime: Runtime, events: int) -> Watched:
    watched = Watched()
    with _worker(root) as process:
        _wait_for_start(process, root.parent / "log")
        began = time.perf_counter()
        shown = applied_at = began
        before = 0
        while before < events:
            time.sleep(LOOK_SECONDS)
            assert process.poll() is None, (root.parent / "log").read_text(encoding="utf-8")
            now, left = time.perf_counter(), runtime.ledger.inbox.waiting()
            done, memory = events - left, resident_mb(process.pid)
            watched.memory.append((done, memory))
            if done > before:
                before, applied_at = done, now
            elif now - applied_at > PATIENCE:
                raise SystemExit(f"no event was applied for {PATIENCE:g} s")
            if now - shown >= SHOW_SECONDS:
                shown = now
                _say(f"{now - began:6.0f} s{left:>11,} left{done / (now - began):>8,.0f} events/s"
                     f"{memory:>7.0f} MB")  # fmt: skip
        watched.seconds = time.perf_counter() - began
        watched.cpu, watched.peak_mb = cpu_seconds(process.pid), resident_mb(process.pid, "VmHWM")
    return watched


@contextmanager
def _worker(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What `membrane worker` runs, with its words in a file."""
    with (root.parent / "log").open("ab") as log:
        command, environ = worker(root), dagster_environment(root)
        process = subprocess.Popen(command, cwd=root, env=environ, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_start(process: subprocess.Popen[bytes], log: Path) -> None:
    while "waits for events" not in log.read_text(encoding="utf-8"):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.05)


def _check(runtime: Runtime, newest: dict[tuple[int, int], str]) -> None:
    """Every record is in the product's database as its newest event told it, and no other."""
    engine = sa.create_engine(runtime.settings.databases["app"])
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT full_name FROM contacts")).scalars().all()
    engine.dispose()
    assert sorted(found) == sorted(newest.values()), "records aren't as the newest event told them"


def _ticks(root: Path, runtime: Runtime, history: str) -> str:
    """How long the sensor takes to find that nothing waits; Dagster's instance is a real one."""
    from dagster import build_sensor_context

    from membrane_sync.orchestration.definitions import build_definitions
    from membrane_sync.orchestration.events_job import inbox_sensor
    from membrane_sync.orchestration.instance import open_instance

    os.environ |= dagster_environment(root)
    os.chdir(root)
    runtime.ledger.inbox.attend(0)
    repository = build_definitions(root).get_repository_def()
    resources = {"membrane": repository.get_top_level_resources()["membrane"]}
    sensor, took, cpu = inbox_sensor(0.0), [], []
    with open_instance() as instance:
        for _ in range(TICKS):
            with build_sensor_context(
                instance_ref=instance.get_ref(), repository_def=repository, resources=resources
            ) as context:
                began, used = time.perf_counter(), time.process_time()
                requests = sensor.evaluate_tick(context).run_requests
                took.append(time.perf_counter() - began)
                cpu.append(time.process_time() - used)
                assert not requests, "there was an event"
    tick, used = (statistics.median(times) * 1e3 for times in (took, cpu))
    return f"a sensor's tick with {history}: {tick:.1f} ms, {used:.1f} ms of CPU"


def _say(words: str) -> None:
    print(words, flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events drain", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--events", type=int, default=Shape.events)
    parser.add_argument("--connections", type=int, default=Shape.connections)
    parser.add_argument("--hot", type=float, default=Shape.hot)
    given = parser.parse_args(arguments)
    drain(given.kind, Shape(given.events, given.connections, given.hot))
