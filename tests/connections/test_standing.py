"""A connection that is of no use any more is marked, rests, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import httpx
import pytest

from membrane_sync.apps.kinto import Account, Kinto
from membrane_sync.bootstrap import Standing
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.errors import Defunct, NotReady, Unauthenticated
from membrane_sync.orchestration.upkeep import standings
from tests.end_to_end.helpers import Tenant, Workspace, expected_person, fields_of, person
from tests.orchestration.helpers import (
    due_rows,
    evaluate_due,
    failure,
    log_of,
    make_due,
    run_batch,
    run_job,
)
from tests.stores.databases import run

KINTO = "connectors/kinto/connector.yaml"
CLOSED = """
errors:
  - {status: [401], action: defunct, message: the account is closed}
test:
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    scaffold(tmp_path / "crm")
    return Workspace(tmp_path / "crm")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    quiet = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides=quiet) as opened:
        yield opened


@pytest.fixture
def tenant(kinto: Kinto, workspace: Workspace) -> Tenant:
    """One that has been synced."""
    made = Tenant(kinto)
    made.write(person(n) for n in range(20))
    workspace.runtime.register(made.connection)
    workspace.sync(made.connection.key)
    return made


def change_password(tenant: Tenant, password: str) -> None:
    """As the user does in the app, where nobody tells us of it."""
    body = {"data": {"password": password}}
    where = f"{tenant.kinto.url}/accounts/{tenant.name}"
    httpx.put(where, auth=tenant.account.auth, json=body).raise_for_status()
    tenant.__dict__["account"] = Account(tenant.name, password)


def minutes_pass(workspace: Workspace) -> None:
    url = workspace.runtime.settings.ledger_url
    run(url, "UPDATE membrane_connections SET refused_at = refused_at - 61")
    make_due(workspace)


def asked_for(workspace: Workspace, instance: dg.DagsterInstance) -> dg.RunRequest:
    (request,) = evaluate_due(workspace, instance)
    assert isinstance(request, dg.RunRequest)
    return request


def standing_of(workspace: Workspace, key: str) -> Standing:
    return next(found for found in workspace.runtime.overview() if found.connection == key)


