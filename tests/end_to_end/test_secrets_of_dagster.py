"""No planted secret is in anything that Dagster's daemon and its runs write: events, logs, output.

Its logging takes in all that any library of a run has to say.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.leaky_app import LeakyApp, leaky_app
from tests.end_to_end.planted import (
    PACKAGE,
    SECRETS,
    User,
    answer,
    open_runtime_of,
    planted_project,
    write,
)

DAGSTER = """
python_logs: {python_log_level: DEBUG, managed_python_loggers: [httpx, httpcore, membrane_sync]}
run_queue: {dequeue_interval_seconds: 1}
telemetry: {enabled: false}
"""
WORKSPACE = """
load_from:
  - python_module: {module_name: definitions, working_directory: ., location_name: crm}
"""
DEFINITIONS = """
import logging, sys
from pathlib import Path
from membrane_sync.orchestration.definitions import build_definitions

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in ("httpx", "httpcore", "hpack", "membrane_sync", "sqlalchemy.engine"):
    logging.getLogger(name).setLevel(logging.DEBUG)
defs = build_definitions(Path(__file__).parent)
"""
KEY = "acme_by_query"
PATIENCE = 180.0


@pytest.fixture
def user(tmp_path: Path) -> User:
    root = tmp_path / "crm"
    made = planted_project(root)
    write(root / "dagster.yaml", DAGSTER)
    write(root / "workspace.yaml", WORKSPACE)
    write(root / "definitions.py", DEFINITIONS)
    scheduled = "data_link_table: contacts, schedule: {every_minutes: 15}}"
    package = PACKAGE.replace("data_link_table: contacts}", scheduled)
    write(root / "mappings/universal/packages/contacts.yaml", package)
    return made


def test_no_planted_secret_is_in_what_the_daemon_and_its_runs_write(user: User) -> None:
    with leaky_app(list(SECRETS.values())) as app:
        connect(user, app)
        answer(app, 401, "api_key")
        with user.running("dagster._daemon", "run", "-w", "workspace.yaml"):
            wait_for("a batch in which the app refuses", lambda: "SUCCESS" in statuses(user))
    found = user.look_into_files()
    assert found == [], "\n".join(found)
    written = {path for path in user.root.rglob("*") if path.is_file()}
    runtime = open_runtime_of(user)
    (failed,) = runtime.ledger.runs.newest()
    assert "answered 401" in failed.error and "***" in failed.error
    runtime.close()
    logs = [path for path in written if "compute_logs" in path.parts]
    assert any("/contacts?" in path.read_text(encoding="utf-8") for path in logs)
    assert {"index.db", "runs.db"} <= {path.name for path in written}


def connect(user: User, app: LeakyApp) -> None:
    given = {"api_key": SECRETS["api_key"]}
    place = {"url": app.url, "pin": SECRETS["pin"]}
    runtime = open_runtime_of(user)
    runtime.register(ConnectionRecord(KEY, "by_query", "acme", "", place, given))
    runtime.close()


def statuses(user: User) -> list[str]:
    """How the runs stand that the daemon has launched."""
    found = list(user.root.rglob("runs.db"))
    if not found:
        return []
    database = sqlite3.connect(found[0])
    try:
        return [row[0] for row in database.execute("SELECT status FROM runs")]
    except sqlite3.OperationalError:
        return []  # It isn't made yet.
    finally:
        database.close()


def wait_for(what: str, look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.25)
