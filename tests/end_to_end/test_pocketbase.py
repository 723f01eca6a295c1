"""PocketBase through the same universal sync: numbered pages, an inclusive cursor, silent deletes.

Times of `updated` are in milliseconds, and a batch writes several rows in each: ties everywhere.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.apps.pocketbase import PocketBase, record_id, records_path, start_pocketbase
from membrane_sync.errors import Fatal, NotAuthorized
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Call
from tests.end_to_end.helpers import (
    Row,
    Workspace,
    by_id,
    contents,
    fields_of,
    pocketbase_connection,
)

COLLECTION = "connectors/pocketbase/data_collections/contacts.yaml"


@pytest.fixture
def app(apps_dir: Path, tmp_path: Path, pocketbase: PocketBase) -> Iterator[PocketBase]:
    """A server with an empty `contacts`; the session's own has seen to the installation."""
    with start_pocketbase(apps_dir / "pocketbase", data=tmp_path / "pocketbase") as running:
        running.create_contacts_collection()
        yield running


@pytest.fixture
def connection(app: PocketBase, workspace: Workspace) -> str:
    return workspace.connect(pocketbase_connection(app))


def small_pages(workspace: Workspace, size: int) -> None:
    workspace.replace(COLLECTION, "page_size: 1000", f"page_size: {size}")


def contact(number: int, **other: Any) -> Row:
    record = {"id": record_id(number), "email": f"c{number}@example.org", "name": f"Åsa {number}"}
    return {**record, "phone": f"+46 {number}" if number % 3 else "", **other}


def expected(record: Row) -> Row:
    return {
        "email": record["email"],
        "full_name": record["name"],
        "phone": record["phone"] or None,
        "city": None,
        "tags": None,
        "signed_up_on": date.fromisoformat(record["created"][:10]),
        "stage": "lead",
    }


def assert_in_step(workspace: Workspace, app: PocketBase, connection: str) -> None:
    truth = by_id(app.list("contacts"))
    assert without_updated(workspace.records(connection)) == without_updated(truth)
    assert fields_of(workspace.delivered(connection)) == {
        key: expected(record) for key, record in truth.items()
    }


def without_updated(records: dict[str, Row]) -> dict[str, Row]:
    """A change of `updated` alone is none, and the lake keeps the record as it was."""
    return {key: {**record, "updated": None} for key, record in records.items()}


