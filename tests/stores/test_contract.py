"""What becomes of fields that the declaration doesn't have, under each contract."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_source import DataSource
from membrane_sync.records import RawRecord, StoreCounts
from membrane_sync.stores.lake import contract
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.stream_rules import StreamRules, rules_of
from tests.stores.records import batch, raw

OPEN = StreamRules(is_open=True, id_field="id")
FREEZE = StreamRules("freeze", id_field="id")
DISCARD = StreamRules("discard", id_field="id")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "acme.duckdb"


def lake_of(path: Path, rules: StreamRules, **fields: Any) -> DuckDbLake:
    schemas = {"contacts": {"properties": fields}}
    return DuckDbLake(path, schemas=schemas, rules={"contacts": rules})


def rows(lake: DuckDbLake, columns: str) -> list[tuple[Any, ...]]:
    found = lake.select(f"SELECT {columns} FROM records.contacts ORDER BY _external_id")
    return [tuple(row.values()) for row in found.to_pylist()]


def types(lake: DuckDbLake) -> dict[str, str]:
    sql = "SELECT column_name, column_type FROM (DESCRIBE records.contacts)"
    found = lake.select(sql).to_pylist()
    named = {row["column_name"]: row["column_type"] for row in found}
    return {name: kind for name, kind in named.items() if not name.startswith("_")}


def letters(lake: DuckDbLake) -> list[tuple[str, str, str]]:
    found = lake.select("SELECT external_id, field, value FROM dead_letters ORDER BY ALL")
    return [tuple(row.values()) for row in found.to_pylist()]


def changes(lake: DuckDbLake) -> list[tuple[str, str | None, str | None]]:
    sql = "SELECT column_name, from_type, to_type FROM schema_changes ORDER BY ALL"
    return [tuple(row.values()) for row in lake.select(sql).to_pylist()]


# --- evolve --------------------------------------------------------------------------------------


def test_undeclared_fields_become_columns_of_the_type_they_have(path: Path) -> None:
    lake = lake_of(path, OPEN)
    lake.store(batch(raw("a", n=1, x=1.5, ok=True, day="2026-01-02", o={"k": 1}, none=None)))
    expected = {"n": "BIGINT", "x": "DOUBLE", "ok": "BOOLEAN", "day": "VARCHAR", "o": "JSON"}
    assert types(lake) == {"id": "VARCHAR", **expected}
    assert rows(lake, "n, x, ok, day, o") == [(1, 1.5, True, "2026-01-02", '{"k":1}')]


def test_a_declared_column_stays_as_declared(path: Path) -> None:
    lake = lake_of(path, OPEN, at={"type": "string", "format": "date-time"})
    lake.store(batch(raw("a", at="2026-01-02T03:04:05Z", more=1)))
    assert next(iter(types(lake).items())) == ("at", "TIMESTAMP")
    assert types(lake)["more"] == "BIGINT"


def test_a_closed_declaration_takes_up_nothing(path: Path) -> None:
    lake = lake_of(path, StreamRules(), name={"type": "string"})
    lake.store(batch(raw("a", name="A", more=1)))
    assert types(lake) == {"name": "VARCHAR"}
    assert json.loads(lake.changes("contacts", 0, 1)[0].payload or "")["more"] == 1


def test_a_later_field_is_added_and_noted(path: Path) -> None:
    lake = lake_of(path, OPEN)
    lake.store(batch(raw("a", n=1)))
    lake.store(batch(raw("b", n=2, late="x"), run_id="r2"))
    assert rows(lake, "n, late") == [(1, None), (2, "x")]
    found = [("id", None, "VARCHAR"), ("late", None, "VARCHAR"), ("n", None, "BIGINT")]
    assert changes(lake) == found


@pytest.mark.parametrize(
    ("first", "then", "kind", "column"),
    [
        (1, 2.5, "DOUBLE", [1.0, 2.5]),
        (1, 2**64, "VARCHAR", ["1", str(2**64)]),
        (1, "x", "VARCHAR", ["1", "x"]),
        (1.5, "x", "VARCHAR", ["1.5", "x"]),
        (True, "perhaps", "VARCHAR", ["true", "perhaps"]),
        (1, [1], "JSON", ["1", "[1]"]),
        (True, {"a": 1}, "JSON", ["true", '{"a":1}']),
        (True, 5, "VARCHAR", ["true", "5"]),
        (1.5, True, "VARCHAR", ["1.5", "true"]),
        (1, "12", "VARCHAR", ["1", "12"]),
        (1.5, "NaN", "VARCHAR", ["1.5", "NaN"]),
        (2**53 + 1, 1.5, "VARCHAR", ["9007199254740993", "1.5"]),
        (1.5, 2**53 + 1, "VARCHAR", ["1.5", "9007199254740993"]),
        (2**53, 1.5, "DOUBLE", [2.0**53, 1.5]),
        ("x", {"a": 1}, "JSON", ['"x"', '{"a":1}']),
        ("{x", "[y", "VARCHAR", ["{x", "[y"]),
    ],
)
def test_a_type_widens_and_refills(
    path: Path, first: Any, then: Any, kind: str, column: list[Any]
) -> None:
    lake = lake_of(path, OPEN)
    lake.store(batch(raw("a", f=first)))
    counts = lake.store(batch(raw("b", f=then)))
    assert counts == StoreCounts(created=1)
    assert types(lake)["f"] == kind
    assert [row[0] for row in rows(lake, "f")] == column
    assert letters(lake) == []
    lake.store(batch(raw("c", f=first)))
    assert types(lake)["f"] == kind, "it never narrows"


def test_a_batch_that_widens_a_column_takes_the_place_of_the_rows_it_had(path: Path) -> None:
    lake = lake_of(path, OPEN)
    lake.store(batch(*(raw(name, f=1) for name in "abcd")))
    lake.store(batch(raw("a", f=2)))  # its row is another one now, and all numbers move
    counts = lake.store(batch(raw("b", f="x"), raw("c", f=3), raw("e", f=4)))
    assert counts == StoreCounts(created=1, updated=2)
    assert types(lake)["f"] == "VARCHAR"
    expected = [("a", "2"), ("b", "x"), ("c", "3"), ("d", "1"), ("e", "4")]
    assert rows(lake, "_external_id, f") == expected


def test_a_field_that_is_declared_no_more_is_refilled_from_the_payload(path: Path) -> None:
    lake_of(path, OPEN, n={"type": "string"}).store(batch(raw("a", n=5)))
    lake = lake_of(path, OPEN)
    lake.store(batch(raw("b", n=6)))
    assert rows(lake, "n") == [(5,), (6,)]


def test_a_lake_from_before_is_looked_through(path: Path) -> None:
    lake_of(path, StreamRules(), name={}).store(batch(raw("a", more=5)))
    lake = lake_of(path, OPEN, name={})
    lake.store(batch(raw("b", more=6)))
    assert rows(lake, "more") == [(5,), (6,)]


def test_fields_without_end_stop_becoming_columns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "MAX_FOUND", 3)
    lake = lake_of(path, OPEN)
    for number in range(6):
        lake.store(batch(raw(f"r{number}", **{f"f{number}": number})))
    assert list(types(lake)) == ["f0", "id", "f1"]
    assert json.loads(lake.changes("contacts", 0, 9)[5].payload or "")["f5"] == 5


def test_fields_that_are_always_null_take_no_columns_from_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "MAX_FOUND", 3)
    lake = lake_of(path, OPEN)
    lake.store(batch(raw("a", **dict.fromkeys("abcdef"), x=1)))
    assert types(lake) == {"id": "VARCHAR", "x": "BIGINT"}
    lake.store(batch(raw("b", **dict.fromkeys("abcde"), f="now it has one", y=2)))
    assert types(lake) == {"id": "VARCHAR", "x": "BIGINT", "f": "VARCHAR"}


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(string.ascii_letters + "ß ", max_size=5),
    st.lists(st.integers(0, 9), max_size=2),
)
BATCHES = st.lists(
    st.lists(st.dictionaries(st.sampled_from("abAB"), VALUES), min_size=1, max_size=3),
    min_size=1,
    max_size=4,
)


def says(column: Any, value: Any) -> bool:
    """Whether a column says what came, as it is or in the words of JSON."""
    if type(column) is type(value) and column == value:
        return True
    if type(column) is int and type(value) is float:  # 0.0 is a whole number, 3.2e16 is, too
        return float(column) == value
    if type(column) is float:
        return type(value) is int and column == value
    return isinstance(column, str) and not isinstance(value, str) and json.loads(column) == value


@settings(max_examples=30, deadline=None)
@given(batches=BATCHES)
def test_evolving_never_loses_a_value(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, Any]]]
) -> None:
    """Whatever comes in whatever order, no value is another in its column, or a dead letter."""
    lake = lake_of(tmp_path_factory.mktemp("lake") / "acme.duckdb", OPEN)
    sent = 0
    for number, records in enumerate(batches):
        made = [raw(f"{number}-{i}", **fields) for i, fields in enumerate(records)]
        assert lake.store(batch(*made)).failed == 0
        sent += len(made)
    assert len(rows(lake, "_external_id")) == sent
    held = sum(v is not None for records in batches for fields in records for v in fields.values())
    kinds = types(lake)
    columns = [name for name in kinds if name != "id"]
    counted = ", ".join(f'count("{name}")' for name in columns) or "0"
    assert sum(lake.select(f"SELECT {counted} FROM records.contacts").to_pylist()[0].values()) == (
        held
    )
    for row in lake.select("SELECT * FROM records.contacts").to_pylist():
        for field, value in json.loads(row["_payload"]).items():
            if value is not None and row.get(field) is not None and field in kinds:
                text = kinds[field] == "JSON" and isinstance(value, str)
                assert says(json.loads(row[field]) if text else row[field], value)
    assert letters(lake) == []
    lake.close()


# --- freeze --------------------------------------------------------------------------------------


def test_a_frozen_stream_refuses_an_undeclared_field(path: Path) -> None:
    lake = lake_of(path, FREEZE, name={"type": "string"})
    lake.store(batch(raw("a", name="A")))
    counts = lake.store(batch(raw("a", name="A2", **{"x/~y": 7}), raw("b", name="B"), cursor=3))
    assert counts == StoreCounts(created=1, failed=1)
    assert letters(lake) == [("a", "x/~y", "7")]
    assert rows(lake, "name") == [("A",), ("B",)]
    assert lake.cursor("contacts") == 3, "the rest went on"
    assert [c.kind for c in lake.changes("contacts", 0, 9)] == ["created", "created"]


def test_a_frozen_stream_refuses_a_value_that_does_not_fit(path: Path) -> None:
    lake = lake_of(path, FREEZE, score={"type": "integer"})
    lake.store(batch(raw("a", score=1)))
    assert lake.store(batch(raw("a", score="high"))) == StoreCounts(failed=1)
    assert rows(lake, "score") == [(1,)]
    assert letters(lake) == [("a", "score", "high")]
    assert lake.store(batch(raw("a", score=2))) == StoreCounts(updated=1)
    assert letters(lake) == []


def test_what_was_refused_is_told_until_it_comes_through(path: Path) -> None:
    lake = lake_of(path, FREEZE, n={"type": "integer"})
    lake.store(batch(raw("a", n=1), raw("b", n=2)))
    lake.store(batch(raw("a", n="x"), raw("b", n=2, more=1)))
    lake.close()
    after = lake_of(path, FREEZE, n={"type": "number"}, name={})
    after.store(batch(cursor=1))
    assert letters(after) == [("a", "n", "x"), ("b", "more", "1")]
    after.store(batch(raw("a", n=3), raw("b", n=2)))
    assert letters(after) == []


def test_what_is_refused_was_seen_by_the_scan(path: Path) -> None:
    lake = lake_of(path, FREEZE, name={})
    lake.store(batch(raw("a", name="A"), raw("b", name="B")))
    lake.store(batch(raw("a", name="A", more=1), raw("b", name="B"), scan="s"))
    assert lake.finish_scan("contacts", "s", 0.5, "run") == StoreCounts()


def test_a_frozen_record_may_still_be_deleted(path: Path) -> None:
    lake = lake_of(path, FREEZE, name={})
    lake.store(batch(raw("a", name="A")))
    assert lake.store(batch(raw("a", deleted=True, why="gdpr"))) == StoreCounts(deleted=1)


# --- discard -------------------------------------------------------------------------------------


def test_discarded_fields_are_nowhere(path: Path) -> None:
    lake = lake_of(path, DISCARD, name={"type": "string"})
    lake.store(batch(raw("a", name="A", secret="s3cret"), raw("b", name="B")))
    assert rows(lake, "name, _payload") == [
        ("A", '{"id":"a","name":"A"}'),
        ("B", raw("b", name="B").payload),
    ]
    lake.close()
    assert b"s3cret" not in path.read_bytes()


def test_discarding_keeps_numbers_to_the_letter(path: Path) -> None:
    lake = lake_of(path, DISCARD, n={})
    text = '{"id":"a","n":{"big":12345678901234567890123,"odd":1.50},"more":1}'
    lake.store(batch(RawRecord("a", text)))
    kept = '{"id":"a","n":{"big":12345678901234567890123,"odd":1.50}}'
    assert rows(lake, "_payload") == [(kept,)]


def test_a_change_of_discarded_fields_is_no_change_and_counted(path: Path) -> None:
    lake = lake_of(path, DISCARD, name={})
    lake.store(batch(raw("a", name="A", seen=1)))
    assert lake.store(batch(raw("a", name="A", seen=2))) == StoreCounts(unchanged=1)
    found = lake.select("SELECT stream, field, records FROM discarded").to_pylist()
    assert [tuple(row.values()) for row in found] == [("contacts", "seen", 2)]


# --- which rules ---------------------------------------------------------------------------------


def test_the_strictest_contract_of_a_stream_holds() -> None:
    collection = DataCollection.model_validate({"key": "contacts", "id": "$.meta.id"})
    sources = [
        DataSource.model_validate({"key": key, "collection_key": "contacts", **more})
        for key, more in (("a", {"contract": "discard"}), ("b", {"history": True}))
    ]
    assert rules_of(collection, sources) == StreamRules("discard", id_field="meta", history=True)


@pytest.mark.parametrize(
    ("schema", "is_open"),
    [
        ({}, True),
        ({"properties": {"a": {}}}, False),
        ({"properties": {"a": {}}, "additionalProperties": True}, True),
    ],
)
def test_which_declarations_are_open(schema: dict[str, Any], is_open: bool) -> None:
    collection = DataCollection.model_validate({"key": "contacts", "fields_schema": schema})
    source = DataSource.model_validate({"key": "contacts", "collection_key": "contacts"})
    assert rules_of(collection, [source]).is_open is is_open


def test_an_older_file_is_brought_to_this_layout(path: Path) -> None:
    lake_of(path, StreamRules(), name={}).store(batch(raw("a", name="A")))
    with duckdb.connect(str(path)) as file:
        for table in ("found_fields", "schema_changes", "discarded"):
            file.execute(f"DROP TABLE {table}")
        file.execute("DROP SCHEMA history")
        file.execute("UPDATE format SET version = 1")
    lake = lake_of(path, OPEN, name={})
    assert lake.cursor("contacts") is None
    lake.store(batch(raw("b", more=1)))
    assert types(lake) == {"name": "JSON", "id": "VARCHAR", "more": "BIGINT"}
