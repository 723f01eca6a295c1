"""The sensor `lost_runs` ends what the dead have left, and nothing else."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from membrane_sync.orchestration.batch_job import UNFINISHED
from membrane_sync.orchestration.lost_runs import SERVER_TAG, lost_runs_sensor
from tests.orchestration.helpers import launched

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
