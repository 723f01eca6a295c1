"""PostgreSQL as the product's database, with real types, and as the ledger."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.apps.process import free_port
from membrane_sync.errors import MembraneError
from tests.end_to_end.helpers import (
    Row,
    Tenant,
    Workspace,
    expected_person,
    fields_of,
    new_workspace,
    person,
)
from tests.stores.databases import fresh_database, run

# The product's own table, with types and columns of its own that the mapping knows nothing of.
TABLE = """
    CREATE TABLE contacts (
        id uuid PRIMARY KEY, tenant text NOT NULL, connection text NOT NULL,
        email varchar(200) NOT NULL, full_name text, phone text, city text, tags jsonb,
        signed_up_on date, stage text NOT NULL, signed_up_at timestamptz,
        balance numeric(12, 2) NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now())"""

SIGNED_UP_AT = {
    "mappings/integrations/kinto/data_schemas/contacts.yaml": """
        schema:
          properties:
            signed_up_at: {type: string, format: date-time}""",
    "mappings/integrations/kinto/field_mappings/contacts.yaml": """
        import_value:
          signed_up_at: {$var: $.signed_up}""",
}


@pytest.fixture
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with fresh_database("postgresql", tmp_path, request) as url:
        yield url


def change_everything(tenant: Tenant) -> None:
    tenant.update([{"id": "c00001", "email": "ada@example.org", "tags": ["new", "ö"]}])
    tenant.delete(["c00002", "c00003"])
    tenant.write([person(9_999)])


def test_a_table_that_we_make(tmp_path: Path, kinto: Kinto, database: str) -> None:
    workspace, tenant = new_workspace(tmp_path / "project", database=database), Tenant(kinto)
    tenant.write(person(n) for n in range(1_200))
    connection = workspace.connect(tenant.connection)
    assert workspace.sync(connection).delivered == 1_200
    change_everything(tenant)
    report = workspace.sync(connection)
    assert (report.delivered, report.removed, report.failed) == (2, 2, 0)
    assert fields_of(workspace.delivered(connection)) == {
        key: expected_person(record) for key, record in tenant.truth().items()
    }
    again = workspace.sync(connection)
    assert (again.requests, again.written) == (1, 0)


def test_the_product_s_own_table_keeps_its_types_and_its_columns(
    tmp_path: Path, kinto: Kinto, database: str
) -> None:
    workspace, tenant = new_workspace(tmp_path / "project", database=database), Tenant(kinto)
    for path, text in SIGNED_UP_AT.items():
        workspace.write(path, text)
    run(database, TABLE)
    tenant.write(person(n) for n in range(300))
    connection = workspace.connect(tenant.connection)
    assert workspace.sync(connection).delivered == 300
    row = workspace.delivered(connection)["c00001"]
    assert {type(row[name]) for name in ("id", "signed_up_on", "signed_up_at", "tags")} == {
        uuid.UUID,
        date,
        datetime,
        list,
    }
    run(database, "UPDATE contacts SET balance = 12.50 WHERE email LIKE 'person1@%'")

    change_everything(tenant)
    assert workspace.sync(connection).removed == 2
    delivered = workspace.delivered(connection)
    assert {key: mapped(row) for key, row in fields_of(delivered).items()} == {
        key: expected(record) for key, record in tenant.truth().items()
    }
    # An update touches only what the mapping gives.
    assert str(delivered["c00001"]["balance"]) == "12.50"
    assert delivered["c00001"]["created_at"] == row["created_at"]


def expected(record: Row) -> Row:
    return {
        **expected_person(record),
        "signed_up_at": datetime.fromisoformat(record["signed_up"]).astimezone(UTC),
    }


def mapped(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("balance", "created_at")}


def test_a_row_that_is_refused_holds_up_nobody(tmp_path: Path, kinto: Kinto, database: str) -> None:
    workspace, tenant = new_workspace(tmp_path / "project", database=database), Tenant(kinto)
    run(database, TABLE.replace("signed_up_at timestamptz,", ""))
    tenant.write(person(n) for n in range(40))
    tenant.update([{"id": "c00007", "email": "x" * 201}, {"id": "c00008", "first_name": "\0"}])
    connection = workspace.connect(tenant.connection)
    report = workspace.sync(connection)
    assert (report.delivered, report.failed) == (38, 2)
    letters = workspace.dead_letters(connection)
    assert [letter["external_id"] for letter in letters] == ["c00007", "c00008"]
    tenant.write([person(7), person(8)])
    assert workspace.sync(connection).delivered == 2
    assert workspace.dead_letters(connection) == []


def test_the_ledger_in_postgresql(
    workspace: Workspace, kinto: Kinto, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBRANE_LEDGER_URL", database)
    tenant = Tenant(kinto)
    tenant.write(person(n) for n in range(20))
    connection = workspace.connect(tenant.connection)
    assert workspace.sync(connection).delivered == 20
    assert not (workspace.data / "ledger.db").exists()

    again = Workspace(workspace.root).runtime.ledger
    assert [record.key for record in again.connections()] == [connection]
    stored = again.connection(connection)
    assert replace(stored, connected_at=None, version=0) == tenant.connection
    (last,) = again.runs.newest()
    assert (last.connection, last.sync, last.error) == (connection, "contacts", "")
    assert last.report is not None and last.report.delivered == 20
    assert last.finished_at is not None and last.finished_at >= last.started_at


def test_a_database_that_is_down_says_so_without_its_password(
    tmp_path: Path, kinto: Kinto, database: str
) -> None:
    tenant = Tenant(kinto)
    tenant.write([person(1)])
    away = f"postgresql+psycopg://product:a-secret@127.0.0.1:{free_port()}/product"
    workspace = new_workspace(tmp_path / "project", database=away)
    connection = workspace.connect(tenant.connection)
    with pytest.raises(MembraneError) as caught:
        workspace.sync(connection)
    assert "a-secret" not in str(caught.value) and "running" in caught.value.hint
    workspace.write("pyproject.toml", f'[tool.membrane_sync.databases]\napp = "{database}"')
    assert workspace.sync(connection).delivered == 1
