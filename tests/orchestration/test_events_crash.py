"""All that events pass through is killed under load: what the app told takes effect, and once.

The processes are those of production: `membrane serve`, `membrane worker`, Dagster's daemon with
its code server, and the runs that they launch.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa

from membrane_sync.apps.process import free_port
from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.orchestration.batch_job import JOB as SYNC_JOB
from membrane_sync.orchestration.batch_job import UNFINISHED, plan
from membrane_sync.orchestration.due import plan_version
from membrane_sync.ports import ConnectionRecord
from membrane_sync.sync.run import run_sync
from membrane_sync.testing.simulator import Hooks, Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.orchestration.killing import WORKER, Parts, until
from tests.orchestration.killing import running as processes

KILLS = int(os.environ.get("EVENT_KILLS", "4"))
"""100 of them take about 20 minutes."""

FEW = 20
"""So many end sooner: what was claimed by the dead is taken up after a moment."""

BY_RUNS = {"run": 0.30, "daemon": 0.15, "server": 0.10}
BY_WORKER = {"worker": 0.25, "server": 0.15, "daemon": 0.05}
"""What share of the kills is whose, while there's no worker, and while there's one."""

RECORDS = 40
LONGEST_PAUSE = 0.3
"""Of the app's users, in seconds."""
KEY = "a-key-of-the-tests-that-is-long-enough"
HOOKS = Hooks(duplicate=0.2, forged=0.2, late=0.2, late_by=8, attempts=100_000, again_seconds=0.05)


class Load(Thread):
    """The app's users: they edit, delete, bring back and create, until it's enough."""

    def __init__(self, app: Simulator) -> None:
        super().__init__(name="load", daemon=True)
        self._app = app
        self._enough = Event()

    def run(self) -> None:
        dice = random.Random(7)
        while not self._enough.wait(dice.uniform(0.0, LONGEST_PAUSE)):
            what = dice.random()
            with self._app.lock:
                if what < 0.85:
                    self._app.edit("contacts", dice.randint(1, 3))
                elif what < 0.93:
                    self._app.create("contacts", 1)
                else:
                    self._app.delete("contacts", 1)

    def end(self) -> None:
        self._enough.set()
        self.join(timeout=60)


class World:
    """A project, and the app that tells it of changes; nothing asks the app by itself."""

    def __init__(self, root: Path, app: Simulator, url: str) -> None:
        self.root, self.app = root, app
        scaffold(root, examples=False)
        write_project(root)
        package = root / "mappings/universal/packages/contacts.yaml"
        text = package.read_text(encoding="utf-8")
        for old, new in (
            ("schedule: {every_minutes: 5}", 'schedule: {cron: "0 0 1 1 *"}'),
            ("{collection_key: contacts}", "{collection_key: contacts, history: true}"),
        ):
            assert old in text
            text = text.replace(old, new)
        package.write_text(text, encoding="utf-8")
        self.runtime = open_runtime(root)
        given = {"token": "token-acme"}
        self.runtime.register(
            ConnectionRecord("acme", "simulator", "acme", input={"url": url}, credentials=given)
        )
        self.connection = self.runtime.ledger.connection("acme")
        sync = self.runtime.sync("contacts", self.connection)
        with self.runtime.connect("acme", sync) as parties:
            run_sync(sync, parties)
        plan(self.runtime, plan_version(self.runtime.project))
        with self.database() as connection:
            connection.execute(sa.text("UPDATE membrane_due SET due_at = due_at + 1e9"))

    @contextmanager
    def database(self, name: str = "") -> Iterator[sa.Connection]:
        """The ledger's, or the product's of this name."""
        settings = self.runtime.settings
        engine = sa.create_engine(settings.databases[name] if name else settings.ledger_url)
        with engine.begin() as connection:
            yield connection
        engine.dispose()

    def asked(self, sql: str, database: str = "") -> list[Any]:
        with self.database(database) as connection:
            return [*connection.execute(sa.text(sql))]

    def applied(self, *, by_runs: bool) -> int:
        """How many events took effect by Dagster's runs, or by a worker."""
        which = "NOT LIKE" if by_runs else "LIKE"
        query = f"SELECT count(*) FROM membrane_events WHERE status = 'done' AND runs {which}"
        return int(self.asked(f"{query} '%worker-%'")[0][0])

    def is_through(self) -> bool:
        """Whether the app has told of all, and all of it took effect, or never will."""
        waiting = self.asked("SELECT count(*) FROM membrane_events WHERE status = 'pending'")
        return not self.app.webhooks.waiting and not waiting[0][0]

    def lake(self, sql: str) -> list[dict[str, Any]]:
        lake = self.runtime.lake(self.connection)
        try:
            return [dict(row) for row in lake.select(sql).to_pylist()]
        finally:
            lake.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    environ = {"MEMBRANE_API_KEYS": KEY, "MEMBRANE_PUBLIC_URL": f"http://127.0.0.1:{free_port()}"}
    environ["MEMBRANE_PRIVATE_HOSTS"] = "127.0.0.1"
    if KILLS < FEW:
        environ["MEMBRANE_EVENT_CLAIM_SECONDS"] = "4"
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    app = Simulator(records=RECORDS, hooks=HOOKS)
    with running(app) as url:
        world = World(tmp_path / "project", app, url)
        yield world
        world.runtime.close()


