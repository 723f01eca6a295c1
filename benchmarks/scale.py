"""What schedules cost for many connections: 20 collections each, all due every 15 minutes.

    python benchmarks/scale.py                      # 1,000 and 5,000 connections, 14 and 70 GB
    python benchmarks/scale.py --quick              # 30 connections, to see that it works
    python benchmarks/scale.py --connections 200
    python benchmarks/scale.py --connections 5000 --batches 4   # 3 GB, and a tenth of the time

The app is a process of its own on loopback, which answers at once; its CPU isn't counted. Lakes are
copies of one that was synced, so that the first sync of all needn't be waited for. A cycle is ticks
of the sensor `due` until each item ran once, and a process for each batch it asks for, Dagster's
start and events included, as the daemon launches it. In the first one each item also looks whether
the product's rows are still there, as it does later once a day, each at a time of its own: of a
cycle every 15 minutes that is one item in 96.

With `--batches`, all connections are there and all ticks are made, but of each cycle only so many
batches are run; what the others would take is computed from them.
"""

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

COLLECTIONS = 20
AIM_LOAD_SECONDS = 2.0
AIM_MS_PER_ITEM = 9.0
TENANT = "everyone"

CONNECTOR = """
name: Scale
base_url: {$concat: [{$var: $.input.url}, /, {$var: $.input.account}]}
authentication: {type: bearer, token: {$var: $.credentials.token}}
"""
COLLECTION = """
id: $.id
fields_schema:
  type: object
  properties:
    email: {type: string}
    name: {type: string}
    score: {type: integer}
    version: {type: integer}
list:
  path: /NAME
  query: {since: {$firstNotEmpty: [{$var: $.cursor}, 0]}}
  records: $.body.items
  pagination: {type: none}
  cursor: {field: $.version, type: integer, inclusive: false, unique: true}
"""
PACKAGE = """
data_schemas:
  NAME:
    schema:
      type: object
      properties: {email: {type: string}, name: {type: string}, score: {type: integer}}
    table: {name: NAME, tenant_column: tenant, create: true}
data_sources:
  NAME: {collection_key: NAME}
field_mappings:
  NAME:
    data_source: NAME
    data_schema: NAME
    import_value: {email: {$var: $.email}, name: {$var: $.name}, score: {$var: $.score}}
data_link_tables: {NAME: {}}
syncs:
  NAME: {field_mapping: NAME, data_link_table: NAME, schedule: {every_minutes: 15}}
"""

LOAD = """
import sys, time
began = time.perf_counter()
from pathlib import Path
from membrane_sync.orchestration.definitions import build_definitions
build_definitions(Path(sys.argv[1])).get_repository_def()
took = time.perf_counter() - began
# `ru_maxrss` would count the memory of the process that this one was forked from.
status = Path("/proc/self/status").read_text()
print(took, int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""

TICK = """
import sys, time
from pathlib import Path
import dagster as dg
from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.resources import MembraneResource
root = sys.argv[1]
repository = build_definitions(Path(root)).get_repository_def()
sensor = repository.get_sensor_def("due")
with dg.DagsterInstance.get() as instance:
    while True:
        with dg.build_sensor_context(
            instance_ref=instance.get_ref(),
            repository_def=repository,
            resources={"membrane": MembraneResource(root=root)},
        ) as context:
            began, cpu = time.perf_counter(), time.process_time()
            found = sensor.evaluate_tick(context).run_requests or []
            batches = [request.run_key.removeprefix("batch:") for request in found]
            print(time.perf_counter() - began, time.process_time() - cpu, *batches, flush=True)
        if not sys.stdin.readline():
            break
"""

RUN = """
import sys
from pathlib import Path
import dagster as dg
from membrane_sync.orchestration.definitions import build_definitions
job = build_definitions(Path(sys.argv[1])).resolve_job_def("sync_batch")
config = {"ops": {"sync_items": {"config": {"batch": sys.argv[2]}}}}
with dg.DagsterInstance.get() as instance:
    assert job.execute_in_process(instance=instance, run_config=config).success
