"""The packaged connector: a file for each collection, and what it syncs is the app's truth."""

import json
import time
from pathlib import Path

import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.project.support import unsupported
from membrane_sync.records import Report
from membrane_sync.sync.collection import deleted_collection
from membrane_sync.sync.pull import Reading, pull
from membrane_sync.sync.read import DELETED
from membrane_sync.sync.store import finish_scan, new_scan, store
from membrane_sync.testing import MemoryLake
from membrane_sync.testing.simulator import STYLES, Collection, Simulator, running
from membrane_sync.testing.simulator.project import CONNECTOR, KEY, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root: Path = tmp_path_factory.mktemp("project")
    write_project(root)
    return Project.load(root)


def declared(project: Project, key: str) -> DataCollection:
    found = project.find("data_collection", key, integration=KEY)
    assert isinstance(found, DataCollection)
    return found


def test_each_collection_has_its_file_and_each_file_its_collection() -> None:
    files = {path.stem for path in (CONNECTOR / "data_collections").glob("*.yaml")}
    assert files == {spec.key for spec in STYLES}


class Sync:
    """One collection's syncs into a lake in memory, cursor and all."""

    def __init__(self, project: Project, key: str, url: str) -> None:
        self.collection = declared(project, key)
        self.lake = MemoryLake()
        account = {"input": {"url": url}, "credentials": {"token": "token-acme"}}
        connection = ConnectionRecord("acme_simulator", KEY, "acme", **account)
        self._api = HttpApi(project.connector(KEY), connection, sleep=lambda _seconds: None)

    def run(self, *, full: bool = False) -> None:
        time.sleep(0.01)  # a window ends now, and this millisecond is in the next one
        stream, report = self.collection.key, Report()
        deletes = self.collection.deletes
        scan = new_scan() if full and deletes.full_scan else ""
        if deletes.endpoint is not None:
            gone = deleted_collection(self.collection)
            since = self.lake.cursor(stream + DELETED)
            deletions = Reading(gone, stream, cursor=since, part=DELETED)
            store(pull(deletions, self._api), self.lake, report)
        reading = Reading(
            self.collection, stream, cursor=self.lake.cursor(stream), full=full, scan=scan
        )
        store(pull(reading, self._api), self.lake, report)
        if scan:
            finish_scan(self.lake, stream, scan, deletes.max_share, "", report)

    def records(self) -> dict[str, dict]:
        found = self.lake.records(self.collection.key)
        return {external_id: json.loads(payload) for external_id, payload in found.items()}


FLAT = [spec for spec in STYLES if spec.parent is None]
"""Those below a parent are in test_families.py."""


@pytest.mark.parametrize("spec", FLAT, ids=lambda spec: spec.key)
def test_what_it_syncs_is_the_truth(spec: Collection, project: Project) -> None:
    collection = declared(project, spec.key)
    waiting = [message for _, message in unsupported(collection)]
    if waiting:
        pytest.skip(waiting[0])
    # Windows end now, so there the app's clock must be ours.
    simulator = Simulator(seed=5, records=230, live=spec.window == "required")
    with running(simulator) as url:
        sync = Sync(project, spec.key, url)
        sync.run()
        assert sync.records() == expected(simulator, spec)
        simulator.edit(spec.key, 12)
        simulator.create(spec.key, 5)
        simulator.settle()
        sync.run()
        assert sync.records() == expected(simulator, spec)
        simulator.delete(spec.key, 6)
        simulator.settle()
        sync.run(full=spec.deletes != "tombstone")
        assert sync.records() == expected(simulator, spec)


def expected(simulator: Simulator, spec: Collection) -> dict[str, dict]:
    """What a reader holds that does as the declaration says."""
    truth = simulator.truth(spec.key)
    if spec.null_order == "last":
        return {i: record for i, record in truth.items() if record["updated_at"] is not None}
    if spec.summary:
        return {i: {name: r[name] for name in ("id", "updated_at")} for i, r in truth.items()}
    return truth
