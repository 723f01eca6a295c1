"""kill -9 at random moments: after the next run everything is as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.errors import NotFound
from tests.end_to_end.helpers import Tenant, Workspace, new_workspace, person
from tests.end_to_end.processes import SyncProcess
from tests.stores.databases import fresh_database

COLLECTION = "connectors/kinto/data_collections/contacts.yaml"
RECORDS = 5_000
NOTHING = (None, None, None)

LOGICAL = {
    "records": "SELECT _external_id, _payload, _hash, _deleted_at IS NULL AS alive "
    "FROM records.contacts ORDER BY _external_id",
    "changes": "SELECT external_id, kind FROM changes ORDER BY seq",
    "mapped": "SELECT _external_id, _value, _hash, _deleted_at IS NULL AS alive "
    "FROM mapped.contacts ORDER BY _external_id",
    "links": "SELECT link_table, external_id, app_id FROM links ORDER BY external_id",
    "cursors": "SELECT stream, cursor FROM cursors",
    "dead letters": "SELECT verb, external_id, field, reason FROM dead_letters ORDER BY ALL",
}


@pytest.fixture(scope="module")
def tenant(kinto: Kinto) -> Tenant:
    """An app whose 5,000 records were all written, and then many of them changed."""
    tenant = Tenant(kinto)
    tenant.write(person(n) for n in range(RECORDS - 50))
    return tenant


def project(root: Path, tenant: Tenant, database: str = "") -> tuple[Workspace, str]:
    workspace = new_workspace(root, database=database)
    workspace.replace(COLLECTION, "page_size: 1000", "page_size: 250")
    return workspace, workspace.connect(tenant.connection)


def state(workspace: Workspace, connection: str) -> dict[str, Any]:
    """All that a sync leaves behind, but when."""
    found: dict[str, Any] = {
        name: workspace.select(connection, sql) for name, sql in LOGICAL.items()
    }
    return {**found, "rows": workspace.rows()}


def progress_of(workspace: Workspace, connection: str) -> tuple[Any, ...]:
    """The cursor, and how far mapping and pushing have come: what a killed run leaves."""
    try:
        cursor = workspace.select(connection, "SELECT cursor FROM cursors")
    except NotFound:
        return NOTHING
    offsets = workspace.select(connection, "SELECT consumer, seq FROM offsets")
    seqs = {row["consumer"].partition(":")[0]: row["seq"] for row in offsets}
    return (cursor[0]["cursor"] if cursor else None, seqs.get("map"), seqs.get("push"))


def phase(found: tuple[Any, ...], before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    """The verb that a run was at when it was killed, by what it had committed."""
    if found[0] == before[0]:
        return "nothing stored"
    for position, verb in enumerate(("pull", "map", "push")):
        if found[position] != after[position]:
            return verb if found[position] != before[position] else f"before {verb}"
    return "all done"


@dataclass(frozen=True)
class Moment:
    """A time in the run that nobody interrupted, told from the last step before it.

    So a run on a machine that has become slower is killed at the same place.
    """

    steps: int
    delay: float


def uninterrupted(workspace: Workspace, connection: str) -> list[float]:
    """Run to the end in a process as the others are; seconds from its begin to each step."""
    with SyncProcess(workspace, connection, small_steps=True) as process:
        _, moments = process.finish()
        return [moment - process.began for moment in moments[1::2]]


def random_moments(seed: int, count: int, steps: list[float]) -> Iterator[Moment]:
    """Random times, one in each of as many equal parts of the whole duration."""
    chance = random.Random(seed)
    for part in range(count):
        seconds = steps[-1] * (part + chance.random()) / count
        before = [step for step in steps if step <= seconds]
        yield Moment(len(before), seconds - (before[-1] if before else 0))


def killed(workspace: Workspace, connection: str, moment: Moment) -> bool:
    with SyncProcess(workspace, connection, small_steps=True) as process:
        process.wait_for_steps(moment.steps)
        time.sleep(moment.delay)
        return process.kill()


def test_first_sync(tmp_path: Path, tenant: Tenant) -> None:
    reference, connection = project(tmp_path / "reference", tenant)
    steps = uninterrupted(reference, connection)
    expected, end = state(reference, connection), progress_of(reference, connection)
    assert len(expected["rows"]) == len(expected["links"]) == len(tenant.truth())

    phases: Counter[str] = Counter()
    for number, moment in enumerate(random_moments(1, 12, steps)):
        workspace, _ = project(tmp_path / str(number), tenant)
        if killed(workspace, connection, moment):
            phases[phase(progress_of(workspace, connection), NOTHING, end)] += 1
        workspace.sync(connection)
        assert state(workspace, connection) == expected, f"killed at {moment}"
        shutil.rmtree(workspace.root)
    assert sum(phases.values()) >= 9, phases
    assert {"nothing stored", "pull"} <= set(phases) and len(phases) >= 4, phases


def test_incremental_sync(tmp_path: Path, tenant: Tenant) -> None:
    """Updates, deletions and new records, over what an earlier sync has left."""
    start, connection = project(tmp_path / "start", tenant)
    start.sync(connection)
    before = progress_of(start, connection)
    tenant.update({"id": f"c{n:05}", "score": 99 - n % 100} for n in range(0, 2_000, 2))
    tenant.delete(f"c{n:05}" for n in range(1, 600, 2))
    tenant.write(person(n) for n in range(RECORDS - 50, RECORDS + 250))

    reference = copy(start, tmp_path / "reference")
    steps = uninterrupted(reference, connection)
    expected, end = state(reference, connection), progress_of(reference, connection)
    assert reference.records(connection) == tenant.truth()

    phases: Counter[str] = Counter()
    for number, moment in enumerate(random_moments(2, 8, steps)):
        workspace = copy(start, tmp_path / str(number))
        if killed(workspace, connection, moment):
            phases[phase(progress_of(workspace, connection), before, end)] += 1
        workspace.sync(connection)
        assert state(workspace, connection) == expected, f"killed at {moment}"
        shutil.rmtree(workspace.root)
    assert sum(phases.values()) >= 6, phases
    assert len(phases) >= 3, phases


def test_into_postgresql(tmp_path: Path, tenant: Tenant, request: pytest.FixtureRequest) -> None:
    with ExitStack() as databases:

        def database() -> str:
            fresh = fresh_database("postgresql", tmp_path, request)
            return databases.enter_context(fresh)

        reference, connection = project(tmp_path / "r", tenant, database())
        steps = uninterrupted(reference, connection)
        expected = state(reference, connection)
        landed = 0
        for number, moment in enumerate(random_moments(3, 4, steps)):
            workspace, _ = project(tmp_path / str(number), tenant, database())
            landed += killed(workspace, connection, moment)
            workspace.sync(connection)
            assert state(workspace, connection) == expected, f"killed at {moment}"
        assert landed >= 2


def copy(workspace: Workspace, root: Path) -> Workspace:
    shutil.copytree(workspace.root, root)
    return Workspace(root)
