"""Kinto into DuckDB and the product's table: what is there is what the app says, at every step."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.apps.process import free_port
from membrane_sync.clients.retrying import ATTEMPTS, LONGEST_WAIT_SECONDS
from membrane_sync.errors import AppUnavailable, DestinationError, NotAuthorized
from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.helpers import (
    Row,
    Tenant,
    Workspace,
    contents,
    expected_person,
    fields_of,
    person,
)

COLLECTION = "connectors/kinto/data_collections/contacts.yaml"


@pytest.fixture
def tenant(kinto: Kinto) -> Tenant:
    return Tenant(kinto)


def assert_in_step(workspace: Workspace, tenant: Tenant, connection: str) -> dict[str, Row]:
    """Lake, links and product agree with the app; gives the truth."""
    truth = tenant.truth()
    assert workspace.records(connection) == truth
    expected = {key: expected_person(record) for key, record in truth.items()}
    assert fields_of(workspace.delivered(connection)) == expected
    return truth


def test_every_kind_of_change_arrives(workspace: Workspace, tenant: Tenant) -> None:
    tenant.write(person(n) for n in range(2_500))
    connection = workspace.connect(tenant.connection)

    first = workspace.sync(connection)
    assert (first.created, first.mapped, first.linked, first.delivered) == (2_500,) * 4
    assert first.requests == first.pages == tenant.requests() == 3
    keys = workspace.links(connection)
    assert_in_step(workspace, tenant, connection)

    tenant.update([{"id": "c00001", "email": "ada@example.org"}, {"id": "c00002", "score": 95}])
    tenant.write([person(9_999)])
    tenant.delete(["c00003", "c00004"])
    second = workspace.sync(connection)
    assert (second.created, second.updated, second.deleted, second.unchanged) == (1, 2, 2, 0)
    assert (second.delivered, second.removed, second.requests) == (3, 2, 1)
    assert set(assert_in_step(workspace, tenant, connection)) >= {"c00001", "c09999"}

    tenant.write([person(3, email="back@example.org")])
    third = workspace.sync(connection)
    assert (third.created, third.delivered, third.failed) == (1, 1, 0)
    assert_in_step(workspace, tenant, connection)
    # What came back is the same record of the product again, not a second one.
    assert workspace.links(connection)["c00003"] == keys["c00003"]


def test_no_change_costs_one_request_and_writes_nothing(
    workspace: Workspace, tenant: Tenant
) -> None:
    tenant.write(person(n) for n in range(1_200))
    connection = workspace.connect(tenant.connection)
    workspace.sync(connection)
    before, asked = contents(workspace.data), tenant.requests()
    assert set(before) == {"app.db", f"{connection}.duckdb"}

    report = workspace.sync(connection)

    assert tenant.requests() - asked == report.requests == 1
    assert (report.pulled, report.written) == (0, 0)
    assert report.cursor_from == report.cursor_to != ""
    assert contents(workspace.data) == before


def test_what_changes_nothing_we_look_at_is_no_change(workspace: Workspace, tenant: Tenant) -> None:
    tenant.write(person(n) for n in range(50))
    connection = workspace.connect(tenant.connection)
    workspace.sync(connection)
    tenant.write(person(n) for n in range(50))
    report = workspace.sync(connection)
    assert (report.pulled, report.unchanged, report.written) == (50, 50, 0)
    assert report.cursor_to > report.cursor_from


@pytest.mark.parametrize("page_size", [1, 7])
def test_small_pages_lose_and_double_nothing(
    workspace: Workspace, tenant: Tenant, page_size: int
) -> None:
    """Written in one batch, records follow one another by a millisecond: every page is a tie."""
    workspace.replace(COLLECTION, "page_size: 1000", f"page_size: {page_size}")
    tenant.write(person(n) for n in range(40))
    connection = workspace.connect(tenant.connection)
    report = workspace.sync(connection)
    assert (report.pulled, report.created) == (40, 40)
    assert report.pages == tenant.requests() >= 40 // page_size
    assert_in_step(workspace, tenant, connection)


def test_what_changes_between_two_pages_arrives_in_the_same_run(
    workspace: Workspace, tenant: Tenant
) -> None:
    workspace.replace(COLLECTION, "page_size: 1000", "page_size: 20")
    tenant.write(person(n) for n in range(100))
    connection = workspace.connect(tenant.connection)
    late = iter([lambda: tenant.update([{"id": "c00005", "score": 99}])])

    def write_late(verb: str, _report: Any) -> None:
        if verb == "pull":
            next(late, lambda: None)()

    tenant.delete(["c00099"])
    workspace.sync(connection, progress=write_late)
    assert_in_step(workspace, tenant, connection)
    assert workspace.delivered(connection)["c00005"]["stage"] == "vip"


def test_a_full_sync_repairs_and_rewrites_nothing_else(
    workspace: Workspace, tenant: Tenant
) -> None:
    tenant.write(person(n) for n in range(300))
    connection = workspace.connect(tenant.connection)
    workspace.sync(connection)
    before = contents(workspace.data)
    report = workspace.sync(connection, mode="full")
    assert (report.pulled, report.unchanged, report.written) == (300, 300, 0)
    assert contents(workspace.data)["app.db"] == before["app.db"]
    assert_in_step(workspace, tenant, connection)


def test_companies_have_a_table_and_a_stream_of_their_own(
    workspace: Workspace, tenant: Tenant
) -> None:
    sizes = {"a": (12, "small"), "b": (100, "medium"), "c": (5_000, "large"), "d": (None, None)}
    tenant.write(
        [{"id": key, "name": f"Company {key}", "employees": n} for key, (n, _) in sizes.items()],
        "companies",
    )
    tenant.write([person(1)])
    connection = workspace.connect(tenant.connection)
    workspace.sync(connection)
    workspace.sync(connection, "companies")
    assert len(workspace.rows("contacts")) == 1
    found = {row["name"]: row["size"] for row in workspace.rows("companies")}
    assert found == {f"Company {key}": size for key, (_, size) in sizes.items()}


def test_a_table_that_was_dropped_is_filled_again(workspace: Workspace, tenant: Tenant) -> None:
    tenant.write(person(n) for n in range(30))
    connection = workspace.connect(tenant.connection)
    workspace.sync(connection)
    keys = workspace.links(connection)
    with sqlite3.connect(workspace.data / "app.db") as database:
        database.execute("DROP TABLE contacts")
    assert workspace.sync(connection).delivered == 30
    assert_in_step(workspace, tenant, connection)

    (workspace.data / "app.db").unlink()
    assert workspace.sync(connection).delivered == 30
    assert workspace.links(connection) == keys
    assert_in_step(workspace, tenant, connection)


def test_a_column_that_is_gone_is_said_at_once(workspace: Workspace, tenant: Tenant) -> None:
    tenant.write([person(1)])
    connection = workspace.connect(tenant.connection)
    workspace.sync(connection)
    with sqlite3.connect(workspace.data / "app.db") as database:
        database.execute("ALTER TABLE contacts DROP COLUMN phone")
    with pytest.raises(DestinationError, match="has no column phone"):
        workspace.sync(connection)


def test_another_collection_gives_its_records_even_if_they_were_read_before(
    workspace: Workspace, tenant: Tenant
) -> None:
    connection = workspace.connect(tenant.connection)
    tenant.write([person(50)], "companies")
    workspace.sync(connection, "companies")
    tenant.write([person(1), person(2)])
    workspace.sync(connection)
    workspace.replace(
        "mappings/universal/packages/contacts.yaml",
        "contacts: {collection_key: contacts}",
        "contacts: {collection_key: companies}",
    )
    assert workspace.sync(connection).delivered == 1
    emails = {row["email"] for row in workspace.rows()}
    # The rows of the former collection stay.
    assert emails == {f"person{n}@example.org" for n in (1, 2, 50)}


class TestRejected:
    """The product's table refuses a record: the rest goes on, and mending it is enough."""

    TABLE = """
        CREATE TABLE contacts (
            id TEXT PRIMARY KEY, tenant TEXT NOT NULL, connection TEXT NOT NULL,
            email TEXT NOT NULL CHECK (email LIKE '%@%'), full_name TEXT, phone TEXT, city TEXT,
            tags JSON, signed_up_on DATE, stage TEXT NOT NULL, seen INTEGER NOT NULL DEFAULT 7)"""

    def test_goes_to_the_dead_letters_until_it_is_mended(
        self, workspace: Workspace, tenant: Tenant
    ) -> None:
        self.create_table(workspace)
        tenant.write(person(n) for n in range(60))
        tenant.update([{"id": "c00007", "email": "no address"}, {"id": "c00042", "email": "none"}])
        connection = workspace.connect(tenant.connection)

        report = workspace.sync(connection)
        assert (report.delivered, report.failed) == (58, 2)
        letters = workspace.dead_letters(connection)
        assert [(letter["verb"], letter["external_id"]) for letter in letters] == [
            ("push", "c00007"),
            ("push", "c00042"),
        ]
        assert "CHECK" in letters[0]["reason"]
        assert not {"c00007", "c00042"} & set(workspace.delivered(connection))
        assert {row["seen"] for row in workspace.rows()} == {7}

        tenant.update([{"id": "c00007", "email": "seven@example.org"}])
        tenant.delete(["c00042"])
        mended = workspace.sync(connection)
        assert (mended.delivered, mended.failed) == (1, 0)
        assert workspace.dead_letters(connection) == []
        assert workspace.delivered(connection)["c00007"]["email"] == "seven@example.org"
        assert workspace.records(connection) == tenant.truth()

    def test_a_field_that_cannot_be_mapped_names_itself(
        self, workspace: Workspace, tenant: Tenant
    ) -> None:
        tenant.write([person(1), person(2, signed_up="yesterday"), person(3, email=None)])
        connection = workspace.connect(tenant.connection)
        report = workspace.sync(connection)
        assert (report.created, report.mapped, report.delivered) == (3, 1, 1)
        found = {
            (letter["external_id"], letter["field"])
            for letter in workspace.dead_letters(connection)
            if letter["verb"] == "map"
        }
        assert found == {("c00002", "signed_up_on"), ("c00003", "email")}
        tenant.write([person(2), person(3)])
        workspace.sync(connection)
        assert workspace.dead_letters(connection) == []
        assert_in_step(workspace, tenant, connection)

    def test_a_value_of_the_wrong_type_stays_a_dead_letter_when_it_is_read_again(
        self, workspace: Workspace, tenant: Tenant
    ) -> None:
        tenant.write([person(1), person(2, score="a lot")])
        connection = workspace.connect(tenant.connection)
        for mode in ("incremental", "full"):
            workspace.sync(connection, mode=mode)
            letters = workspace.dead_letters(connection)
            assert [(letter["verb"], letter["field"]) for letter in letters] == [("pull", "score")]

    def create_table(self, workspace: Workspace) -> None:
        workspace.data.mkdir()
        with sqlite3.connect(workspace.data / "app.db") as database:
            database.execute(self.TABLE)


