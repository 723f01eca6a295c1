"""A project of a test's own, its syncs, what they left behind, and what they should have left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import Any

import sqlalchemy as sa

from membrane_sync.apps.kinto import Account, Kinto, records_path
from membrane_sync.apps.pocketbase import PocketBase
from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.ports import Api, ConnectionRecord
from membrane_sync.records import Answer, Call, Report
from membrane_sync.sync.pull import Mode
from membrane_sync.sync.run import run_sync, silent
from membrane_sync.sync.store import Progress
from membrane_sync.sync.windows import Bounds
from tests.fixtures import REPOSITORY

Row = dict[str, Any]


@dataclass(frozen=True)
class TellingApi:
    """An app's API that tells of each call that was answered."""

    api: Api
    tell: Callable[[Call], None]

    def send(self, call: Call) -> Answer:
        answer = self.api.send(call)
        self.tell(call)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)


def new_workspace(root: Path, *, database: str = "", ledger: str = "") -> Workspace:
    """A copy of the repository's declarations; URLs are by default of SQLite files in it."""
    for folder in ("connectors", "mappings"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    settings = ["[tool.membrane_sync]"] + ([f'ledger_url = "{ledger}"'] if ledger else [])
    settings += ["[tool.membrane_sync.databases]"] + ([f'app = "{database}"'] if database else [])
    workspace = Workspace(root)
    workspace.write("pyproject.toml", "\n".join(settings))
    return workspace


class Workspace:
    """A project with data of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        """Add or replace a file; what runs next sees it."""
        self.__dict__.pop("runtime", None)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a declaration; the text to be replaced must be there."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        self.write(path, text.replace(old, new))

    @cached_property
    def runtime(self) -> Runtime:
        return open_runtime(self.root)

    @property
    def data(self) -> Path:
        return self.runtime.settings.data_dir

    def connect(self, record: ConnectionRecord) -> str:
        self.runtime.ledger.connect(record)
        return record.key

    def sync(
        self,
        connection: str,
        sync: str = "contacts",
        *,
        mode: Mode = "incremental",
        bounds: Bounds | None = None,
        progress: Progress = silent,
        answered: Callable[[Call], None] | None = None,
    ) -> Report:
        """One recorded run, held against all others of the connection.

        `answered` is told of each call of the app when its answer is there, before it is read.
        """
        resolved = self.runtime.sync(sync, self.runtime.ledger.connection(connection))
        with (
            self.runtime.recorded(token_hex(8), sync, connection) as report,
            self.runtime.connect(connection, resolved) as parties,
        ):
            if answered:
                parties = replace(parties, api=TellingApi(parties.api, answered))
            done = run_sync(resolved, parties, mode=mode, bounds=bounds, progress=progress)
            vars(report).update(vars(done))
        return report

    def select(self, connection: str, sql: str) -> list[Row]:
        """The answer of the connection's lake."""
        lake = self.runtime.lake(self.runtime.ledger.connection(connection))
        try:
            return [dict(row) for row in lake.select(sql).to_pylist()]
        finally:
            lake.close()

    def records(self, connection: str, stream: str = "contacts") -> dict[str, Row]:
        """The live records of the lake by id, as the app sent them."""
        rows = self.select(
            connection, f"SELECT _payload FROM records.{stream} WHERE _deleted_at IS NULL"
        )
        return by_id(json.loads(row["_payload"]) for row in rows)

    def lake_cursor(self, connection: str, stream: str = "contacts") -> Any:
        """The stored cursor of a stream."""
        sql = f"SELECT cursor FROM cursors WHERE stream = '{stream}'"
        return self.select(connection, sql)[0]["cursor"]

    def links(self, connection: str) -> dict[str, str]:
        """The product's key of each linked external record."""
        rows = self.select(connection, "SELECT external_id, app_id FROM links")
        assert len({row["external_id"] for row in rows}) == len(rows), "two links of one record"
        return {row["external_id"]: row["app_id"] for row in rows}

    def dead_letters(self, connection: str) -> list[Row]:
        return self.select(connection, "SELECT * FROM dead_letters ORDER BY external_id, field")

    def rows(self, table: str = "contacts") -> list[Row]:
        """The product's rows, as its own database gives them."""
        engine = sa.create_engine(self.runtime.settings.databases["app"])
        try:
            reflected = sa.Table(table, sa.MetaData(), autoload_with=engine)
            with engine.connect() as connection:
                found = connection.execute(sa.select(reflected).order_by(*reflected.primary_key))
                return [dict(row._mapping) for row in found]
        finally:
            engine.dispose()

    def delivered(self, connection: str, table: str = "contacts") -> dict[str, Row]:
        """The product's row of each external record, found by its link; links and rows are 1:1."""
        rows = {str(row["id"]): row for row in self.rows(table) if row["connection"] == connection}
        links = self.links(connection)
        assert sorted(links.values()) == sorted(rows)
        return {external_id: rows[app_id] for external_id, app_id in links.items()}


@dataclass(frozen=True)
class Tenant:
    """A tenant's bucket in Kinto, and the calls that change what is in it."""

    kinto: Kinto
    name: str = field(default_factory=lambda: f"t{token_hex(4)}")

    @cached_property
    def account(self) -> Account:
        account = self.kinto.create_account(self.name, f"{self.name}-secret")
        self.kinto.create_bucket(account, self.name)
        for collection in ("contacts", "companies"):
            self.kinto.create_collection(account, self.name, collection)
        return account

    @property
    def connection(self) -> ConnectionRecord:
        return ConnectionRecord(
            key=f"{self.name}_kinto",
            integration="kinto",
            tenant=self.name,
            input={"url": self.kinto.url, "bucket": self.name},
            credentials={"username": self.name, "password": self.account.password},
        )

    def write(self, records: Iterable[Row], collection: str = "contacts") -> None:
        self.kinto.write(self.account, self.name, collection, records)

    def update(self, records: Iterable[Row]) -> None:
        self.kinto.update(self.account, self.name, "contacts", records)

    def delete(self, ids: Iterable[str]) -> None:
        self.kinto.delete(self.account, self.name, "contacts", ids)

    def truth(self, collection: str = "contacts") -> dict[str, Row]:
        return by_id(self.kinto.list(self.account, self.name, collection))

    def requests(self, collection: str = "contacts") -> int:
        """How many requests for this collection the server itself has counted."""
        return self.kinto.requests(records_path(self.name, collection))


def pocketbase_connection(pocketbase: PocketBase) -> ConnectionRecord:
    return ConnectionRecord(
        key="acme_pocketbase",
        integration="pocketbase",
        tenant="acme",
        input={"url": pocketbase.url},
        credentials={"token": pocketbase.login()},
    )


def person(number: int, **other: Any) -> Row:
    """A contact of Kinto; by its number it lacks this or that, and stands at this or that edge."""
    record: Row = {
        "id": f"c{number:05}",
        "email": f"person{number}@example.org",
        "first_name": f"Åsa {number}",
        "score": number % 100,
        # Before 02:00 in this zone it is still the day before in UTC.
        "signed_up": f"2026-01-{number % 27 + 2:02}T{number % 24:02}:30:00+02:00",
    }
    if number % 2:
        record["last_name"] = 'Ö\'Neill "née" 李'
    if number % 3:
        record["address"] = {"city": f"City {number % 7}", "country": "SE"}
    if number % 5:
        record["tags"] = [f"tag{number % 4}", "all"]
    if number % 7:
        record["phone"] = f"+46 {number:08}"
    return {**record, **other}


def expected_person(record: Mapping[str, Any]) -> Row:
    """What the product should hold of a contact of Kinto: the mapping, written once more."""
    score = record["score"]
    names = [record[name] for name in ("first_name", "last_name") if record.get(name)]
    return {
        "email": record["email"],
        "full_name": " ".join(names),
        "phone": record.get("phone"),
        "city": record.get("address", {}).get("city"),
        "tags": record.get("tags"),
        "signed_up_on": datetime.fromisoformat(record["signed_up"]).astimezone(UTC).date(),
        "stage": "vip" if score >= 90 else "customer" if score >= 50 else "lead",
    }


def fields_of(rows: Mapping[str, Row]) -> dict[str, Row]:
    """The rows without the columns that say whose they are."""
    whose = ("id", "tenant", "connection")
    return {
        key: {name: value for name, value in row.items() if name not in whose}
        for key, row in rows.items()
    }


def by_id(records: Iterable[Row]) -> dict[str, Row]:
    return {str(record["id"]): record for record in records}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of stored data, byte for byte; who held a lock last is none of it."""
    files = [path for path in folder.rglob("*") if path.suffix in (".db", ".duckdb", ".wal")]
    return {path.name: path.read_bytes() for path in files if path.name != "ledger.db"}
