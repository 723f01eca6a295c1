"""The sensor `due` and the job `sync_batch` against a real Kinto: what is due, in one run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.orchestration import batch_job, progress, run_process
from membrane_sync.orchestration.batch import (
    CLAIM_SECONDS,
    LONGEST_TURN_SECONDS,
    TURN_SECONDS,
    Batch,
    UnderWay,
)
from membrane_sync.orchestration.batch_job import BATCH_TAG
from membrane_sync.ports import Timetable
from membrane_sync.records import Report
from membrane_sync.sync import store as store_verb
from tests.end_to_end.helpers import Tenant, Workspace, person
from tests.orchestration.helpers import (
    due_rows,
    evaluate_due,
    launched,
    log_of,
    make_due,
    run_batch,
)


@pytest.fixture
def tenants(kinto: Kinto) -> list[Tenant]:
    return [Tenant(kinto) for _ in range(3)]


def asked_for(workspace: Workspace, instance: dg.DagsterInstance) -> dg.RunRequest:
    requests = evaluate_due(workspace, instance)
    assert not isinstance(requests, str), requests
    (request,) = requests
    return request


def materialized(instance: dg.DagsterInstance, run_id: str) -> dict[tuple[str, str], Any]:
    """Metadata of a run's materializations by asset and connection."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = {}
    for event in events:
        assert event.dagster_event is not None
        made = event.dagster_event.step_materialization_data.materialization
        values = {name: value.value for name, value in made.metadata.items()}
        found[made.asset_key.to_user_string(), str(made.partition)] = values
    return found


