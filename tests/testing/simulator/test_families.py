"""Notes and tasks below accounts: what the lake holds is the app's truth, over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.records import Report
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.pull import Mode
from membrane_sync.sync.run import Parties, pull_and_store
from membrane_sync.testing import MemoryDestination
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import KEY, write_project
from tests.sync.parts import resolved


def pulled(root: Path, key: str, url: str, mode: Mode = "incremental") -> Report:
    """One pull of a collection of the simulator into the lake of this project."""
    project = Project.load(root)
    collection = project.find("data_collection", key, integration=KEY)
    assert collection is not None
    sync = replace(resolved(collection), names=project.names(KEY))  # type: ignore[arg-type]
    account = {"input": {"url": url}, "credentials": {"token": "token-acme"}}
    connection = ConnectionRecord("acme_simulator", KEY, "acme", **account)
    api, lake = HttpApi(project.connector(KEY), connection), DuckDbLake(root / "acme.duckdb")
    report = Report()
    try:
        parties = Parties(connection, api, lake, MemoryDestination())
        pull_and_store(sync, parties, report, mode=mode)
    finally:
        api.close()
        lake.close()
    return report


def held(root: Path, key: str) -> dict[str, dict[str, Any]]:
    lake = DuckDbLake(root / "acme.duckdb")
    rows = lake.select(
        f"SELECT _external_id, _payload FROM records.{key} WHERE _deleted_at IS NULL"
    ).to_pylist()
    lake.close()
    return {row["_external_id"]: json.loads(row["_payload"]) for row in rows}


def truth(simulator: Simulator, key: str) -> dict[str, dict[str, Any]]:
    """What there is below the accounts that there are."""
    accounts = simulator.truth("accounts")
    return {i: r for i, r in simulator.truth(key).items() if r["parent_id"] in accounts}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", ["notes", "tasks"])
def test_what_is_pulled_is_the_truth(key: str, root: Path) -> None:
    simulator = Simulator(seed=5, records=40)
    with running(simulator) as url:
        pulled(root, key, url)
        assert held(root, key) == truth(simulator, key)
        simulator.edit(key, 6)
        [account] = simulator.create("accounts", 1)
        simulator.create(key, 2, parent=account)
        simulator.delete("accounts", 3)
        pulled(root, key, url)
        assert held(root, key) == truth(simulator, key)
        simulator.delete(key, 5)
        pulled(root, key, url, "full" if key == "tasks" else "incremental")
        assert held(root, key) == truth(simulator, key)
        assert held(root, "accounts") == simulator.truth("accounts")


def test_a_sync_without_changes_asks_for_accounts_alone(root: Path) -> None:
    simulator = Simulator(seed=5, records=40)
    with running(simulator) as url:
        pulled(root, "notes", url)
        assert pulled(root, "notes", url).requests == 1
        simulator.edit("notes", 2)
        assert pulled(root, "notes", url).requests == 3


PULL = """
import sys
from pathlib import Path
from tests.testing.simulator.test_families import pulled
pulled(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


def killed(root: Path, key: str, url: str, simulator: Simulator, requests: int) -> None:
    """A pull in a process of its own, killed once the app has seen so many requests."""
    process = subprocess.Popen([sys.executable, "-c", PULL, str(root), key, url])
    deadline = time.monotonic() + 60
    while len(simulator.log.entries) < requests and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(10)


@pytest.mark.parametrize("key", ["notes", "tasks"])
def test_a_pull_that_is_killed_goes_on_at_the_parent_it_was_at(key: str, root: Path) -> None:
    simulator = Simulator(seed=5, records=60)
    with running(simulator) as url:
        for requests in (1, 9, 23, 41, 55):
            killed(root, key, url, simulator, requests)
        pulled(root, key, url)
        assert held(root, key) == truth(simulator, key)
        asked = Counter(
            (entry.path, entry.query)
            for entry in simulator.log.entries
            if entry.path.endswith(f"/{key}")
        )
        assert len(asked) >= 60
        again = sum(asked.values()) - len(asked)
        assert again <= 5, "one page at most for each time it was killed"
