"""More records of one moment than any query gives: all are in the lake, and once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import yaml

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.run import Parties, run_sync
from membrane_sync.testing import MemoryDestination
from membrane_sync.testing.simulator import Access, Collection, Simulator, running
from membrane_sync.testing.simulator.project import CONNECTOR
from tests.sync.parts import resolved

RECORDS, CAP = 25_000, 10_000


def test_25_000_records_of_one_millisecond_behind_a_cap_of_10_000(tmp_path: Path) -> None:
    text = (CONNECTOR / "data_collections" / "capped.yaml").read_text(encoding="utf-8")
    collection = DataCollection.model_validate({"key": "contacts", **yaml.safe_load(text)})
    assert collection.list_ is not None
    assert collection.list_.pagination.result_cap == CAP
    spec = Collection(
        key="capped",
        pagination="page",
        result_cap=CAP,
        per_moment=RECORDS,
        records=RECORDS + 40,
    )
    simulator = Simulator(seed=1, collections=[spec], access=Access(kind="none"))
    lake = DuckDbLake(tmp_path / "acme.duckdb")
    with running(simulator) as url:
        connector = Connector.model_validate({"key": "app", "base_url": url})
        connection = ConnectionRecord("acme_app", "app", "acme")
        api = HttpApi(connector, connection)
        parties = Parties(connection, api, lake, MemoryDestination())
        sync = resolved(collection)
        first = run_sync(sync, parties)
        changed = set(simulator.edit("capped", 30))
        second = run_sync(sync, parties)
        api.close()

    truth = simulator.truth("capped")
    times = Counter(record["updated_at"] for record in truth.values())
    assert times.most_common(1)[0][1] >= RECORDS - 30, "they are not of one millisecond"
    assert (first.created, first.updated, first.failed) == (RECORDS + 40, 0, 0)
    assert (second.created, second.updated) == (0, 30)
    rows = lake.select(
        "SELECT count(*) AS all_, count(DISTINCT _external_id) AS ids FROM records.contacts"
    ).to_pylist()
    assert rows == [{"all_": RECORDS + 40, "ids": RECORDS + 40}]
    found = lake.select("SELECT _external_id AS id FROM records.contacts").column("id").to_pylist()
    assert set(found) == set(truth)
    kinds = lake.select("SELECT kind, count(*) AS n FROM changes GROUP BY kind ORDER BY kind")
    assert kinds.to_pylist() == [
        {"kind": "created", "n": RECORDS + 40},
        {"kind": "updated", "n": len(changed)},
    ]
    # Of 27 pages the tie is, and the cap is run into before it's known to be one.
    assert first.requests <= 45
    lake.close()
