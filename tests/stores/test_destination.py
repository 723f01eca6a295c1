"""What `ports.Destination` promises, of SQLite, PostgreSQL and the one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.ports import Destination, Owner
from membrane_sync.stores.sql_destination import SqlDestination
from membrane_sync.testing import MemoryDestination
from tests.stores.databases import fresh_database
from tests.stores.records import contacts_schema, delivery

ACME = Owner("acme", "acme_kinto")
GLOBEX = Owner("globex", "globex_kinto")
SCHEMA = contacts_schema()


class Place:
    """A destination and a way to look at its rows."""

    def __init__(self, destination: Destination, url: str = "") -> None:
        self.destination = destination
        self.url = url

    def rows(self, schema: DataSchema = SCHEMA) -> list[dict[str, Any]]:
        if isinstance(self.destination, MemoryDestination):
            return self.destination.rows("contacts")
        engine = sa.create_engine(self.url)
        table = sa.Table("contacts", sa.MetaData(), autoload_with=engine)
        with engine.connect() as connection:
            query = sa.select(table).order_by(*table.primary_key.columns)
            rows = [dict(row) for row in connection.execute(query).mappings()]
        engine.dispose()
        return rows


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        yield Place(MemoryDestination())
        return
    with fresh_database(request.param, tmp_path, request) as url:
        destination = SqlDestination(url)
        yield Place(destination, url)
        destination.close()


def test_rows_are_created_updated_and_removed(place: Place) -> None:
    place.destination.prepare(SCHEMA)
    first = [delivery("a", {"email": "a@x", "score": 1}), delivery("b", {"email": "b@x"})]
    outcome = place.destination.write(SCHEMA, ACME, first)
    assert (list(outcome.written), list(outcome.removed), outcome.refused) == (["a", "b"], [], {})
    second = [delivery("a", {"email": "new@x"}), delivery("b", None), delivery("ghost", None)]
    outcome = place.destination.write(SCHEMA, ACME, second)
    assert (list(outcome.written), list(outcome.removed)) == (["a"], ["b", "ghost"])
    row = {"tenant": "acme", "id": "app-a", "email": "new@x", "score": None}
    assert place.rows() == [row]


def test_writing_twice_is_writing_once(place: Place) -> None:
    deliveries = [delivery("a", {"email": "a@x", "score": 1}), delivery("b", None)]
    place.destination.write(SCHEMA, ACME, deliveries)
    before = place.rows()
    place.destination.write(SCHEMA, ACME, deliveries)
    assert place.rows() == before and len(before) == 1


def test_nothing_to_write_is_fine(place: Place) -> None:
    place.destination.prepare(SCHEMA)
    assert list(place.destination.write(SCHEMA, ACME, []).written) == []
    assert place.rows() == []


def test_of_a_record_twice_the_last_wins(place: Place) -> None:
    twice = [delivery("a", {"email": "old"}), delivery("a", {"email": "new"})]
    assert list(place.destination.write(SCHEMA, ACME, twice).written) == ["a"]
    assert [row["email"] for row in place.rows()] == ["new"]
    gone = place.destination.write(SCHEMA, ACME, [twice[0], delivery("a", None)])
    assert (list(gone.written), list(gone.removed)) == ([], ["a"])
    assert place.rows() == []


def test_a_record_made_anew_takes_over_the_row(place: Place) -> None:
    place.destination.write(SCHEMA, ACME, [delivery("old", {"email": "a"}, app_id="1")])
    both = [delivery("old", None, app_id="1"), delivery("new", {"email": "b"}, app_id="1")]
    place.destination.write(SCHEMA, ACME, both)
    assert [row["email"] for row in place.rows()] == ["b"]


def test_tenants_are_apart(place: Place) -> None:
    place.destination.write(SCHEMA, ACME, [delivery("a", {"email": "acme"}, app_id="1")])
    place.destination.write(SCHEMA, GLOBEX, [delivery("a", {"email": "globex"}, app_id="1")])
    assert [(row["tenant"], row["email"]) for row in place.rows()] == [
        ("acme", "acme"),
        ("globex", "globex"),
    ]
    place.destination.write(SCHEMA, GLOBEX, [delivery("a", None, app_id="1")])
    assert [row["tenant"] for row in place.rows()] == ["acme"]


def test_soft_deletion_marks_and_coming_back_unmarks(place: Place) -> None:
    schema = contacts_schema(table={"deleted_column": "deleted_at"})
    place.destination.write(schema, ACME, [delivery("a", {"email": "a"}), delivery("b", {})])
    outcome = place.destination.write(schema, ACME, [delivery("a", None)], soft=True)
    assert list(outcome.removed) == ["a"]
    assert [row["deleted_at"] is not None for row in place.rows(schema)] == [True, False]
    place.destination.write(schema, ACME, [delivery("a", {"email": "a"})])
    assert [row["deleted_at"] for row in place.rows(schema)] == [None, None]
    place.destination.write(schema, ACME, [delivery("a", None)])
    assert len(place.rows(schema)) == 1


def test_owner_columns_are_filled(place: Place) -> None:
    schema = contacts_schema(table={"connection_column": "connection"})
    place.destination.write(schema, ACME, [delivery("a", {"email": "a"})])
    (row,) = place.rows(schema)
    assert (row["tenant"], row["connection"]) == ("acme", "acme_kinto")


def test_two_connections_of_a_tenant_are_apart(place: Place) -> None:
    schema = contacts_schema(table={"connection_column": "connection"})
    other = Owner("acme", "acme_pocketbase")
    place.destination.write(schema, ACME, [delivery("a", {"email": "a"}, app_id="1")])
    before = place.rows(schema)
    theirs = [
        delivery("a", {"email": "theirs"}, app_id="1"),
        delivery("b", {"email": "b"}, app_id="2"),
    ]
    outcome = place.destination.write(schema, other, theirs)
    reason = "the row with this key belongs to another connection"
    assert (list(outcome.written), outcome.refused) == (["b"], {"a": reason})
    gone = place.destination.write(schema, other, [delivery("a", None, app_id="1")])
    assert (list(gone.removed), gone.refused) == ([], {"a": reason})
    assert place.rows(schema)[0] == before[0] and len(place.rows(schema)) == 2
    matched = place.destination.match(schema, other, ["email"], [{"email": "a"}, {"email": "b"}])
    assert list(matched) == [None, "2"]


def test_whether_any_of_some_rows_is_there(place: Place) -> None:
    place.destination.prepare(SCHEMA)
    place.destination.write(SCHEMA, ACME, [delivery("a", {"email": "a"}, app_id="1")])
    assert place.destination.holds(SCHEMA, ACME, ["2", "1"])
    assert not place.destination.holds(SCHEMA, ACME, ["2"])
    assert not place.destination.holds(SCHEMA, ACME, [])
    assert not place.destination.holds(SCHEMA, GLOBEX, ["1"])


def test_match_finds_the_one_equal_row(place: Place) -> None:
    rows = [
        delivery("1", {"email": "a@x", "score": 1}),
        delivery("2", {"email": "b@x", "score": 1}),
        delivery("3", {"email": "twice@x", "score": 1}),
        delivery("4", {"email": "twice@x", "score": 2}),
        delivery("5", {"email": None, "score": 5}),
    ]
    place.destination.write(SCHEMA, ACME, rows)
    place.destination.write(SCHEMA, GLOBEX, [delivery("6", {"email": "theirs@x"})])

    def match(fields: list[str], *wanted: dict[str, Any]) -> list[str | None]:
        return list(place.destination.match(SCHEMA, ACME, fields, wanted))

    by_email = [{"email": name} for name in ("a@x", "none@x", "twice@x", None, "theirs@x")]
    assert match(["email"], *by_email) == ["app-1", None, None, None, None]
    assert match(["email"], {"score": 1}) == [None]
    both = ["email", "score"]
    assert match(both, {"email": "twice@x", "score": 2}) == ["app-4"]
    assert match(both, {"email": "b@x", "score": 9}) == [None]
    assert match(["email"]) == []


def test_all_kinds_of_values_arrive(place: Place) -> None:
    properties = {
        "order": {"type": "integer"},
        'a"b': {"type": "string"},
        "Email": {"type": "string"},
        "rate": {"type": "number"},
        "ok": {"type": "boolean"},
        "tags": {"type": "array"},
        "address": {"type": "object"},
        "text": {"type": "string"},
    }
    values = {
        "order": 2**62,
        'a"b': "q",
        "Email": "Zoë 😀 ' \"",
        "rate": 0.1,
        "ok": True,
        "tags": ["a", None],
        "address": {"city": {"x": [1]}},
        "text": "x" * 1_000_000,
    }
    schema = contacts_schema(properties)
    outcome = place.destination.write(schema, ACME, [delivery("a", values)])
    assert outcome.refused == {}
    (row,) = place.rows(schema)
    assert {name: row[name] for name in values} == values
    place.destination.write(schema, ACME, [delivery("a", {})])
    assert {place.rows(schema)[0][name] for name in values} == {None}