def test_three_refusals_in_a_row_let_it_rest_until_it_is_connected_again(
    workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    key = tenant.connection.key
    ledger = workspace.runtime.ledger
    cursor = workspace.lake_cursor(key)
    change_password(tenant, "another-secret")
    for refusals in (1, 2, 3):
        assert ledger.connection(key).status == "ready"
        assert run_batch(workspace, instance, asked_for(workspace, instance)).success
        assert ledger.connection(key).refusals == refusals
        minutes_pass(workspace)
    record = ledger.connection(key)
    assert record.status == "reconnect_needed"
    assert record.reason.startswith("the app refused the credentials 3 times in a row: kinto: GET ")
    assert "answered 401" in record.reason and "secret" not in record.reason

    # It rests, and whoever looks is told why.
    asked = sum(tenant.requests(collection) for collection in ("contacts", "companies"))
    assert evaluate_due(workspace, instance) == "nothing is due"
    with pytest.raises(NotReady, match=f"'{key}' has to be connected again: the app refused") as e:
        workspace.sync(key)
    assert f"membrane connect kinto --tenant {tenant.name} --key {key}" in e.value.hint
    said = failure(run_job(workspace, instance, key))
    assert "3 times in a row" in said and "membrane connect kinto" in said
    assert standing_of(workspace, key).result.startswith("reconnect needed: the app refused")
    assert standings(workspace.runtime, 0.0)[key] == "failed"
    assert sum(tenant.requests(collection) for collection in ("contacts", "companies")) == asked

    # What happens in the app meanwhile isn't lost.
    tenant.write([person(3, score=99), person(50)])
    tenant.delete(["c00007"])
    run(workspace.runtime.settings.ledger_url, "UPDATE membrane_due SET due_at = 9e9")
    workspace.runtime.register(tenant.connection)
    assert (ledger.connection(key).status, ledger.connection(key).reason) == ("ready", "")
    assert {row["attempts"] for row in due_rows(workspace).values()} == {0}
    request = asked_for(workspace, instance)
    before = tenant.requests()
    assert run_batch(workspace, instance, request).success
    assert tenant.requests() - before <= 2, "it went on from its cursor"
    assert workspace.lake_cursor(key) != cursor
    assert workspace.records(key) == tenant.truth()
    truth = {one: expected_person(record) for one, record in tenant.truth().items()}
    assert fields_of(workspace.delivered(key)) == truth
    assert ledger.connection(key).refusals == 0


def test_where_the_app_says_that_the_account_is_gone_it_rests_at_once(
    workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    key = tenant.connection.key
    workspace.replace(KINTO, "\ntest:\n", CLOSED)
    change_password(tenant, "another-secret")
    request = asked_for(workspace, instance)
    before = tenant.requests("contacts") + tenant.requests("companies")
    result = run_batch(workspace, instance, request)
    assert result.success
    assert "the account is closed" in log_of(instance, result.run_id)
    asked = tenant.requests("contacts") + tenant.requests("companies") - before
    assert asked == 1, "after the first one no other sync of it asks"
    record = workspace.runtime.ledger.connection(key)
    assert record.status == "reconnect_needed" and "the account is closed" in record.reason
    assert {row["result"] for row in due_rows(workspace).values()} == {"defunct"}
    make_due(workspace)
    assert evaluate_due(workspace, instance) == "nothing is due"
    workspace.runtime.register(tenant.connection)
    tenant.write([person(60)])
    assert run_batch(workspace, instance, asked_for(workspace, instance)).success
    assert workspace.records(key) == tenant.truth()


def test_by_hand_it_is_marked_as_well(workspace: Workspace, tenant: Tenant) -> None:
    key = tenant.connection.key
    change_password(tenant, "another-secret")
    with pytest.raises(Unauthenticated):
        workspace.sync(key)
    assert workspace.runtime.ledger.connection(key).refusals == 1
    workspace.replace(KINTO, "\ntest:\n", CLOSED)
    with pytest.raises(Defunct):
        workspace.sync(key)
    assert workspace.runtime.ledger.connection(key).status == "reconnect_needed"


def test_to_try_other_credentials_marks_nothing(workspace: Workspace, tenant: Tenant) -> None:
    key = tenant.connection.key
    workspace.replace(KINTO, "\ntest:\n", CLOSED)
    wrong = replace(tenant.connection, credentials={"username": tenant.name, "password": "no"})
    with pytest.raises(Defunct):
        workspace.runtime.apps.prove(wrong)
    workspace.runtime.apps.prove(tenant.connection)
    record = workspace.runtime.ledger.connection(key)
    assert (record.status, record.refusals) == ("ready", 0)


@pytest.mark.parametrize("status", ["paused", "archived"])
def test_others_that_are_not_ready_rest_too(
    status: str, workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    key = tenant.connection.key
    workspace.runtime.ledger.set_status(key, status, "the customer asked for it")  # type: ignore[arg-type]
    assert evaluate_due(workspace, instance) == "nothing is due"
    with pytest.raises(NotReady, match=f"'{key}' is {status}: the customer asked for it"):
        workspace.sync(key)
    assert standing_of(workspace, key).result == f"{status}: the customer asked for it"
    assert standings(workspace.runtime, 9e9).get(key) is None, "that's as it's meant"
    workspace.runtime.ledger.set_status(key, "ready")
    assert run_batch(workspace, instance, asked_for(workspace, instance)).success


def test_what_was_claimed_before_it_was_paused_does_not_run(
    workspace: Workspace, instance: dg.DagsterInstance, tenant: Tenant
) -> None:
    request = asked_for(workspace, instance)
    workspace.runtime.ledger.set_status(tenant.connection.key, "paused")
    before = tenant.requests()
    assert run_batch(workspace, instance, request).success
    assert tenant.requests() == before
    assert {row["result"] for row in due_rows(workspace).values()} == {"not_ready"}
