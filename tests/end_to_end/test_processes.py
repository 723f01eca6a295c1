"""Several processes at once: tenants run side by side, runs of one connection one after another."""

from __future__ import annotations

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.errors import LockTimeout
from tests.end_to_end.helpers import Tenant, Workspace, expected_person, fields_of, person
from tests.end_to_end.processes import SyncProcess


def test_two_tenants_sync_side_by_side_and_see_nothing_of_each_other(
    workspace: Workspace, kinto: Kinto
) -> None:
    tenants = [Tenant(kinto), Tenant(kinto)]
    for number, tenant in enumerate(tenants):
        # The same ids in both apps, with other contents.
        tenant.write(person(n, last_name=f"of tenant {number}") for n in range(1_500))
    first, second = (workspace.connect(tenant.connection) for tenant in tenants)

    with (
        SyncProcess(workspace, first, pause=True) as one,
        SyncProcess(workspace, second, pause=True) as other,
    ):
        for process in (one, other):
            process.wait_for_steps(1)
        # Both hold their connection now.
        for process in (one, other):
            process.go_on()
        (_, ones), (_, others) = one.finish(), other.finish()
    assert max(min(ones), min(others)) < min(max(ones), max(others))

    for tenant, connection in zip(tenants, (first, second), strict=True):
        truth = tenant.truth()
        assert workspace.records(connection) == truth
        assert fields_of(workspace.delivered(connection)) == {
            key: expected_person(record) for key, record in truth.items()
        }
        owners = {row["tenant"] for row in workspace.delivered(connection).values()}
        assert owners == {tenant.name}
    assert len(workspace.rows()) == 3_000

    tenants[0].delete(["c00001"])
    assert workspace.sync(first).removed == 1
    assert "c00001" in workspace.delivered(second)


def test_runs_of_one_connection_wait_for_each_other(
    workspace: Workspace, kinto: Kinto, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = Tenant(kinto)
    tenant.write(person(n) for n in range(1_500))
    connection = workspace.connect(tenant.connection)

    with SyncProcess(workspace, connection, pause=True) as holder:
        holder.wait_for_steps(1)
        with SyncProcess(workspace, connection) as waiter:
            monkeypatch.setenv("MEMBRANE_LOCK_WAIT_SECONDS", "0.5")
            with pytest.raises(LockTimeout) as caught:
                Workspace(workspace.root).sync(connection)
            assert f"process {holder.pid} " in str(caught.value)
            assert connection in str(caught.value) and "0.5 s" in str(caught.value)

            holder.go_on()
            first, held = holder.finish()
            second, held_after = waiter.finish()
    assert max(held) < min(held_after)
    assert (first.created, second.pulled, second.requests) == (1_500, 0, 1)
    assert workspace.records(connection) == tenant.truth()


def test_a_holder_that_dies_lets_go(workspace: Workspace, kinto: Kinto) -> None:
    tenant = Tenant(kinto)
    tenant.write([person(1)])
    connection = workspace.connect(tenant.connection)
    with SyncProcess(workspace, connection, pause=True) as holder:
        holder.wait_for_steps(1)
        assert holder.kill()
        assert workspace.sync(connection).delivered == 1