def victims(shares: dict[str, float], dice: random.Random) -> list[str]:
    found = [what for what, share in shares.items() for _ in range(round(share * KILLS))]
    dice.shuffle(found)
    return found


def answers() -> bool:
    url = f"{os.environ['MEMBRANE_PUBLIC_URL']}/health"
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def kill_by_and_by(world: World, parts: Parts, load: Load) -> None:
    """In turns: runs alone apply events, for there's no worker; then a worker does."""
    dice = random.Random(11)
    turns = 1 if KILLS < FEW else 3
    without, beside = victims(BY_RUNS, dice), victims(BY_WORKER, dice)
    parts.server.start()
    parts.daemon.start()
    until(answers, "to start the server")
    (subscription,) = world.runtime.events.subscriptions.one("acme").subscriptions
    assert subscription.status == "subscribed", subscription.error
    load.start()
    for turn in range(turns):
        kill_all(without[turn::turns], world, parts, by_runs=True)
        parts.worker.start()
        kill_all(beside[turn::turns], world, parts, by_runs=False)
        if turn < turns - 1:
            parts.worker.kill()
    load.end()


def kill_all(names: Sequence[str], world: World, parts: Parts, *, by_runs: bool) -> None:
    """One after another, as soon as events take effect by runs, or by the worker."""
    before = world.applied(by_runs=by_runs)
    who = "runs" if by_runs else "the worker"
    until(lambda: world.applied(by_runs=by_runs) > before, f"{who} to apply something")
    for name in names:
        parts.kill(name)


def test_killed_at_random_each_genuine_event_takes_effect_once(world: World) -> None:
    port = int(os.environ["MEMBRANE_PUBLIC_URL"].rsplit(":", 1)[1])
    parts = Parts(world.root, port, longest=2.0 if KILLS < FEW else 10.0)
    load = Load(world.app)
    began = time.monotonic()
    try:
        kill_by_and_by(world, parts, load)
        until(answers, "to start the server again")
        until(world.is_through, "to apply all")
        time.sleep(0.5)  # the sender may have one in hand
        until(world.is_through, "to apply all")
        if KILLS >= FEW:
            until(lambda: not runs(world.root, UNFINISHED), "to end all runs")
        assert len(processes(world.root, WORKER)) == 1, "a killed one has left a process"
        assert SYNC_JOB not in {run.job_name for run in runs(world.root)}, "a poll would heal"
    finally:
        parts.end()
    took = time.monotonic() - began
    applied = {"runs": world.applied(by_runs=True), "worker": world.applied(by_runs=False)}
    print(f"killed {dict(parts.killed)} in {took:.0f} s; events applied by {applied}")
    assert sum(parts.killed.values()) >= KILLS
    check(world)


def check(world: World) -> None:
    """Nothing was lost, nothing came twice, and nothing forged took effect."""
    truth = world.app.truth("contacts")
    rows = world.lake("SELECT _payload FROM records.contacts WHERE _deleted_at IS NULL")
    assert by_id(rows) == truth
    assert {status for (status,) in world.asked("SELECT DISTINCT status FROM membrane_events")} == {
        "done"
    }
    assert world.app.webhooks.answers[401] > 0
    changes = world.lake("SELECT external_id, kind FROM changes ORDER BY seq")
    assert_each_once(changes)
    versions = world.lake("SELECT _external_id AS id, name, revision FROM history.contacts")
    assert len({(row["id"], row["revision"]) for row in versions}) == len(versions)
    assert not [row for row in versions if row["name"] == "forged"]
    assert len(versions) == sum(change["kind"] != "deleted" for change in changes)
    written = world.asked("SELECT full_name, email FROM contacts", "app")
    expected = [(record["name"], record["email"].lower()) for record in truth.values()]
    assert sorted(map(tuple, written)) == sorted(expected)


def assert_each_once(changes: Sequence[dict[str, Any]]) -> None:
    """A record is created, updated maybe, and deleted, before it can be created again."""
    lives: dict[str, str] = defaultdict(str)
    for change in changes:
        lives[change["external_id"]] += change["kind"][0]
    assert all(re.fullmatch("(cu*d)*(cu*)?", life) for life in lives.values())


def by_id(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    records = (json.loads(row["_payload"]) for row in rows)
    return {record["id"]: record for record in records}


def runs(root: Path, statuses: Sequence[dg.DagsterRunStatus] = ()) -> Sequence[dg.DagsterRun]:
    """Those that Dagster knows, maybe in some statuses only."""
    before = Path.cwd()
    os.chdir(root)  # its storage is relative to the project
    try:
        with dg.DagsterInstance.from_config(str(root)) as instance:
            return instance.get_runs(dg.RunsFilter(statuses=list(statuses) or None))
    finally:
        os.chdir(before)
