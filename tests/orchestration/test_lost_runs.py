"""The sensor `lost_runs` ends what the dead have left, and nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._grpc.client import DagsterGrpcClient

from membrane_sync.apps.process import HOST, free_port
from membrane_sync.orchestration import lost_runs, run_process
from membrane_sync.orchestration.batch_job import UNFINISHED
from membrane_sync.orchestration.lost_runs import SERVER_TAG, lost_runs_sensor
from tests.orchestration.helpers import launched
from tests.orchestration.ui import wait_for

STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[str]:
    """The socket of a code server that is there."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path := str(tmp_path / "alive"))
        server.listen()
        yield path


def begun(
    instance: dg.DagsterInstance,
    server: dict[str, object] | None,
    *,
    status: dg.DagsterRunStatus = STARTED,
    location: str = "membrane_sync",
) -> str:
    tags = {SERVER_TAG: json.dumps(server)} if server else {}
    return launched(instance, status, tags, location=location)


def tick(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> str:
    origin = property(lambda _self: SimpleNamespace(location_name="membrane_sync"))
    monkeypatch.setattr(dg.SensorEvaluationContext, "code_location_origin", origin)
    with dg.build_sensor_context(instance, repository_name="__repository__") as context:
        return str(lost_runs_sensor().evaluate_tick(context).skip_message)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_runs_whose_code_server_is_gone_are_ended(
    instance: dg.DagsterInstance, listening: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = {"host": "localhost", "socket": str(tmp_path / "gone")}
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    lost = [
        begun(instance, gone),
        begun(instance, gone, status=dg.DagsterRunStatus.STARTING),
        begun(instance, {"host": "localhost", "socket": str(left)}),
        begun(instance, {"host": "127.0.0.1", "port": closed_port()}),
    ]
    kept = [
        begun(instance, {"host": "localhost", "socket": listening}),
        begun(instance, gone, location="another"),
        begun(instance, gone, status=dg.DagsterRunStatus.QUEUED),
        begun(instance, None),
    ]
    assert tick(instance, monkeypatch) == "4 of 6 runs were lost"
    ended = instance.get_runs(dg.RunsFilter(statuses=[FAILURE]))
    assert {run.run_id for run in ended} == set(lost)
    goes_on = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    assert {run.run_id for run in goes_on} == set(kept)
    assert tick(instance, monkeypatch) == "0 of 2 runs were lost"


IN_A_PROCESS = """
import sys
from membrane_sync.orchestration.run_process import here
print(here(sys.argv[1]), flush=True)
sys.stdin.read()
"""


def test_a_run_whose_process_is_gone_is_ended_whoever_listens_at_its_server(
    instance: dg.DagsterInstance, listening: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = {"host": "localhost", "socket": listening}
    gone = {"host": "localhost", "socket": str(tmp_path / "gone")}
    lost, orphan, inherited = begun(instance, there), begun(instance, gone), begun(instance, there)
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, lost],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        told = process.stdout.readline().strip()
        for run in (lost, inherited):
            instance.add_run_tags(run, {run_process.TAG: told})
        # Its code server is gone, and it goes on: in the process of this test.
        instance.add_run_tags(orphan, {run_process.TAG: run_process.here(orphan)})
        assert tick(instance, monkeypatch) == "0 of 3 runs were lost"
        process.kill()
        # It's a zombie, as a child of a process that doesn't look after it.
        wait_for("its end", lambda: run_process.is_alive(lost, told) is False, seconds=30)
        assert tick(instance, monkeypatch) == "1 of 3 runs were lost"
    assert [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[FAILURE]))] == [lost]


def test_a_process_of_another_machine_or_of_another_birth_is_not_this_one() -> None:
    run, pid, birth, machine = json.loads(run_process.here("run"))
    assert run_process.is_alive("run", json.dumps([run, pid, birth, machine])) is True
    assert (
        run_process.is_alive("run", json.dumps([run, pid, str(int(birth) - 1), machine])) is False
    )
    assert run_process.is_alive("run", json.dumps([run, pid, birth, "another"])) is None
    assert run_process.is_alive("run", json.dumps(["retried", pid, birth, machine])) is None
    assert run_process.is_alive("run", None) is None


DEFINITIONS = "import dagster as dg\ndefs = dg.Definitions()\n"


@pytest.fixture
def restarted(tmp_path: Path, dagster_home: Path) -> Iterator[dict[str, object]]:
    """A code server that was started after its predecessor at the same port was killed."""
    file, port = tmp_path / "restarted.py", free_port()
    file.write_text(DEFINITIONS, encoding="utf-8")
    serve = ["dagster", "api", "grpc", "-f", str(file), "--port", str(port), "--host", HOST]
    process = subprocess.Popen(
        [sys.executable, "-m", *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        client = DagsterGrpcClient(host=HOST, port=port)
        wait_for("it", lambda: client.health_check_query() == "SERVING", seconds=90)
        yield {"host": HOST, "port": port}
    finally:
        process.kill()
        process.wait()


def test_a_run_that_the_code_server_knows_nothing_of_is_ended(
    instance: dg.DagsterInstance, restarted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = begun(instance, restarted)
    begun(instance, restarted, status=dg.DagsterRunStatus.STARTING)
    orphan = begun(instance, restarted)
    instance.add_run_tags(orphan, {run_process.TAG: run_process.here(orphan)})
    assert tick(instance, monkeypatch) == "0 of 3 runs were lost", "they have just begun"
    monkeypatch.setattr(lost_runs, "YOUNG_SECONDS", -1.0)
    assert tick(instance, monkeypatch) == "1 of 3 runs were lost"
    assert [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[FAILURE]))] == [lost]