def test_what_is_due_is_synced_in_one_run_and_recorded_where_it_changed(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    for tenant in tenants:
        tenant.write(person(n) for n in range(20))
        workspace.connect(tenant.connection)
    request = asked_for(workspace, instance)
    assert request.run_key == f"batch:{request.run_config['ops']['sync_items']['config']['batch']}"
    first = run_batch(workspace, instance, request)
    assert first.success
    ran = instance.get_run_by_id(first.run_id)
    assert ran is not None and run_process.is_alive(ran.run_id, ran.tags[run_process.TAG])
    keys = [tenant.connection.key for tenant in tenants]
    assets = ("kinto/contacts", "kinto/contacts_mapped", "kinto/contacts_delivered")
    made = materialized(instance, first.run_id)
    assert made.keys() == {(asset, key) for asset in assets for key in keys}
    assert made["kinto/contacts", keys[0]]["created"] == 20
    assert made["kinto/contacts_delivered", keys[0]]["delivered"] == 20
    assert set(instance.get_dynamic_partitions("connections__kinto")) == set(keys)
    for tenant in tenants:
        assert workspace.records(tenant.connection.key) == tenant.truth()
    assert len(workspace.rows()) == 60

    rows = due_rows(workspace)
    assert rows.keys() == {(key, sync) for key in keys for sync in ("contacts", "companies")}
    for (_, sync), row in rows.items():
        assert (row["batch"], row["attempts"], row["result"]) == ("", 0, "ok")
        assert 0 < row["due_at"] - time.time() <= (15 if sync == "contacts" else 30) * 60
    assert evaluate_due(workspace, instance) == "nothing is due"

    make_due(workspace)
    tenants[1].write([person(77)])
    lakes = {key: workspace.runtime.stores.lake_path(key).read_bytes() for key in keys}
    second = run_batch(workspace, instance, asked_for(workspace, instance))
    assert {key for _, key in materialized(instance, second.run_id)} == {keys[1]}
    assert f"{1} changed" in log_of(instance, second.run_id)
    path = workspace.runtime.stores.lake_path
    same = [key for key in keys if path(key).read_bytes() == lakes[key]]
    assert same == [keys[0], keys[2]]
    runs = {(run.connection, run.sync): run.id for run in workspace.runtime.ledger.runs.newest()}
    assert runs[keys[1], "contacts"] == second.run_id
    assert runs[keys[0], "contacts"] == runs[keys[1], "companies"] == "nothing-changed"


def test_what_fails_backs_off_and_holds_nobody_up(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    fine, broken, _ = tenants
    fine.write([person(1)])
    workspace.connect(fine.connection)
    wrong = {"username": broken.name, "password": "no"}
    workspace.connect(replace(broken.connection, credentials=wrong))
    key, waits = broken.connection.key, []
    for attempt in (1, 2, 3):
        result = run_batch(workspace, instance, asked_for(workspace, instance))
        assert result.success
        assert f"attempt {attempt} failed" in log_of(instance, result.run_id)
        row = due_rows(workspace)[key, "contacts"]
        assert (row["attempts"], row["result"]) == (attempt, "not_authorized")
        waits.append(row["due_at"] - time.time())
        make_due(workspace)
    assert waits[2] > 800
    assert len(workspace.rows()) == 1
    (run,) = [r for r in workspace.runtime.ledger.runs.newest() if r.connection == key][:1]
    assert "401" in run.error

    workspace.connect(broken.connection)
    assert due_rows(workspace)[key, "contacts"]["attempts"] == 0
    broken.write([person(2)])
    assert run_batch(workspace, instance, asked_for(workspace, instance)).success
    assert len(workspace.rows()) == 2


def test_a_connection_that_is_held_is_left_for_later(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    key = workspace.connect(tenants[0].connection)
    request = asked_for(workspace, instance)
    with workspace.runtime.connect(key, what="a backfill"):
        result = run_batch(workspace, instance, request)
    assert "(a backfill, since" in log_of(instance, result.run_id)
    row = due_rows(workspace)[key, "contacts"]
    assert (row["attempts"], row["result"]) == (0, "lock_timeout")
    assert 20 < row["due_at"] - time.time() < 40


def test_new_and_gone_connections_need_no_reload(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    assert evaluate_due(workspace, instance) == "nothing is due"
    first = workspace.connect(tenants[0].connection)
    run_batch(workspace, instance, asked_for(workspace, instance))
    second = workspace.connect(tenants[1].connection)
    evaluate_due(workspace, instance)
    assert {connection for connection, _ in due_rows(workspace)} == {first, second}
    workspace.runtime.ledger.disconnect(first)
    assert {connection for connection, _ in due_rows(workspace)} == {second}


def test_stopping_commits_the_pages_it_has_and_the_next_batch_reads_on(
    workspace: Workspace, tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_verb, "FLUSH_ROWS", 100)
    workspace.replace(
        "connectors/kinto/data_collections/contacts.yaml", "page_size: 1000", "page_size: 100"
    )
    tenants[0].write(person(n) for n in range(1_000))
    key = workspace.connect(tenants[0].connection)
    runtime = workspace.runtime
    runtime.ledger.due.plan(key, [timetable("contacts"), timetable("companies")], "v")
    (name,) = runtime.ledger.due.claim(10, 10, 60)
    batch = Batch(runtime, name, "run-1")
    original = Batch._stop_here

    def stop_at_the_third_page(self: Batch, verb: str, report: Report) -> None:
        if report.pages == 3:
            self.stop()
        original(self, verb, report)

    monkeypatch.setattr(Batch, "_stop_here", stop_at_the_third_page)
    (finished,) = list(batch.finished())
    assert {one.error.code for one in finished if one.error} == {"stopped"}
    assert 100 <= len(workspace.records(key)) < 1_000
    row = due_rows(workspace)[key, "contacts"]
    assert (row["batch"], row["attempts"], row["result"]) == ("", 0, "stopped")
    assert row["due_at"] <= time.time()

    monkeypatch.setattr(Batch, "_stop_here", original)
    before = tenants[0].requests()
    (name,) = runtime.ledger.due.claim(10, 10, 60)
    list(Batch(runtime, name, "run-2").finished())
    assert workspace.records(key) == tenants[0].truth()
    assert tenants[0].requests() - before <= 9


def test_who_reads_for_long_lets_others_have_its_place_and_then_reads_on(
    workspace: Workspace, tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_verb, "FLUSH_ROWS", 100)
    workspace.replace(
        "connectors/kinto/data_collections/contacts.yaml", "page_size: 1000", "page_size: 100"
    )
    due = workspace.runtime.ledger.due
    long, *others = sorted(tenants, key=lambda tenant: tenant.connection.key)
    long.write(person(n) for n in range(1_000))
    for tenant in (long, *others):
        tenant.write([person(5_000)])
        due.plan(workspace.connect(tenant.connection), [timetable("contacts")], "v")
    turns: list[float] = []

    def three_pages(self: UnderWay, turn: float) -> bool:
        turns.append(turn)
        return turn == TURN_SECONDS and self.report.pages >= 3

    monkeypatch.setattr(UnderWay, "has_had", three_pages)
    before = long.requests()
    (name,) = due.claim(10, 10, 60)
    first, *rest = list(Batch(workspace.runtime, name, "run-1", threads=1).finished())
    assert [one.was_stopped for one in first] == [True]
    assert not any(one.error for group in rest for one in group)
    assert len(workspace.rows()) == 2, "nobody waited for the long one"
    row = due_rows(workspace)[long.connection.key, "contacts"]
    assert (row["attempts"], row["result"]) == (0, "stopped") and row["due_at"] <= time.time()

    turns.clear()
    (name,) = due.claim(10, 10, 60)
    list(Batch(workspace.runtime, name, "run-2", threads=1).finished())
    assert set(turns) == {LONGEST_TURN_SECONDS}, "now nobody waits"
    assert workspace.records(long.connection.key) == long.truth()
    assert long.requests() - before <= 11 + 2
    assert len(workspace.rows()) == 1_003


def test_a_turn_begins_with_the_first_request_and_lasts_as_long_as_the_way_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else one that goes through kept pages for longer than its turn would never get on."""
    moment = 100.0
    monkeypatch.setattr("membrane_sync.orchestration.batch.time.monotonic", lambda: moment)
    app = SimpleNamespace(requests=7, quota_left=None)
    one = UnderWay(cast(Any, None), Report(), cast(Any, app), began=100.0)
    moment = 190.0
    assert not one.has_had(60.0), "no request yet"
    app.requests = 8
    assert not one.has_had(60.0)
    moment = 279.0
    assert not one.has_had(60.0)
    moment = 280.0
    assert one.has_had(60.0)


def test_a_long_item_says_where_it_is_while_it_runs(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    tenants: list[Tenant],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.02)
    monkeypatch.setattr(store_verb, "FLUSH_ROWS", 10)
    workspace.replace(
        "connectors/kinto/data_collections/contacts.yaml", "page_size: 1000", "page_size: 10"
    )
    tenants[0].write(person(n) for n in range(300))
    key = workspace.connect(tenants[0].connection)
    result = run_batch(workspace, instance, asked_for(workspace, instance))
    log = log_of(instance, result.run_id)
    said = re.findall(rf"{key} contacts: pull: pages (\d+), pulled (\d+), [\d,]+ rows/s", log)
    pages = [int(page) for page, _ in said]
    assert pages == sorted(pages) and any(page < 30 for page in pages)
    assert "0 of 2 items" in log


def test_a_batch_that_dies_loses_nothing_that_was_finished(
    workspace: Workspace, tenants: list[Tenant]
) -> None:
    for tenant in tenants:
        tenant.write([person(1)])
        workspace.connect(tenant.connection)
        due = workspace.runtime.ledger.due
        due.plan(tenant.connection.key, [timetable("contacts")], "v")
    (name,) = due.claim(10, 10, 60)
    died = subprocess.run(
        [sys.executable, "-c", DIES, str(workspace.root), name], check=False, timeout=60
    )
    assert died.returncode == -signal.SIGKILL
    results = sorted(row["result"] for row in due_rows(workspace).values())
    assert results == ["", "", "ok"]
    assert due.claim(10, 10, 60) == [], "what was in flight is not claimed again"
    left = [row for row in due_rows(workspace).values() if row["batch"] == name]
    assert [row["attempts"] for row in left] == [1, 1]
    soon = time.time() + CLAIM_SECONDS
    assert CLAIM_SECONDS <= 30 and all(row["due_at"] <= soon for row in left)

    make_due(workspace)
    (again,) = due.claim(10, 10, 60)
    list(Batch(Workspace(workspace.root).runtime, again, "run-2").finished())
    assert len(workspace.rows()) == 3
    assert {row["attempts"] for row in due_rows(workspace).values()} == {0}


def test_a_batch_is_kept_while_its_run_waits_and_else_claimed_again_soon(
    workspace: Workspace, instance: dg.DagsterInstance, tenants: list[Tenant]
) -> None:
    """A tick whose daemon is killed claims a batch, and no run of it ever comes."""
    key = workspace.connect(tenants[0].connection)
    unheard = asked_for(workspace, instance)
    assert batch_job.FIRST_CLAIM_SECONDS <= 60
    soon = time.time() + batch_job.FIRST_CLAIM_SECONDS
    assert all(row["due_at"] <= soon for row in due_rows(workspace).values())
    make_due(workspace)
    request = asked_for(workspace, instance)
    assert request.run_key != unheard.run_key
    late = run_batch(workspace, instance, unheard)
    assert "0 of 0 items" in log_of(instance, late.run_id)
    assert not workspace.runtime.stores.lake_path(key).exists()

    for status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING):
        run = launched(instance, status, request.tags, job="sync_batch")
        make_due(workspace)
        assert evaluate_due(workspace, instance) == "nothing is due"
        rows = due_rows(workspace).values()
        assert {row["batch"] for row in rows} == {request.tags[BATCH_TAG]}
        assert all(row["due_at"] > time.time() + batch_job.TICK_SECONDS for row in rows)
        instance.delete_run(run)
    launched(instance, dg.DagsterRunStatus.STARTED, request.tags, job="sync_batch")
    make_due(workspace)
    assert asked_for(workspace, instance).run_key != request.run_key


DIES = """
import os, signal, sys
from pathlib import Path
from membrane_sync.bootstrap import open_runtime
from membrane_sync.orchestration.batch import Batch
for finished in Batch(open_runtime(Path(sys.argv[1])), sys.argv[2], "run-1", threads=1).finished():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_cancelled_run_stops_at_a_page_and_leaves_what_it_has(
    workspace: Workspace, tenants: list[Tenant], dagster_home: Path
) -> None:
    """A real process of Dagster's, and the signal that the UI's *Terminate* sends."""
    workspace.replace(
        "connectors/kinto/data_collections/contacts.yaml", "page_size: 1000", "page_size: 10"
    )
    tenants[0].write(person(n) for n in range(1_500))
    key = workspace.connect(tenants[0].connection)
    workspace.runtime.ledger.due.plan(key, [timetable("contacts")], "v")
    (name,) = workspace.runtime.ledger.due.claim(10, 10, 60)
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(workspace.root), name],
        env={**os.environ, "DAGSTER_HOME": str(dagster_home), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        before = tenants[0].requests()
        until = time.monotonic() + 60
        while tenants[0].requests() < before + 5:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "interrupted" in said
    row = due_rows(workspace)[key, "contacts"]
    assert (row["batch"], row["attempts"], row["result"]) == ("", 0, "stopped")
    assert 0 < len(workspace.records(key)) < 1_500
    make_due(workspace)
    (again,) = workspace.runtime.ledger.due.claim(10, 10, 60)
    list(Batch(workspace.runtime, again, "run-2").finished())
    assert workspace.records(key) == tenants[0].truth()


RUNS = """
import sys
from pathlib import Path
import dagster as dg
from dagster import DagsterExecutionInterruptedError
from dagster._utils.interrupts import capture_interrupts
from membrane_sync.orchestration.definitions import build_definitions
job = build_definitions(Path(sys.argv[1])).resolve_job_def("sync_batch")
config = {"ops": {"sync_items": {"config": {"batch": sys.argv[2]}}}}
with dg.DagsterInstance.get() as instance, capture_interrupts():
    try:
        job.execute_in_process(instance=instance, run_config=config)
    except DagsterExecutionInterruptedError:
        print("interrupted")
"""


def test_busy_workers_claim_only_what_there_is_room_for(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    tenants: list[Tenant],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace.connect(tenants[0].connection)
    monkeypatch.setattr("membrane_sync.orchestration.batch_job.MOST_BATCHES", 0)
    assert evaluate_due(workspace, instance) == "0 batches wait or run already"
    assert all(not row["batch"] for row in due_rows(workspace).values())


def timetable(sync: str) -> Timetable:
    return Timetable(sync, every_seconds=900)
