"""All five verbs against the least code that moves the same records; see README.md."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import duckdb
import httpx
import pyarrow as pa

from benchmarks.servers import served
from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.sync.run import run_sync

RECORDS = int(os.environ.get("RECORDS", "50000"))
HERE = Path(__file__).parent

CONNECTOR = "name: Bench\nbase_url: {$var: $.input.url}\n"
COLLECTION = """
list:
  path: /records
  query: {since: {$var: $.cursor}}
  records: $.body.items
  pagination: {type: cursor, parameter: after, next: {$var: $.body.next}}
  cursor: {field: $.version, type: integer, inclusive: false, unique: true, sorted: ascending}
fields_schema:
  type: object
  properties:
    id: {type: string}
    version: {type: integer}
    email: {type: string}
    first_name: {type: string}
    last_name: {type: string}
    score: {type: integer}
    signed_up: {type: string, format: date-time}
    address: {type: object, properties: {city: {type: string}, country: {type: string}}}
    tags: {type: array, items: {type: string}}
"""


def main() -> None:
    """Print CPU seconds, microseconds a record and the ratio, for three kinds of sync."""
    with tempfile.TemporaryDirectory() as directory, served(HERE / "server.py", RECORDS) as url:
        ours = membrane(Path(directory) / "project", url)
        floor = Floor(Path(directory), url)
        print(f"{RECORDS:,} records, CPU seconds of this process\n")
        print(f"{'':24}{'membrane':>10}{'floor':>10}{'ratio':>8}{'µs a record':>13}")
        compare("first sync", RECORDS, ours, floor.sync)
        httpx.post(f"{url}/change", params={"count": RECORDS // 100}, timeout=60)
        compare("1 % changed", RECORDS // 100, ours, floor.sync)
        compare("nothing changed", 1, ours, floor.sync)


def compare(name: str, records: int, ours: Callable[[], None], floor: Callable[[], None]) -> None:
    """Run both once and print a line."""
    mine, least = cpu(ours), cpu(floor)
    micros = mine / records * 1e6
    print(f"{name:24}{mine:10.2f}{least:10.2f}{mine / max(least, 1e-9):8.1f}{micros:13.0f}")


def cpu(work: Callable[[], None]) -> float:
    """CPU seconds that the work takes in this process."""
    started = process_time()
    work()
    return process_time() - started


def membrane(root: Path, url: str) -> Callable[[], None]:
    """A project with the benchmark's app connected; the function syncs it once."""
    scaffold(root)
    app = root / "connectors" / "bench"
    (app / "data_collections").mkdir(parents=True)
    (app / "connector.yaml").write_text(CONNECTOR)
    (app / "data_collections" / "contacts.yaml").write_text(COLLECTION)
    (root / "mappings" / "integrations" / "bench").mkdir()
    (root / "mappings" / "integrations" / "bench" / "integration.yaml").write_text("name: Bench\n")
    runtime = open_runtime(root)
    record = ConnectionRecord("acme_bench", "bench", "acme", input={"url": url})
    runtime.ledger.connect(record)
    sync = runtime.sync("contacts", record)

    def once() -> None:
        with runtime.connect(record.key, sync) as parties:
            run_sync(sync, parties)

    return once


class Floor:
    """The same libraries and the least code: no history, no links, no care."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self.since = 0
        self.lake = duckdb.connect(directory / "floor.duckdb")
        self.lake.execute(
            "CREATE TABLE records (id VARCHAR, version BIGINT, email VARCHAR, first_name VARCHAR, "
            "last_name VARCHAR, score BIGINT, signed_up TIMESTAMPTZ, payload VARCHAR)"
        )
        self.product = sqlite3.connect(directory / "floor.db")
        self.product.execute(
            "CREATE TABLE contacts (id TEXT PRIMARY KEY, email TEXT, full_name TEXT, city TEXT, "
            "tags TEXT, signed_up_on TEXT, stage TEXT)"
        )

    def sync(self) -> None:
        """Read, keep, map and write."""
        with httpx.Client() as client:
            after: int | None = self.since
            while after is not None:
                body = client.get(f"{self.url}/records", params={"since": after}).json()
                if body["items"]:
                    self.keep(body["items"])
                after = body["next"]

    def keep(self, items: list[dict[str, object]]) -> None:
        """One page into both databases."""
        names = ["id", "version", "email", "first_name", "last_name", "score", "signed_up"]
        columns = {name: [item[name] for item in items] for name in names}
        incoming = pa.table({**columns, "payload": [json.dumps(item) for item in items]})
        self.lake.register("incoming", incoming)
        self.lake.execute("BEGIN")
        self.lake.execute("DELETE FROM records USING incoming WHERE records.id = incoming.id")
        self.lake.execute("INSERT INTO records SELECT * FROM incoming")
        self.lake.execute("COMMIT")
        with self.product:
            self.product.executemany(
                "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        item["id"],
                        item["email"],
                        f"{item['first_name']} {item['last_name']}",
                        item["address"]["city"],  # type: ignore[index]
                        json.dumps(item["tags"]),
                        str(item["signed_up"])[:10],
                        "vip" if item["score"] >= 90 else "lead",  # type: ignore[operator]
                    )
                    for item in items
                ],
            )
        self.since = items[-1]["version"]  # type: ignore[assignment]


if __name__ == "__main__":
    main()