"""


@dataclass
class Cycle:
    """What one cycle took, in seconds."""

    name: str
    items: int = 0
    batches: int = 0
    items_run: int = 0
    batches_run: int = 0
    ticks: list[float] = field(default_factory=list)
    tick_cpu: float = 0.0
    run_cpu: float = 0.0
    wall: float = 0.0

    @property
    def ms_per_item(self) -> float:
        return (self.tick_cpu / self.items + self.run_cpu / self.items_run) * 1000

    @property
    def cpu_minutes(self) -> float:
        """Of the whole cycle."""
        return self.ms_per_item * self.items / 60_000


class Bench:
    """A project with so many connections."""

    def __init__(self, root: Path, connections: int, url: str, most: int | None) -> None:
        self.root, self.connections, self.url, self.most = root, connections, url, most
        self.env = {
            **os.environ,
            "DAGSTER_HOME": str(root / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DAGSTER_EVENT_BATCH_SIZE": "100",
            "MEMBRANE_SECRET_KEY": "a key of the benchmark",
            "PYTHONWARNINGS": "ignore",
        }
        os.environ.update(self.env)

    def make(self) -> None:
        names = [f"c{number:02}" for number in range(COLLECTIONS)]
        files = {
            "pyproject.toml": "[tool.membrane_sync]\n",
            "connectors/scale/connector.yaml": CONNECTOR,
            "mappings/integrations/scale/integration.yaml": "connector: scale\n",
            "dagster/dagster.yaml": "telemetry: {enabled: false}\n",
        }
        for name in names:
            files[f"connectors/scale/data_collections/{name}.yaml"] = COLLECTION.replace(
                "NAME", name
            )
            files[f"mappings/universal/packages/{name}.yaml"] = PACKAGE.replace("NAME", name)
        for path, text in files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.strip() + "\n", encoding="utf-8")

    def connect(self) -> None:
        """Store the connections; sync the first, whose lake can then be given to all."""
        from membrane_sync.bootstrap import open_runtime
        from membrane_sync.ports import ConnectionRecord
        from membrane_sync.sync.run import run_sync

        runtime = open_runtime(self.root)
        for number in range(self.connections):
            key = f"k{number:05}"
            given = {"url": self.url, "account": key}
            runtime.ledger.connect(
                ConnectionRecord(key, "scale", TENANT, input=given, credentials={"token": "t"})
            )
        first = runtime.ledger.connection("k00000")
        lake = runtime.stores.lake_path(first.key)
        self.lakes = lake.parent
        for sync in runtime.syncs(first):
            with runtime.connect(first.key, sync) as parties:
                run_sync(sync, parties)
        runtime.close()

    def give_all(self) -> None:
        """A lake to each connection, where all batches are run."""
        needed = (self.lakes / "k00000.duckdb").stat().st_size * self.connections
        if self.most is None:
            if needed > shutil.disk_usage(self.root).free:
                raise SystemExit(f"the lakes need {needed >> 30} GB at {self.root}; set TMPDIR")
            self.give_lakes(f"k{number:05}" for number in range(self.connections))

    def give_lakes(self, connections: Iterable[str]) -> None:
        """The lake of the first connection, as it was then, to those that have none."""
        first = self.lakes / "first"
        if not first.exists():
            shutil.copy(self.lakes / "k00000.duckdb", first)
        for key in connections:
            if not (lake := self.lakes / f"{key}.duckdb").exists():
                shutil.copy(first, lake)

    def load(self) -> tuple[float, int]:
        """Seconds and MB that the code location takes."""
        said = self.python(LOAD, str(self.root)).split()
        return float(said[0]), int(said[1])

    def python(self, code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def all_due(self) -> None:
        with sqlite3.connect(self.root / ".membrane" / "ledger.db") as ledger:
            ledger.execute("UPDATE membrane_due SET due_at = 0, batch = '', attempts = 0")

    def connections_of(self, batch: str) -> list[str]:
        """Whose items it has, as often as it has some."""
        with sqlite3.connect(self.root / ".membrane" / "ledger.db") as ledger:
            query = "SELECT connection FROM membrane_due WHERE batch = ?"
            return [str(row[0]) for row in ledger.execute(query, [batch])]

    def cycle(self, name: str, share: float) -> Cycle:
        """Tick, and run what was asked for, until all that was due has run once."""
        post(f"{self.url}/cycle?share={share}")
        self.all_due()
        cycle = Cycle(name)
        began = time.perf_counter()
        ticking = subprocess.Popen(
            [sys.executable, "-c", TICK, str(self.root)],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert ticking.stdin is not None and ticking.stdout is not None
        while True:
            wall, cpu, *batches = ticking.stdout.readline().split()
            cycle.ticks.append(float(wall))
            cycle.tick_cpu += float(cpu)
            cycle.batches += len(batches)
            for batch in batches:
                connections = self.connections_of(batch)
                cycle.items += len(connections)
                if self.most is not None and cycle.batches_run >= self.most:
                    continue
                self.give_lakes(connections)
                before = children_cpu()
                self.python(RUN, str(self.root), batch)
                cycle.run_cpu += children_cpu() - before
                cycle.items_run += len(connections)
                cycle.batches_run += 1
            if not batches or cycle.items >= self.connections * COLLECTIONS:
                break
            ticking.stdin.write("again\n")
            ticking.stdin.flush()
        ticking.stdin.close()
        ticking.wait()
        cycle.wall = time.perf_counter() - began
        return cycle


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def post(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method="POST")).read()


def measure(connections: int, url: str, root: Path, most: int | None) -> None:
    bench = Bench(root, connections, url, most)
    bench.make()
    bench.connect()
    # Before gigabytes of lakes drive the code out of the system's cache.
    seconds, megabytes = bench.load()
    bench.give_all()
    print(f"\n{connections:,} connections × {COLLECTIONS} collections")
    print(f"  load         {seconds:6.2f} s   {megabytes} MB   aim < {AIM_LOAD_SECONDS:g} s")
    for name, share in (("first of all", 0.0), ("no change", 0.0), ("1 % changed", 0.01)):
        cycle = bench.cycle(name, share)
        print(
            f"  {name:<12} {cycle.ms_per_item:6.2f} ms/item   "
            f"{cycle.cpu_minutes:.2f} CPU-min a cycle in {cycle.batches} batches, of which "
            f"{cycle.batches_run} ran in {cycle.wall:.0f} s; longest tick "
            f"{max(cycle.ticks):.2f} s; aim <= {AIM_MS_PER_ITEM:g} ms/item",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--connections", type=int, action="append")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batches", type=int, help="so many of each cycle; default: all")
    options = parser.parse_args()
    sizes = [30] if options.quick else options.connections or [1_000, 5_000]
    app = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("scale_app.py"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert app.stdout is not None
        url = f"http://127.0.0.1:{int(app.stdout.readline())}"
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                measure(size, url, Path(folder), options.batches)
    finally:
        app.kill()


if __name__ == "__main__":
    main()
