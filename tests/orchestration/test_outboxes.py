"""The sensor reads outboxes to their end, and says which can't be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.resources import MembraneResource
from tests.end_to_end.helpers import Workspace
from tests.events.ledgers import ORDER_PAID, workspace_on
from tests.stores.databases import run

EVENT = "mappings/universal/internal_events/order_paid.yaml"
ROW = """INSERT INTO outbox (tenant, payload) VALUES ('acme', '{"order": 1}')"""


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, str]]:
    with workspace_on("sqlite", request, tmp_path) as found:
        yield found


def names(workspace: Workspace) -> set[str]:
    repository = build_definitions(workspace.root).get_repository_def()
    return {sensor.name for sensor in repository.sensor_defs}


def tick(workspace: Workspace) -> str:
    definitions = build_definitions(workspace.root)
    sensor = definitions.resolve_sensor_def("outboxes")
    resources = {"membrane": MembraneResource(root=str(workspace.root))}
    with dg.build_sensor_context(resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SkipReason)
    return str(result.skip_message)


def test_a_project_without_outboxes_has_no_sensor_for_them(place: tuple[Workspace, str]) -> None:
    assert "outboxes" not in names(place[0])
    place[0].write(EVENT, ORDER_PAID + "outbox: {table: outbox}\n")
    assert "outboxes" in names(place[0])


def test_a_tick_reads_all_there_is(
    place: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, url = place
    monkeypatch.setattr("membrane_sync.bootstrap.events.Events.read_outboxes.__defaults__", (2,))
    workspace.write(EVENT, ORDER_PAID + "outbox: {table: outbox}\n")
    run(url, "CREATE TABLE outbox (id INTEGER PRIMARY KEY, tenant TEXT, payload TEXT)")
    run(url, *[ROW.replace("1}", f"{n}}}") for n in range(5)])
    assert tick(workspace) == "5 rows were read"
    assert tick(workspace) == "nothing new"
    assert len(workspace.runtime.ledger.inbox.pending("acme_1", 100)) == 5


def test_a_tick_fails_for_one_that_cannot_be_read_after_the_others(
    place: tuple[Workspace, str],
) -> None:
    workspace, url = place
    workspace.write(EVENT, ORDER_PAID + "outbox: {table: outbox}\n")
    workspace.write("mappings/universal/internal_events/a.yaml", "outbox: {table: nowhere}\n")
    run(url, "CREATE TABLE outbox (id INTEGER PRIMARY KEY, tenant TEXT, payload TEXT)", ROW)
    with pytest.raises(dg.Failure, match="a: outbox 'nowhere' can't be read"):
        tick(workspace)
    assert len(workspace.runtime.ledger.inbox.pending("acme_1", 100)) == 1
