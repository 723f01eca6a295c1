"""A reading that is told to stop, by Ctrl+C, SIGTERM or Dagster's *Terminate*, can be gone on with.

Real processes read from a slow app; the next one asks for one page again at most.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from membrane_sync.orchestration.failures import CANCELLED
from membrane_sync.testing.simulator import Collection, Faults, Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.cli.test_custom_fields import connect, membrane
from tests.end_to_end.helpers import Workspace

PAGES = 30

PULL = "from membrane_sync.cli.main import main; main()"
RUN = """
import sys
from pathlib import Path
import dagster as dg
from dagster import DagsterExecutionInterruptedError
from dagster._utils.interrupts import capture_interrupts
from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.partitions import register
job = build_definitions(Path(sys.argv[1])).resolve_job_def("sync_simulator_contacts")
with dg.DagsterInstance.get() as instance, capture_interrupts():
    register(instance, "simulator", "acme")
    try:
        job.execute_in_process(instance=instance, partition_key="acme")
    except DagsterExecutionInterruptedError:
        print("interrupted")
"""


def command(how: str, root: Path) -> list[str]:
    if how == "dagster":
        return [sys.executable, "-c", RUN, str(root)]
    pull = ["pull", "contacts", "-c", "acme", "--project", str(root)]
    return [sys.executable, "-c", PULL, *pull]


@pytest.mark.parametrize(
    ("how", "sent", "code"),
    [
        ("cli", signal.SIGINT, 130),
        ("cli", signal.SIGTERM, -signal.SIGTERM),
        ("dagster", signal.SIGTERM, 0),
    ],
    ids=["ctrl+c", "terminated", "dagster"],
)
def test_the_next_one_goes_on_where_it_stopped(
    how: str, sent: signal.Signals, code: int, tmp_path: Path, dagster_home: Path
) -> None:
    write_project(tmp_path)
    spec = Collection(key="contacts", records=100 * PAGES, deletes="tombstone")
    slow = Faults(slow=1, slow_seconds=0.1)
    simulator = Simulator(seed=3, collections=[spec], faults=slow)
    with running(simulator) as url:
        connect(tmp_path, url)
        simulator.log.entries.clear()
        process = subprocess.Popen(
            command(how, tmp_path),
            env={**os.environ, "DAGSTER_HOME": str(dagster_home), "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until = time.monotonic() + 90
            while len(simulator.log.entries) < PAGES // 3:
                assert time.monotonic() < until and process.poll() is None, process.stdout.read()
                time.sleep(0.01)
            process.send_signal(sent)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == code, said
        assert how != "dagster" or ("interrupted" in said and CANCELLED in said)
        before = len(simulator.log.entries)
        assert before < PAGES, "it stopped in the middle"
        membrane(tmp_path, "pull", "contacts", "-c", "acme")
        asked = [entry.query for entry in simulator.log.entries]
    # The last one of them asks for what has changed since the first began.
    assert len(asked) - len(set(asked)) <= 1
    assert len(asked) <= PAGES + 3
    records = Workspace(tmp_path).records("acme")
    assert set(records) == set(simulator.truth("contacts"))