class TestTrouble:
    """What the user reads when it doesn't work, and that nothing secret is in it."""

    @pytest.fixture
    def naps(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """How long the client would have waited between attempts."""
        waited: list[float] = []
        monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
        return waited

    def test_a_wrong_password_says_to_connect_again(
        self, workspace: Workspace, tenant: Tenant, naps: list[float]
    ) -> None:
        right = tenant.connection
        wrong = {"username": tenant.name, "password": "a-wrong-secret"}
        connection = workspace.connect(
            ConnectionRecord(right.key, right.integration, right.tenant, "", right.input, wrong)
        )
        with pytest.raises(NotAuthorized) as caught:
            workspace.sync(connection)
        text = str(caught.value)
        assert "membrane connect" in text and connection in text and "401" in text
        assert "a-wrong-secret" not in text + repr(caught.value.__dict__)
        assert naps == []
        (run,) = workspace.runtime.ledger.runs.newest()
        assert "401" in run.error and "a-wrong-secret" not in run.error

        workspace.connect(right)
        tenant.write([person(1)])
        assert workspace.sync(connection).delivered == 1

    def test_an_app_that_is_down_is_tried_a_bounded_number_of_times(
        self, workspace: Workspace, naps: list[float]
    ) -> None:
        connection = workspace.connect(
            ConnectionRecord(
                "acme_kinto",
                "kinto",
                "acme",
                input={"url": f"http://127.0.0.1:{free_port()}/v1", "bucket": "acme"},
                credentials={"username": "acme", "password": "acme-secret"},
            )
        )
        with pytest.raises(AppUnavailable) as caught:
            workspace.sync(connection)
        assert "can't be reached" in str(caught.value) and "running" in caught.value.hint
        assert "acme-secret" not in str(caught.value)
        assert len(naps) == ATTEMPTS - 1
        assert naps == sorted(naps) and naps[-1] <= LONGEST_WAIT_SECONDS

    def test_the_secret_is_nowhere_in_the_stored_data(
        self, workspace: Workspace, tenant: Tenant
    ) -> None:
        tenant.write([person(1)])
        workspace.sync(workspace.connect(tenant.connection))
        secret = tenant.account.password.encode()
        assert secret not in b"".join(
            path.read_bytes() for path in workspace.data.rglob("*") if path.is_file()
        )
