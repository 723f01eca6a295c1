"""Server, worker and runs are killed under load: what the app told takes effect, and once."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
import sqlalchemy as sa

from membrane_sync.apps.process import free_port
from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.sync.run import run_sync
from membrane_sync.testing.simulator import Hooks, Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.orchestration import killing
from tests.orchestration.killing import Part

KILLS = int(os.environ.get("EVENT_KILLS", "5"))
"""100 of them take some minutes."""

RECORDS = 40
PATIENCE = 120.0
KEY = "a-key-of-the-tests-that-is-long-enough"


class Load(Thread):
    """The app's users: they edit, delete, bring back and create, until it's enough."""

    def __init__(self, app: Simulator) -> None:
        super().__init__(name="load", daemon=True)
        self._app = app
        self._enough = Event()
        self.edits = 0

    def run(self) -> None:
        dice = random.Random(7)
        while not self._enough.wait(dice.uniform(0.0, 0.03)):
            what = dice.random()
            with self._app.lock:
                if what < 0.85:
                    self._app.edit("contacts", dice.randint(1, 3))
                elif what < 0.93:
                    self._app.create("contacts", 1)
                else:
                    self._app.delete("contacts", 1)
            self.edits += 1

    def end(self) -> None:
        self._enough.set()
        self.join(timeout=30)


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{what} took more than {PATIENCE} s"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def pending(runtime: Runtime) -> dict[str, int]:
    engine = sa.create_engine(runtime.settings.ledger_url)
    with engine.connect() as connection:
        query = "SELECT status, count(*) FROM membrane_events GROUP BY status"
        found = {row[0]: row[1] for row in connection.execute(sa.text(query))}
    engine.dispose()
    return found


def test_killed_at_random_each_genuine_event_takes_effect_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    scaffold(root, examples=False)
    write_project(root)
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    environ = {"MEMBRANE_API_KEYS": KEY, "MEMBRANE_PUBLIC_URL": public}
    environ["MEMBRANE_PRIVATE_HOSTS"] = "127.0.0.1"
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    hooks = Hooks(
        duplicate=0.2, forged=0.2, late=0.2, late_by=8, attempts=10_000, again_seconds=0.05
    )
    app = Simulator(records=RECORDS, hooks=hooks)
    dice = random.Random(11)
    with running(app) as url:
        runtime = open_runtime(root)
        given = {"token": "token-acme"}
        runtime.register(
            ConnectionRecord("acme", "simulator", "acme", input={"url": url}, credentials=given)
        )
        connection = runtime.ledger.connection("acme")
        sync = runtime.sync("contacts", connection)
        with runtime.connect("acme", sync) as parties:
            run_sync(sync, parties)
        parts = [
            Part(killing.server, root, environ, port),
            Part(killing.worker, root, environ),
            Part(killing.runs, root, environ),
        ]
        try:
            until(lambda: answers(public), "to start the server")
            (subscription,) = runtime.events.subscriptions.one("acme").subscriptions
            assert subscription.status == "subscribed", subscription.error
            load = Load(app)
            load.start()
            for _ in range(KILLS):
                time.sleep(dice.uniform(0.05, 0.8))
                part = dice.choice(parts)
                part.kill()
                part.start()
            load.end()
            until(lambda: answers(public), "to start the server again")
            until(lambda: not app.webhooks.waiting, "to tell of all")

            def is_through() -> bool:
                return not app.webhooks.waiting and "pending" not in pending(runtime)

            until(is_through, "to apply all")
            time.sleep(0.5)  # the sender may have one in hand
            until(is_through, "to apply all")

        finally:
            for part in parts:
                part.kill()
        truth = app.truth("contacts")
        assert app.webhooks.answers[401] > 0
        lake = runtime.lake(connection)
        try:
            rows = lake.select(
                "SELECT _payload FROM records.contacts WHERE _deleted_at IS NULL"
            ).to_pylist()
            changes = lake.changes("contacts", 0, 1_000_000)
        finally:
            lake.close()
    found = {record["id"]: record for record in (json.loads(row["_payload"]) for row in rows)}
    assert found == truth
    assert pending(runtime).keys() == {"done"}
    kinds = Counter((change.external_id, change.kind) for change in changes)
    for name in {change.external_id for change in changes}:
        born, gone = kinds[name, "created"], kinds[name, "deleted"]
        assert 0 <= born - gone <= 1
    engine = sa.create_engine(runtime.settings.databases["app"])
    with engine.connect() as database:
        written = database.execute(sa.text("SELECT full_name, email FROM contacts")).all()
    engine.dispose()
    runtime.close()
    expected = sorted((r["name"], r["email"].lower()) for r in truth.values())
    assert sorted((name, email) for name, email in written) == expected
