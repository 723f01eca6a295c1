"""An app that tells of a record before all of it knows of the record."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.events import settling
from membrane_sync.orchestration.event_queues import Drained, drained
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.events import Arrival, Event
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import write_project


def drain(runtime: Runtime) -> Drained:
    """Apply what waits, once it's due."""
    deadline = time.monotonic() + 60
    while not (batches := runtime.ledger.inbox.claim(1, 1, 60)):
        assert time.monotonic() < deadline, "nothing became due"
        time.sleep(0.02)
    (one,) = drained(runtime, batches[0], "run-1", seconds=60.0)
    assert one.error is None
    return one


def tell(runtime: Runtime, id: str) -> None:
    told = Event("webhook", "record", "contacts", "acme", "acme", "", "created", id)
    runtime.ledger.inbox.put([Arrival(None, [told])])


def event(runtime: Runtime) -> Event:
    (newest,) = runtime.ledger.event_log(None).events(0, 1)
    return newest


@pytest.mark.parametrize("comes", [True, False])
def test_its_record_comes_later_or_is_gone_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    monkeypatch.setattr(settling, "FIRST_LOOK_SECONDS", 0.05)
    root, simulator = tmp_path / "project", Simulator(records=3)
    scaffold(root, examples=False)
    write_project(root)
    with running(simulator, sending=False) as url:
        runtime = open_runtime(root)
        given = {"token": "token-acme"}
        runtime.register(
            ConnectionRecord("acme", "simulator", "acme", input={"url": url}, credentials=given)
        )
        (id,) = simulator.create("contacts", 1)
        simulator.delete("contacts", [id])  # as an app that hasn't heard of it answers
        tell(runtime, id)
        assert (drain(runtime).missing, event(runtime).attempts) == (1, 1)
        assert (event(runtime).status, event(runtime).error) == (
            *("pending", "the app doesn't find it yet"),
        )
        if comes:
            simulator.undelete("contacts", [id])
        looks = 1
        while event(runtime).status == "pending":
            drain(runtime)
            looks += 1
        assert (event(runtime).status, looks) == ("done", 2 if comes else 4)
        lake = runtime.lake(runtime.ledger.connection("acme"))
        assert lake.count("SELECT count(*) FROM records.contacts") == int(comes)
        lake.close()
        runtime.close()