def test_every_kind_of_change_arrives(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    app.write("contacts", (contact(n) for n in range(2_300)))
    first = workspace.sync(connection)
    assert (first.created, first.mapped, first.linked, first.delivered) == (2_300,) * 4
    assert_in_step(workspace, app, connection)

    app.update("contacts", [{"id": record_id(5), "phone": "+1"}, {"id": record_id(6), "name": ""}])
    app.write("contacts", [contact(9_999)])
    second = workspace.sync(connection)
    assert (second.created, second.updated, second.deleted) == (1, 2, 0)
    assert (second.mapped, second.delivered) == (3, 3)
    assert_in_step(workspace, app, connection)


def test_no_change_costs_one_request_and_writes_nothing(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    app.write("contacts", (contact(n) for n in range(900)))
    workspace.sync(connection)
    before, asked = contents(workspace.data), app.requests(records_path("contacts"))

    report = workspace.sync(connection)

    assert app.requests(records_path("contacts")) - asked == report.requests == 1
    assert (report.unchanged, report.written) == (report.pulled, 0)
    assert contents(workspace.data) == before


@pytest.mark.parametrize("size", [1, 4, 10])
def test_ties_that_fill_whole_pages_lose_and_double_nothing(
    workspace: Workspace, app: PocketBase, connection: str, size: int
) -> None:
    app.write("contacts", (contact(n) for n in range(150)))
    ties = Counter(record["updated"] for record in app.list("contacts"))
    assert max(ties.values()) > 4, "a batch should have shared some of its milliseconds"
    small_pages(workspace, size)
    report = workspace.sync(connection)
    assert (report.created, report.updated, report.deleted) == (150, 0, 0)
    assert_in_step(workspace, app, connection)
    assert workspace.sync(connection).written == 0


def test_a_row_that_leaves_a_tie_does_not_take_its_neighbour_along(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    """Within one value of the cursor pages are turned by number, and numbers shift."""
    app.write("contacts", (contact(n) for n in range(60)))
    ties = Counter(record["updated"] for record in app.list("contacts"))
    tie, size = ties.most_common(1)[0]
    assert size >= 3
    small_pages(workspace, 1)
    members = sorted(r["id"] for r in app.list("contacts") if r["updated"] == tie)
    moved = False

    def move_the_first(call: Call) -> None:
        nonlocal moved
        if not moved and tie in str(call.query) and call.query["page"] == 2:
            moved = True
            app.update("contacts", [{"id": members[0], "name": "moved"}])

    workspace.sync(connection, answered=move_the_first)
    assert moved
    assert_in_step(workspace, app, connection)


def test_rows_written_while_we_read_are_not_lost(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    """Each update moves a row to the end of the list, under the hands of a reader of pages."""
    app.write("contacts", (contact(n) for n in range(400)))
    small_pages(workspace, 20)
    enough, reading = threading.Event(), threading.Event()

    def write_on() -> None:
        # Oldest first: just the rows before the reader's page, whose leaving shifts the rest.
        reading.wait(10)
        for n in count():
            if enough.is_set():
                return
            app.update("contacts", [{"id": record_id(n % 400), "name": f"moved {n}"}])
            app.write("contacts", [contact(1_000 + n)])

    writer = threading.Thread(target=write_on)
    writer.start()

    def slow(verb: str, report: Any) -> None:
        if verb == "pull":
            reading.set()
            time.sleep(0.01)
            if report.pages >= 60:
                enough.set()

    try:
        first = workspace.sync(connection, progress=slow)
    finally:
        enough.set()
        reading.set()
        writer.join()
    assert first.pages > 20
    found, truth = workspace.records(connection), by_id(app.list("contacts"))
    assert len(truth) > 420 and found != truth
    assert {record_id(n) for n in range(400)} <= set(found), "a row was passed over"
    workspace.sync(connection)
    assert_in_step(workspace, app, connection)


def test_a_row_that_appears_behind_the_cursor_is_picked_up(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    """PocketBase dates a row before it waits for its turn to be written; so it may come late."""
    app.write("contacts", (contact(n) for n in range(20)))
    workspace.sync(connection)
    newest = max(record["updated"] for record in app.list("contacts"))
    late = datetime.fromisoformat(newest) - timedelta(seconds=1)
    written = f"{late:%Y-%m-%d %H:%M:%S}.{late.microsecond // 1000:03}Z"
    with sqlite3.connect(app.process.directory / "records" / "data.db") as database:
        change = "UPDATE contacts SET name = 'late', updated = ? WHERE id = ?"
        database.execute(change, [written, record_id(7)])
    report = workspace.sync(connection)
    assert (report.updated, report.created) == (1, 0)
    assert_in_step(workspace, app, connection)


def test_a_delete_is_found_by_a_full_sync(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    app.write("contacts", (contact(n) for n in range(1_100)))
    workspace.sync(connection)
    app.delete("contacts", [record_id(3), record_id(1_099)])
    assert workspace.sync(connection).deleted == 0
    report = workspace.sync(connection, mode="full")
    assert (report.deleted, report.removed, report.created, report.updated) == (2, 2, 0, 0)
    assert_in_step(workspace, app, connection)


def test_a_full_sync_that_would_delete_most_of_it_stops(
    workspace: Workspace, app: PocketBase, connection: str
) -> None:
    app.write("contacts", (contact(n) for n in range(20)))
    workspace.sync(connection)
    app.delete("contacts", [record_id(n) for n in range(15)])
    with pytest.raises(Fatal, match=r"15 of 20 .*nothing was deleted"):
        workspace.sync(connection, mode="full")
    assert len(workspace.rows()) == 20


def test_a_token_that_is_none_says_to_connect_again(workspace: Workspace, app: PocketBase) -> None:
    right = pocketbase_connection(app)
    wrong = ConnectionRecord(right.key, right.integration, "acme", "", right.input, {"token": "no"})
    connection = workspace.connect(wrong)
    with pytest.raises(NotAuthorized, match="membrane connect"):
        workspace.sync(connection)
