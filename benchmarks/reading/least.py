"""The least code from the app into DuckDB: httpx, orjson, Arrow; prints its figures as JSON.

It keeps what membrane keeps of a record, its typed columns and its JSON, and nothing else: no
change feed, no hash, no dead letters; a record that doesn't fit its columns ends it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import duckdb
import httpx
import orjson
import pyarrow as pa
from meter import measured, say

FLUSH_ROWS = 50_000
COLUMNS = {
    "id": pa.string(),
    "updated_at": pa.string(),
    "email": pa.string(),
    "first_name": pa.string(),
    "last_name": pa.string(),
    "score": pa.int64(),
    "rating": pa.float64(),
    "active": pa.bool_(),
    "signed_up": pa.string(),
    "phone": pa.string(),
    "revision": pa.int64(),
    "company": pa.struct([("id", pa.int64()), ("name", pa.string()), ("size", pa.string())]),
    "address": pa.struct([(n, pa.string()) for n in ("street", "city", "zip", "country")]),
    "tags": pa.list_(pa.string()),
    "notes": pa.string(),
}
TIMES = ("updated_at", "signed_up")


def main() -> None:
    """Read once: from the newest time in the table on."""
    url, page, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    rows = 0
    with measured() as figures, httpx.Client() as client:
        lake = duckdb.connect(directory / "floor.duckdb")
        lake.execute("SET TimeZone = 'UTC'; SET threads = 2")
        kinds = ", ".join(f"{n} {'TIMESTAMPTZ' if n in TIMES else _sql(n)}" for n in COLUMNS)
        lake.execute(f"CREATE TABLE IF NOT EXISTS records ({kinds}, payload VARCHAR)")
        newest = lake.execute(
            "SELECT strftime(max(updated_at), '%Y-%m-%dT%H:%M:%S.%gZ') FROM records"
        ).fetchall()[0][0]
        query: dict[str, Any] = {"limit": page, **({"since": newest} if newest else {})}
        waiting: list[Any] = []
        while True:
            body = orjson.loads(client.get(f"{url}/records", params=query).content)
            waiting += body["items"]
            rows += len(body["items"])
            if len(waiting) >= FLUSH_ROWS or body["next"] is None:
                keep(lake, waiting)
                waiting = []
            if body["next"] is None:
                break
            query["after"] = body["next"]
        lake.close()
    say(figures, rows=rows, written=rows)


def keep(lake: duckdb.DuckDBPyConnection, items: list[Any]) -> None:
    """Upsert records in one transaction."""
    columns = {n: pa.array([item.get(n) for item in items], t) for n, t in COLUMNS.items()}
    columns["payload"] = pa.array([orjson.dumps(item) for item in items], pa.string())
    lake.register("incoming", pa.table(columns))
    lake.execute("BEGIN")
    lake.execute("DELETE FROM records USING incoming WHERE records.id = incoming.id")
    lake.execute("INSERT INTO records SELECT * FROM incoming")
    lake.execute("COMMIT")
    lake.unregister("incoming")


def _sql(name: str) -> str:
    kinds = {"score": "BIGINT", "revision": "BIGINT", "rating": "DOUBLE", "active": "BOOLEAN"}
    structs = {
        "company": "STRUCT(id BIGINT, name VARCHAR, size VARCHAR)",
        "address": "STRUCT(street VARCHAR, city VARCHAR, zip VARCHAR, country VARCHAR)",
        "tags": "VARCHAR[]",
    }
    return kinds.get(name) or structs.get(name) or "VARCHAR"


if __name__ == "__main__":
    main()
