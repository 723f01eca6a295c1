"""The sensor `inbox`, the job `apply_events` and the worker against a real Kinto."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import sqlalchemy as sa

from membrane_sync.apps.kinto import Kinto
from membrane_sync.orchestration import event_queues, events_job, worker
from membrane_sync.orchestration.batch_job import BATCH_TAG
from membrane_sync.orchestration.event_queues import Drained, Drainer
from membrane_sync.orchestration.events_job import claimed
from membrane_sync.orchestration.worker import InDagster, Worker
from membrane_sync.ports.events import Arrival, Event
from tests.end_to_end.helpers import Tenant, Workspace, person
from tests.orchestration.helpers import launched, log_of, run_batch, tick
from tests.orchestration.test_batch import materialized


@pytest.fixture
def tenants(kinto: Kinto) -> list[Tenant]:
    return [Tenant(kinto) for _ in range(2)]


def put(workspace: Workspace, tenant: Tenant, *records: dict[str, Any]) -> None:
    """As a webhook brings them: whole records of the app."""
    key, name = tenant.connection.key, tenant.connection.tenant
    events = [
        Event("webhook", "record", "contacts", name, key, "", "updated", r["id"], json.dumps(r))
        for r in records
    ]
    workspace.runtime.ledger.inbox.put([Arrival(None, events)])


def written(tenant: Tenant, *numbers: int) -> list[dict[str, Any]]:
    """Contacts that the app has now, as it shows them."""
    before = tenant.truth()
    tenant.write(person(n) for n in numbers)
    return [record for name, record in tenant.truth().items() if name not in before]


def evaluate(workspace: Workspace, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    return list(tick(workspace, instance, events_job.inbox_sensor(0.0)).run_requests or ())


def run(
    workspace: Workspace, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    return run_batch(workspace, instance, request, "apply_events")


def statuses(workspace: Workspace) -> dict[str, int]:
    engine = sa.create_engine(workspace.runtime.settings.ledger_url)
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT status, count(*) AS count FROM membrane_events GROUP BY status")
        ).all()
    engine.dispose()
    return {row[0]: row[1] for row in rows}


def claimed_until(workspace: Workspace, batch: str) -> list[float]:
    engine = sa.create_engine(workspace.runtime.settings.ledger_url)
    query = sa.text("SELECT claimed_until FROM membrane_event_queues WHERE batch = :batch")
    with engine.connect() as connection:
        found = connection.execute(query, {"batch": batch}).scalars().all()
    engine.dispose()
    return [float(moment) for moment in found]


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_events_of_many_connections_take_effect_in_one_run(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    for tenant in tenants:
        workspace.connect(tenant.connection)
        put(workspace, tenant, *written(tenant, 1, 2))
    (request,) = evaluate(workspace, instance)
    assert request.run_key is not None
    assert request.run_key.startswith("events:")
    assert evaluate(workspace, instance) == []
    result = run(workspace, instance, request)
    assert result.success
    for tenant in tenants:
        assert workspace.records(tenant.connection.key) == tenant.truth()
    assert len(workspace.rows()) == 4
    made = materialized(instance, result.run_id)
    assets = ("kinto/contacts", "kinto/contacts_mapped", "kinto/contacts_delivered")
    keys = [tenant.connection.key for tenant in tenants]
    assert made.keys() == {(asset, key) for asset in assets for key in keys}
    assert made["kinto/contacts", keys[0]]["created"] == 2
    assert statuses(workspace) == {"done": 4}
    assert "4 events took effect" in log_of(instance, result.run_id)
    (events,) = [workspace.runtime.ledger.inbox.pending(keys[0], 9)]
    assert events == []


def test_a_thread_gives_back_the_memory_that_a_large_queue_took(
    workspace: Workspace, tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = tenants
    for tenant in tenants:
        workspace.connect(tenant.connection)
    monkeypatch.setattr(event_queues, "CHUNK_EVENTS", 2)
    runtime, made = workspace.runtime, list[Any]()
    new_memory = runtime.stores.new_memory
    monkeypatch.setattr(
        runtime.stores, "new_memory", lambda **given: made.append(new_memory(**given)) or made[-1]
    )
    drainer = Drainer(runtime)
    for tenant, numbers, memories in ((small, [1], 1), (large, [1, 2], 1), (small, [3], 2)):
        put(workspace, tenant, *written(tenant, *numbers))
        (batch,) = claimed(runtime, 1, 0)
        (queue,) = runtime.ledger.inbox.queues(batch)
        assert drainer.drain(batch, queue, "a-run").done == len(numbers)
        assert len(made) == memories
    with pytest.raises(duckdb.ConnectionException):
        made[0].execute("SELECT 1")
    drainer.close()


def test_one_that_is_held_or_broken_comes_back_by_itself(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    held, broken = tenants
    for tenant in tenants:
        workspace.connect(tenant.connection)
    put(workspace, held, *written(held, 1))
    put(workspace, broken, {"id": "y"}, *written(broken, 1))
    nonsense = Event("webhook", "record", "contacts", "t", broken.connection.key, payload="{")
    workspace.runtime.ledger.inbox.put([Arrival(None, [nonsense])])
    (request,) = evaluate(workspace, instance)
    with workspace.runtime.connect(held.connection.key, what="a backfill"):
        result = run(workspace, instance, request)
    assert result.success
    log = log_of(instance, result.run_id)
    assert "a backfill" in log
    assert "1 failed" in log
    assert statuses(workspace) == {"done": 2, "pending": 2}
    until(lambda: bool(claimed(workspace.runtime, 1, 0)))


def test_tick_and_claim_stay_quick_with_a_million_events(workspace: Workspace) -> None:
    runtime = workspace.runtime
    inbox = runtime.ledger.inbox
    assert inbox.claim(1, 1, 1) == []
    engine = sa.create_engine(runtime.settings.ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text(MILLION))
        connection.execute(
            sa.text("INSERT INTO membrane_event_queues VALUES ('c1', 1.0, '', 0.0, 0, 0)")
        )
    engine.dispose()
    took = []
    for _ in range(5):
        began = time.perf_counter()
        (batch,) = inbox.claim(10, 10, 60)
        events = inbox.pending("c1", 100)
        took.append(time.perf_counter() - began)
        assert len(events) == 100
        inbox.release(batch, "c1")
    assert min(took) < 0.05


MILLION = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
INSERT INTO membrane_events (source, kind, name, tenant, connection, subscription, change,
    external_id, payload, received_at, status, due_at, attempts, runs, error)
SELECT 'webhook', 'record', 'contacts', 't', 'c' || (i % 2), '', 'updated', 'r' || i, '', 1.0,
    CASE WHEN i % 2 = 1 THEN 'pending' ELSE 'done' END, 1.0, 0, '', '' FROM n
"""


