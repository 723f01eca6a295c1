"""The fields that an account has of its own, in what Dagster shows of its partition."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from membrane_sync.testing.simulator import Access, Simulator, running
from tests.cli.test_custom_fields import connect, custom_project
from tests.end_to_end.helpers import Workspace
from tests.orchestration.helpers import run_job


def test_a_materialization_has_the_columns_of_its_connection(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    custom_project(tmp_path)
    with running(Simulator(records=3, access=Access(custom_fields=1))) as url:
        connect(tmp_path, url)
        result = run_job(Workspace(tmp_path), instance, "acme", job="sync_simulator_contacts")
    assert result.success
    (pulled,) = (
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["simulator", "contacts"])
    )
    columns = pulled.metadata["dagster/column_schema"].value.columns
    assert {column.name for column in columns} >= {"email", "acme_field_0"}
