"""What only a real database brings: tables of other shapes, constraints, types, and failures."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.errors import AppUnavailable, DestinationError
from membrane_sync.ports import Owner
from membrane_sync.stores.sql_destination import SqlDestination, _Writer
from tests.stores.databases import read, run
from tests.stores.records import contacts_schema, delivery

ACME = Owner("acme", "acme_kinto")
GLOBEX = Owner("globex", "globex_kinto")


@pytest.fixture
def destination(url: str) -> Iterator[SqlDestination]:
    opened = SqlDestination(url)
    yield opened
    opened.close()


def existing(**table: Any) -> DataSchema:
    return contacts_schema(table={"create": False, **table})


# --- tables --------------------------------------------------------------------------------------


def test_a_missing_table_comes_with_the_statement_to_make_it(
    url: str, destination: SqlDestination
) -> None:
    with pytest.raises(DestinationError, match="has no table 'contacts'") as caught:
        destination.prepare(existing())
    statement = caught.value.hint.partition("\n")[2]
    run(url, statement)
    destination.prepare(existing())
    assert list(destination.write(existing(), ACME, [delivery("a", {})]).written) == ["a"]


def test_missing_columns_are_named(url: str, destination: SqlDestination) -> None:
    run(url, "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, email TEXT)")
    with pytest.raises(DestinationError, match="'contacts' has no column score, tenant, gone_at"):
        destination.prepare(existing(deleted_column="gone_at"))


def test_a_missing_unique_constraint_is_named(url: str, destination: SqlDestination) -> None:
    run(url, "CREATE TABLE contacts (id VARCHAR(99), tenant TEXT, email TEXT, score INTEGER)")
    with pytest.raises(DestinationError, match=r"no primary key or unique constraint on 'id'") as e:
        destination.prepare(existing())
    assert e.value.hint == "add one on (tenant, id)"
    run(url, "CREATE UNIQUE INDEX some_of_them ON contacts (tenant, id) WHERE score > 0")
    with pytest.raises(DestinationError, match="no primary key"):
        destination.prepare(existing())
    run(url, "CREATE UNIQUE INDEX all_of_them ON contacts (id, tenant)")
    destination.prepare(existing())
    assert list(destination.write(existing(), ACME, [delivery("a", {})]).written) == ["a"]


def test_a_schema_without_a_table_is_refused(destination: SqlDestination) -> None:
    schema = DataSchema.model_validate({"key": "contacts", "schema": {"type": "object"}})
    with pytest.raises(DestinationError, match="names no table"):
        destination.prepare(schema)


def test_matching_by_a_field_that_is_no_column_is_refused(destination: SqlDestination) -> None:
    with pytest.raises(DestinationError, match="no column 'phone', which the sync matches by"):
        destination.match(contacts_schema(), ACME, ["phone"], [{"phone": "1"}])


def test_two_may_create_the_table_at_once(url: str) -> None:
    failures: list[Exception] = []
    barrier = threading.Barrier(4)

    def prepare() -> None:
        opened = SqlDestination(url)
        barrier.wait()
        try:
            opened.prepare(contacts_schema())
        except Exception as error:
            failures.append(error)
        opened.close()

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- rows that can't be taken --------------------------------------------------------------------


def test_a_poison_row_does_not_hold_up_the_rest(url: str, destination: SqlDestination) -> None:
    run(
        url,
        "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, score INTEGER,"
        " email TEXT NOT NULL UNIQUE)",
    )
    good = [delivery(f"g{i}", {"email": f"{i}@x", "score": i}) for i in range(20)]
    poison = [delivery("null", {"score": 1}), delivery("twice", {"email": "3@x"})]
    outcome = destination.write(existing(), ACME, [*good[:10], *poison, *good[10:]])
    assert len(outcome.written) == 20
    assert set(outcome.refused) == {"null", "twice"}
    assert "null" in outcome.refused["null"].lower()
    assert "unique" in outcome.refused["twice"].lower()
    assert read(url, "SELECT count(*) AS n FROM contacts") == [{"n": 20}]


def test_values_that_the_database_cannot_hold_are_refused(destination: SqlDestination) -> None:
    fields = {
        "score": {"type": "integer"},
        "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
    }
    schema = contacts_schema(fields)
    rows = {
        "big": {"score": 2**80},
        "text": {"score": "abc"},
        "when": {"at": "yesterday"},
        "day": {"day": "2026-02-31"},
        "fine": {"score": 1, "at": "2026-01-02T03:04:05Z", "day": "2026-01-02"},
    }
    outcome = destination.write(schema, ACME, [delivery(i, value) for i, value in rows.items()])
    assert list(outcome.written) == ["fine"]
    assert set(outcome.refused) == {"big", "text", "when", "day"}
    assert all(outcome.refused.values())


def test_a_null_character_harms_only_its_own_row(url: str, destination: SqlDestination) -> None:
    rows = [delivery("nul", {"email": "a\x00b"}), delivery("fine", {"email": "x"})]
    outcome = destination.write(contacts_schema(), ACME, rows)
    assert "fine" in outcome.written
    assert set(outcome.refused) == ({"nul"} if "postgresql" in url else set())


def test_a_text_too_long_for_an_index_harms_only_its_own_row(
    url: str, destination: SqlDestination
) -> None:
    run(
        url,
        "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, email TEXT UNIQUE,"
        " score INTEGER)",
    )
    # Random, for PostgreSQL would compress anything else.
    huge = random.Random(1).randbytes(100_000).hex()
    rows = [delivery("huge", {"email": huge}), delivery("fine", {"email": "x"})]
    outcome = destination.write(existing(), ACME, rows)
    assert "fine" in outcome.written
    assert set(outcome.refused) == ({"huge"} if "postgresql" in url else set())


def test_an_id_that_is_no_key_is_refused_with_advice(url: str, destination: SqlDestination) -> None:
    run(
        url,
        "CREATE TABLE contacts (id INTEGER PRIMARY KEY, tenant TEXT, email TEXT, score INTEGER)",
    )
    rows = [delivery("a", {"email": "x"}, app_id="5f0c"), delivery("b", {}, app_id="7")]
    outcome = destination.write(existing(), ACME, rows)
    assert list(outcome.written) == ["b"]
    assert "'5f0c' is no key for column id of type INTEGER" in outcome.refused["a"]
    assert "let the mapping give id" in outcome.refused["a"]


def test_a_unique_value_may_move_on_within_a_batch(url: str, destination: SqlDestination) -> None:
    run(
        url,
        "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, email TEXT UNIQUE,"
        " score INTEGER)",
    )
    first = [delivery("a", {"email": "1@x"}), delivery("b", {"email": "2@x"})]
    destination.write(existing(), ACME, first)
    moved = [delivery("a", {"email": "2@x"}), delivery("b", {"email": "3@x"})]
    outcome = destination.write(existing(), ACME, moved)
    assert (sorted(outcome.written), outcome.refused) == (["a", "b"], {})
    rows = read(url, "SELECT email FROM contacts ORDER BY id")
    assert [row["email"] for row in rows] == ["2@x", "3@x"]


# --- tenants in a table keyed by id alone --------------------------------------------------------


@pytest.mark.parametrize("theirs", ["'globex'", "NULL"])
def test_another_tenants_row_is_never_touched(
    url: str, destination: SqlDestination, theirs: str
) -> None:
    run(
        url,
        "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, email TEXT,"
        " score INTEGER)",
        f"INSERT INTO contacts VALUES ('1', {theirs}, 'theirs', 1), ('2', {theirs}, 'theirs', 2)",
    )
    before = read(url, "SELECT * FROM contacts ORDER BY id")
    deliveries = [
        delivery("write", {"email": "mine"}, app_id="1"),
        delivery("same", {"email": "mine"}, app_id="1"),
        delivery("delete", None, app_id="2"),
        delivery("fine", {"email": "mine"}, app_id="3"),
    ]
    outcome = destination.write(existing(), ACME, deliveries)
    assert list(outcome.written) == ["fine"] and list(outcome.removed) == []
    reason = "the row with this key belongs to another tenant"
    assert outcome.refused == dict.fromkeys(["write", "same", "delete"], reason)
    after = read(url, "SELECT * FROM contacts ORDER BY id")
    assert after[:2] == before and len(after) == 3


def test_a_row_without_a_connection_becomes_that_of_who_writes_it(
    url: str, destination: SqlDestination
) -> None:
    run(
        url,
        "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, connection TEXT,"
        " email TEXT, score INTEGER)",
        "INSERT INTO contacts VALUES ('1', 'acme', NULL, 'one', 1), ('2', 'acme', '', 'two', 2),"
        " ('3', 'acme', 'acme_pocketbase', 'three', 3)",
    )
    schema = existing(connection_column="connection")
    wanted = [{"email": name} for name in ("one", "two", "three")]
    assert destination.match(schema, ACME, ["email"], wanted) == ["1", "2", None]
    rows = [delivery(i, {"email": "mine"}, app_id=i) for i in "123"]
    outcome = destination.write(schema, ACME, rows)
    assert outcome.refused == {"3": "the row with this key belongs to another connection"}
    found = read(url, "SELECT connection, email FROM contacts ORDER BY id")
    assert [row["connection"] for row in found] == ["acme_kinto", "acme_kinto", "acme_pocketbase"]
    assert [row["email"] for row in found] == ["mine", "mine", "three"]


# --- types ---------------------------------------------------------------------------------------


def test_times_arrive_as_the_same_moment(url: str, destination: SqlDestination) -> None:
    zoned = "TIMESTAMP WITH TIME ZONE" if "postgresql" in url else "DATETIME"
    run(
        url,
        f"CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, at {zoned},"
        " plain TIMESTAMP, day DATE)",
    )
    moment = {"type": "string", "format": "date-time"}
    schema = contacts_schema(
        {"at": moment, "plain": moment, "day": {"type": "string", "format": "date"}},
        table={"create": False},
    )
    text = "2026-01-02T00:30:00+02:00"
    values = {"at": text, "plain": text, "day": "2026-01-02"}
    assert destination.write(schema, ACME, [delivery("a", values)]).refused == {}
    row = _typed_row(url)
    utc = datetime(2026, 1, 1, 22, 30)
    assert row["plain"] == utc
    assert row["at"] == (utc.replace(tzinfo=UTC) if "postgresql" in url else utc)
    assert row["day"] == date(2026, 1, 2)
    assert destination.match(schema, ACME, ["at", "day"], [values]) == ["app-a"]
    assert destination.match(schema, ACME, ["plain"], [{"plain": "tomorrow"}]) == [None]


def _typed_row(url: str) -> dict[str, Any]:
    engine = sa.create_engine(url)
    table = sa.Table("contacts", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        (row,) = connection.execute(sa.select(table)).mappings()
    engine.dispose()
    return dict(row)


def test_a_text_column_takes_what_is_no_text(url: str, destination: SqlDestination) -> None:
    run(
        url,
        "CREATE TABLE contacts (id VARCHAR(99) PRIMARY KEY, tenant TEXT, a TEXT, b TEXT, c TEXT)",
    )
    schema = contacts_schema({"a": {}, "b": {}, "c": {}}, table={"create": False})
    values = {"a": 5, "b": True, "c": {"x": ["ü"]}}
    assert destination.write(schema, ACME, [delivery("a", values)]).refused == {}
    row = _typed_row(url)
    assert (row["a"], row["b"], row["c"]) == ("5", "true", '{"x": ["ü"]}')


def test_an_absent_nested_value_is_null_and_not_the_text_null(
    url: str, destination: SqlDestination
) -> None:
    schema = contacts_schema({"tags": {"type": "array"}})
    destination.write(schema, ACME, [delivery("a", {})])
    assert read(url, "SELECT count(*) AS n FROM contacts WHERE tags IS NULL") == [{"n": 1}]


# --- failures ------------------------------------------------------------------------------------


def test_a_failure_midway_leaves_the_batch_out(
    url: str, destination: SqlDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination.prepare(contacts_schema())
    rows = [delivery("a", {"email": "x"}), delivery("bad", {"score": "abc"})]
    calls = 0
    execute = sa.Connection.execute

    def dies(self: sa.Connection, statement: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += isinstance(statement, sa.Insert)
        if calls == 2:
            raise KeyboardInterrupt
        return execute(self, statement, *arguments)

    monkeypatch.setattr(sa.Connection, "execute", dies)
    with pytest.raises(KeyboardInterrupt):
        destination.write(contacts_schema(), ACME, [*rows, delivery("b", {})])
    monkeypatch.undo()
    assert read(url, "SELECT * FROM contacts") == []


def test_a_locked_database_is_worth_another_try(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    destination = SqlDestination(url + "?timeout=0.1")
    destination.prepare(contacts_schema())
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(AppUnavailable, match="did not answer: database is locked"):
            destination.write(contacts_schema(), ACME, [delivery("a", {})])
    engine.dispose()
    assert list(destination.write(contacts_schema(), ACME, [delivery("a", {})]).written) == ["a"]
    destination.close()


def test_a_database_that_is_not_there_is_said_so_without_its_password() -> None:
    destination = SqlDestination("postgresql+psycopg://u:planted-secret@127.0.0.1:9/db")
    with pytest.raises(DestinationError, match="is the database running") as caught:
        destination.prepare(contacts_schema())
    assert "planted-secret" not in str(caught.value) + repr(caught.value)


def test_a_place_is_the_same_whoever_asks(tmp_path: Path) -> None:
    def place(url: str) -> str:
        return SqlDestination(f"postgresql+psycopg://{url}").place

    here = place("u:planted-secret@h:5432/db?options=-csearch_path%3Da")
    assert place("v:other@h:5432/db?options=-csearch_path%3Da&passfile=x") == here
    others = ["u@i:5432/db?options=-csearch_path%3Da", "u@h:5432/db2", "u@h:5433/db", "u@h:5432/db"]
    assert len({here, *map(place, others)}) == 5
    paths = ("a/app.db", "moved/app.db", "a/other.db")
    files = [SqlDestination(f"sqlite:///{tmp_path / path}").place for path in paths]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:planted-secret@h/db", "type 'mysql' can't be written yet"),
        ("planted-secret", "can't be read"),
    ],
)
def test_a_url_we_cannot_use_is_refused(url: str, message: str) -> None:
    with pytest.raises(DestinationError, match=message) as caught:
        SqlDestination(url)
    assert "planted-secret" not in str(caught.value) + repr(caught.value)


def test_a_batch_of_good_rows_is_written_at_once(
    destination: SqlDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halving is for rows that are refused; whose rows may be touched must not cause it."""
    schema = contacts_schema(table={"connection_column": "connection"})
    rows = [delivery(str(number), {"email": f"{number}@x"}) for number in range(50)]
    sizes: list[int] = []
    upsert = _Writer._upsert

    def counted(writer: _Writer, transaction: sa.Connection, batch: list[Any]) -> None:
        sizes.append(len(batch))
        upsert(writer, transaction, batch)

    monkeypatch.setattr(_Writer, "_upsert", counted)
    assert len(destination.write(schema, ACME, rows).written) == 50
    assert sizes == [50]