def test_a_worker_applies_at_once_and_tells_dagster(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant], dagster_home: Path
) -> None:
    """A real process; SIGTERM ends it after the chunk at hand."""
    tenant = tenants[0]
    key = workspace.connect(tenant.connection)
    process = subprocess.Popen(
        [sys.executable, "-m", "membrane_sync.orchestration.worker", str(workspace.root)],
        env={**os.environ, "DAGSTER_HOME": str(dagster_home), "PYTHONWARNINGS": "ignore"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(workspace.runtime.ledger.inbox.is_attended)
        put(workspace, tenant, *written(tenant, 1))
        until(lambda: statuses(workspace) == {"done": 1})
        assert evaluate(workspace, instance) == []
        assert workspace.records(key) == tenant.truth()
        asset = dg.AssetKey(["kinto", "contacts"])
        until(lambda: len(instance.fetch_materializations(asset, limit=5).records) == 1)
        (record,) = instance.fetch_materializations(asset, limit=5).records
        assert record.partition_key == key
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert not workspace.runtime.ledger.inbox.is_attended()
    (standing,) = [s for s in workspace.runtime.overview() if s.sync == "contacts"]
    assert standing.records == 1


def test_the_sensor_takes_over_what_a_worker_does_not_get_done(
    workspace: Workspace, tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.connect(tenants[0].connection)
    inbox = workspace.runtime.ledger.inbox
    inbox.attend(60)
    put(workspace, tenants[0], *written(tenants[0], 1))
    assert claimed(workspace.runtime, 1, 0) == []
    monkeypatch.setattr(events_job, "OVERDUE_SECONDS", 0.0)
    assert len(claimed(workspace.runtime, 1, 0)) == 1


def test_a_batch_is_kept_while_its_run_is_queued_and_else_claimed_again_soon(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    tenants: list[Tenant],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tick whose daemon is killed claims a batch, and no run of it ever comes."""
    workspace.connect(tenants[0].connection)
    put(workspace, tenants[0], *written(tenants[0], 1))
    with monkeypatch.context() as short:
        short.setattr(events_job, "FIRST_CLAIM_SECONDS", 0.1)
        (unheard,) = evaluate(workspace, instance)
    asked: list[dg.RunRequest] = []
    until(lambda: asked.extend(evaluate(workspace, instance)) or bool(asked))
    (request,) = asked
    assert request.run_key != unheard.run_key
    late = run(workspace, instance, unheard)
    assert "others have taken these connections over" in log_of(instance, late.run_id)
    assert statuses(workspace) == {"pending": 1}
    launched(instance, dg.DagsterRunStatus.QUEUED, request.tags)
    assert evaluate(workspace, instance) == []
    batch = request.tags[BATCH_TAG]
    (until_when,) = claimed_until(workspace, batch)
    assert until_when > time.time() + events_job.FIRST_CLAIM_SECONDS


def test_a_queue_whose_holders_die_is_gone_through_one_by_one(
    workspace: Workspace, tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if an event killed whoever applies it: it's dead in the end, and others take effect."""
    key = workspace.connect(tenants[0].connection)
    fine = written(tenants[0], 1)
    put(workspace, tenants[0], {"id": "killer"}, *fine)
    monkeypatch.setenv("MEMBRANE_EVENT_ATTEMPTS", "2")
    runtime = Workspace(workspace.root).runtime
    inbox = runtime.ledger.inbox

    class Killed(BaseException):
        """Nothing comes after it."""

    def die(_self: Any, events: Any) -> Any:
        if any(event.external_id == "killer" for event in events):
            raise Killed
        return original(_self, events)

    original = worker.Drainer._chunks.__globals__["Applying"].apply
    monkeypatch.setattr(worker.Drainer._chunks.__globals__["Applying"], "apply", die)
    ended: list[Drained] = []
    for _ in range(8):
        for batch in inbox.claim(1, 1, 0.0):
            for queue in inbox.queues(batch):
                drainer = worker.Drainer(runtime)
                try:
                    ended.append(drainer.drain(batch, queue, "r"))
                except Killed:
                    pass
                finally:
                    drainer.close()
    assert [one.done for one in ended if one.done] == [1]
    assert statuses(workspace) == {"dead": 1, "done": 1}
    assert workspace.records(key) == tenants[0].truth()


def test_a_worker_goes_on_while_dagster_is_away(
    workspace: Workspace, tenants: list[Tenant]
) -> None:
    workspace.connect(tenants[0].connection)
    put(workspace, tenants[0], *written(tenants[0], 1))

    class Away:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    away: Any = Away()
    seen: list[Drained] = []

    def record(one: Drained) -> None:
        InDagster(away)(one)
        seen.append(one)
        working.stop()

    working = Worker(workspace.runtime, record)
    working.run()
    assert [one.done for one in seen] == [1]
