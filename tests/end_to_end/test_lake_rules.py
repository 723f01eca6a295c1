"""What a project declares of a lake holds for every stream in it, and beside other processes."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from membrane_sync.cli.scaffold import scaffold
from membrane_sync.errors import LockTimeout
from membrane_sync.ports import ConnectionRecord
from membrane_sync.sync.windows import Bounds
from membrane_sync.testing.simulator import Access, Collection, Simulator, running
from membrane_sync.testing.simulator.project import KEY, write_project
from tests.end_to_end.helpers import Workspace
from tests.end_to_end.processes import PATIENCE, SyncProcess

_context = multiprocessing.get_context("forkserver")

EVER = Bounds(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))

PACKAGE = "mappings/universal/packages/contacts.yaml"
NOTES = (
    Collection(key="accounts", records=4, deletes="tombstone"),
    Collection(key="notes", parent="accounts", touches_parent=True, deletes="tombstone"),
)
CONTACTS = (Collection(key="contacts", records=60, deletes="tombstone"),)


def workspace_of(root: Path, collection: str) -> Workspace:
    """A scaffolded project whose one sync reads this collection of the simulator."""
    scaffold(root, examples=False)
    write_project(root)
    workspace = Workspace(root)
    package = yaml.safe_load((root / PACKAGE).read_text(encoding="utf-8"))
    package["data_sources"]["contacts"]["collection_key"] = collection
    workspace.write(PACKAGE, yaml.safe_dump(package))
    return workspace


def connect(workspace: Workspace, url: str) -> str:
    account = {"input": {"url": url}, "credentials": {"token": "token-acme"}}
    return workspace.connect(ConnectionRecord("acme_app", KEY, "acme", **account))


def test_a_parents_own_mode_of_deletion_holds_for_it(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "app", "notes")
    path = f"connectors/{KEY}/data_collections/accounts.yaml"
    workspace.replace(path, "deletes:", "deletes:\n  mode: hard")
    simulator = Simulator(seed=1, collections=NOTES, access=Access(kind="token"))
    with running(simulator) as url:
        connection = connect(workspace, url)
        workspace.sync(connection)
        simulator.delete("accounts", ["accounts-00000002"])
        workspace.sync(connection)
    kept = workspace.select(connection, "SELECT _external_id AS id FROM records.accounts")
    assert {row["id"] for row in kept} == set(simulator.truth("accounts"))
    gone = workspace.select(connection, "SELECT kind FROM changes WHERE kind = 'deleted'")
    assert len(gone) == 1 + 3, "the account and its three notes"
    workspace.runtime.close()


def test_backfills_beside_a_live_sync_leave_its_cursor_and_bring_nothing_older(
    tmp_path: Path,
) -> None:
    workspace = workspace_of(tmp_path / "app", "contacts")
    simulator = Simulator(seed=1, collections=CONTACTS)
    with running(simulator) as url:
        connection = connect(workspace, url)
        workspace.sync(connection)
        read = simulator.edit("contacts", 20)
        newest = max(simulator.truth("contacts")[key]["updated_at"] for key in read)
        with SyncProcess(workspace, connection, pause=True) as live:
            live.wait_for_steps(1)
            # What the live sync has in hand is older than this by now.
            simulator.edit("contacts", read[:10])
            backfills = [_context.Process(target=_backfill, args=(workspace.root,)) for _ in "ab"]
            for process in backfills:
                process.start()
            live.go_on()
            assert live.finish()[0].updated == 20
            for process in backfills:
                process.join(PATIENCE)
            assert [process.exitcode for process in backfills] == [0, 0]
        assert json.loads(workspace.lake_cursor(connection))["value"] == newest
        assert workspace.records(connection) == simulator.truth("contacts")
        kinds = "SELECT kind, count(*) AS n FROM changes GROUP BY kind ORDER BY kind"
        expected = [{"kind": "created", "n": 60}, {"kind": "updated", "n": 30}]
        assert workspace.select(connection, kinds) == expected
        assert workspace.sync(connection).updated == 0
        assert workspace.select(connection, kinds) == expected
    workspace.runtime.close()


def test_a_backfill_waits_for_another_run_no_longer_than_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBRANE_LOCK_WAIT_SECONDS", "0.5")
    workspace = workspace_of(tmp_path / "app", "contacts")
    connection = connect(workspace, "http://127.0.0.1:9")
    with workspace.runtime.connect(connection, what="another backfill"):
        said = r"'acme_app' is held by process \d+ on .* \(another backfill, since .*waited 0.5 s"
        with pytest.raises(LockTimeout, match=said):
            workspace.sync(connection, bounds=EVER)
    workspace.runtime.close()


def _backfill(root: Path) -> None:
    Workspace(root).sync("acme_app", bounds=EVER)
