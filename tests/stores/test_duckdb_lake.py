"""What only the lake in a DuckDB file does: typed columns, queries, one file between processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from membrane_sync.errors import Fatal, LockTimeout, NotFound
from membrane_sync.records import DeadLetter, Link, LinkKey, Offset, RawRecord
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.layout import FORMAT
from membrane_sync.stores.lake.stream_rules import StreamRules
from tests.stores.records import batch, mapped_record, raw

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "acme.duckdb"


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def lake_of(path: Path, wait_seconds: float = 60, **fields: Any) -> DuckDbLake:
    return DuckDbLake(path, schemas={"contacts": {"properties": fields}}, wait_seconds=wait_seconds)


def row(lake: DuckDbLake, columns: str = "*", where: str = "true") -> dict[str, Any]:
    (only,) = lake.select(f"SELECT {columns} FROM records.contacts WHERE {where}").to_pylist()
    return only


def misfits(lake: DuckDbLake) -> list[tuple[str, str, str]]:
    rows = lake.select("SELECT external_id, field, value FROM dead_letters WHERE verb = 'pull'")
    return sorted(tuple(found.values()) for found in rows.to_pylist())


# --- typed columns -------------------------------------------------------------------------------


def test_fields_become_typed_columns(path: Path) -> None:
    lake = lake_of(
        path,
        name={"type": "string"},
        score={"type": "integer"},
        rate={"type": ["number", "null"]},
        ok={"type": "boolean"},
        at={"type": "string", "format": "date-time"},
        day={"type": "string", "format": "date"},
        tags={"type": "array", "items": {"type": "string"}},
        address={"type": "object", "properties": {"city": {"type": "string"}}},
        anything={},
    )
    record = {
        "name": "Zoë",
        "score": 2**62,
        "rate": 1.5,
        "ok": False,
        "at": "2026-01-02T03:04:05+02:00",
        "day": "2026-01-02",
        "tags": ["a", None],
        "address": {"city": "Rome", "more": 1},
        "anything": {"x": [1]},
    }
    lake.store(batch(raw("a", **record)))
    found = row(lake, "* EXCLUDE (_payload, _hash, _run_id, _first_seen_at, _changed_at)")
    assert found.pop("at") == datetime(2026, 1, 2, 1, 4, 5)
    assert str(found.pop("day")) == "2026-01-02"
    assert json.loads(found.pop("anything")) == {"x": [1]}
    assert found == {
        "_external_id": "a",
        "_deleted_at": None,
        "name": "Zoë",
        "score": 2**62,
        "rate": 1.5,
        "ok": False,
        "tags": ["a", None],
        "address": {"city": "Rome"},
    }
    assert misfits(lake) == []


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "integer"}, "abc"),
        ({"type": "integer"}, 1.5),
        ({"type": "integer"}, 2**70),
        ({"type": "integer"}, {"a": 1}),
        ({"type": "number"}, "abc"),
        ({"type": "boolean"}, "perhaps"),
        ({"type": "string", "format": "date-time"}, "yesterday"),
        ({"type": "string", "format": "date"}, "2026-02-31"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "x"]),
        ({"type": "array", "items": {"type": "integer"}}, [1, 2.5]),
        ({"type": "array", "items": {"type": "integer"}}, "x"),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": "x"}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": 2.5}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": 2**70}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": [1]}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, "x"),
        (
            {
                "type": "object",
                "properties": {"o": {"type": "object", "properties": {"n": {"type": "number"}}}},
            },
            {"o": {"n": "x"}},
        ),
        ({"type": "boolean"}, 5),
        ({"type": "boolean"}, 0.5),
        ({"type": "array", "items": {"type": "boolean"}}, [True, 2.5]),
        ({"type": "array", "items": {"type": "boolean"}}, "x"),
        (
            {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "number"}}}},
            {"l": "x"},
        ),
        ({"type": "number"}, True),
        ({"type": "number"}, False),
        ({"type": "number"}, "NaN"),
        ({"type": "number"}, "-Infinity"),
        ({"type": "number"}, 2**53 + 1),
        ({"type": "number"}, {"a": 1}),
        ({"type": "array", "items": {"type": "number"}}, [1.5, True]),
        ({"type": "array", "items": {"type": "number"}}, [0, "NaN"]),
        ({"type": "array", "items": {"type": "number"}}, [2**53 + 1, 1]),
        ({"type": "object", "properties": {"n": {"type": "number"}}}, {"n": True}),
        ({"type": "object", "properties": {"n": {"type": "number"}}}, {"n": "inf"}),
        ({"type": "string", "format": "date-time"}, "infinity"),
        ({"type": "string", "format": "date-time"}, "epoch"),
        ({"type": "string", "format": "date"}, "-infinity"),
        ({"type": "string", "format": "date"}, "epoch"),
    ],
)
def test_a_value_that_does_not_fit_is_a_dead_letter(path: Path, spec: Any, value: Any) -> None:
    lake = lake_of(path, field=spec, other={"type": "string"})
    counts = lake.store(batch(raw("a", field=value, other="kept"), raw("b", other="fine")))
    assert (counts.created, counts.failed) == (2, 1)
    assert row(lake, "field, other", "_external_id = 'a'") == {"field": None, "other": "kept"}
    ((external_id, field, kept),) = misfits(lake)
    assert (external_id, field) == ("a", "field")
    assert kept == (value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))
    assert json.loads(lake.changes("contacts", 0, 1)[0].payload or "")["field"] == value


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "integer"}, None),
        ({"type": "integer"}, "12"),
        ({"type": "integer"}, 3.0),
        ({"type": "string"}, 5),
        ({"type": "boolean"}, 1),
        ({"type": "boolean"}, "false"),
        ({"type": "array", "items": {"type": "boolean"}}, [True, None, False]),
        ({"type": "object", "properties": {"n": {"type": "boolean"}}}, {"n": True}),
        ({"type": "array", "items": {"type": "integer"}}, [1, None, 3]),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "object", "properties": {"n": {}}}}, [{"n": 1}, 5]),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": None}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": 3.0}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {"n": "12"}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, {}),
        ({"type": "object", "properties": {"o": {"type": "object", "properties": {"n": {}}}}}, {}),
        ({"type": "object", "properties": {"l": {"type": "array", "items": {}}}}, {"l": None}),
        ({"type": "object", "properties": {"n": {}, "N": {}}}, {"n": 1, "N": 2}),
        ({"type": "number"}, 0),
        ({"type": "number"}, 1),
        ({"type": "number"}, "12"),
        ({"type": "number"}, -(2**53)),
        ({"type": "number"}, 1e300),
        ({"type": "array", "items": {"type": "number"}}, [0, 1, None, 2**53, 1e300]),
        ({"type": "object", "properties": {"n": {"type": "number"}}}, {"n": 1}),
        ({"type": "string", "format": "date-time"}, "1970-01-01T00:00:00Z"),
        ({"type": "string", "format": "date"}, "1970-01-01"),
    ],
)
def test_a_value_that_fits_is_none(path: Path, spec: Any, value: Any) -> None:
    lake = lake_of(path, field=spec)
    assert lake.store(batch(raw("a", field=value), raw("b"))).failed == 0
    assert misfits(lake) == []
    assert (row(lake, "field", "_external_id = 'a'")["field"] is None) is (value is None)


def test_a_mended_value_takes_its_dead_letter_away(path: Path) -> None:
    lake = lake_of(path, score={"type": "integer"})
    lake.store(batch(raw("a", score="abc")))
    lake.store(batch(raw("a", score="abc"), raw("b")))
    assert misfits(lake) == [("a", "score", "abc")], "unchanged, it's as bad as before"
    lake.store(batch(raw("a", score=1)))
    assert misfits(lake) == []


@pytest.mark.parametrize("history", [False, True])
def test_what_does_not_fit_is_told_whenever_it_is_found(path: Path, history: bool) -> None:
    """At first when it's written; once there are dead letters, or with a history, before."""
    rules = {"contacts": StreamRules(history=history)}
    schema = {"type": "object", "properties": {"score": {"type": "integer"}}}
    lake = DuckDbLake(path, schemas={"contacts": schema}, rules=rules)
    lake.store(batch(raw("a", score=1)))
    counts = lake.store(batch(raw("a", score=2), raw("b", score="x"), raw("c", score=3)))
    assert (counts.created, counts.updated, counts.failed) == (2, 1, 1)
    assert lake.store(batch(raw("c", score=2.5), raw("d", score=4))).failed == 1
    assert sorted(misfits(lake)) == [("b", "score", "x"), ("c", "score", "2.5")]
    found = lake.select("SELECT _external_id, score FROM records.contacts ORDER BY 1").to_pydict()
    assert found == {"_external_id": [*"abcd"], "score": [2, None, None, 4]}


@pytest.mark.parametrize("history", [False, True])
def test_many_columns_that_are_mostly_empty_take_no_more_memory(path: Path, history: bool) -> None:
    """As where an account has a hundred fields of its own: a whole commit fits into the limit."""
    kinds = ["string", "integer", "number", "boolean"]
    schema = {"properties": {f"f{n}": {"type": kinds[n % 4]} for n in range(100)}}
    rules = {"contacts": StreamRules(history=history)}
    lake = DuckDbLake(path, schemas={"contacts": schema}, rules=rules)
    filled = {f"f{n}": ["x", 5, 1.5, True][n % 4] for n in range(0, 100, 5)}
    records = [raw(f"r{n}", **filled) for n in range(30_000)]
    assert lake.store(batch(*records[1:], raw("r0", **filled, f1="x"))).failed == 1
    assert misfits(lake) == [("r0", "f1", "x")]
    lake.close()


def test_payloads_are_packed_and_stay_so(path: Path) -> None:
    lake = lake_of(path, score={"type": "integer"})
    lake.store(batch(*(raw(str(i), score=i) for i in range(5_000))))

    def packing() -> list[tuple[str, str]]:
        found = lake.select(
            "SELECT DISTINCT column_name, compression FROM pragma_storage_info('records.contacts') "
            "WHERE column_name IN ('_external_id', '_payload') AND segment_type <> 'VALIDITY' "
            "ORDER BY 1"
        )
        return [tuple(row.values()) for row in found.to_pylist()]

    expected = [("_external_id", "Uncompressed"), ("_payload", "ZSTD")]
    assert packing() == expected
    lake.compact()
    assert packing() == expected
    after = lake_of(path, score={"type": "string"})
    after.store(batch(raw("a")))
    assert packing() == expected


AT = {"type": "string", "format": "date-time"}


@pytest.mark.parametrize(
    ("before", "then", "ignored", "kind"),
    [
        ('{"at":"2026-01-01T00:00:00Z"}', '{"at":"2026-01-02T00:00:00Z"}', [], "updated"),
        ('{"at":"2026-01-01T00:00:00Z"}', '{"at":"2026-01-02T00:00:00Z"}', ["at"], "unchanged"),
        ('{"at":"2026-01-01T00:00:00Z"}', '{"at":"2026-01-01T01:00:00+01:00"}', [], "updated"),
        ('{"at":"2026-01-01T00:00:00Z"}', '{ "at":"2026-01-01T00:00:00\\u005a"}', [], "unchanged"),
        ('{"at":"2026-01-01T00:00Z","n":1}', '{"n":1,"at":"2026-01-01T00:00Z"}', [], "unchanged"),
        ('{"at":"2026-01-01T00:00Z","n":1}', '{"n":2,"at":"2026-01-01T00:00Z"}', [], "updated"),
        ('{"at":"2026-01-01T00:00:00Z"}', '{"at":null}', [], "updated"),
        ('{"at":null,"n":1}', '{"n":1,"at":null}', [], "unchanged"),
        ('{"at":"soon","n":1}', '{"n":1,"at":"soon"}', [], "unchanged"),
        ('{"at":{"a":1,"b":2}}', '{"at":{"b":2,"a":1}}', [], "unchanged"),
    ],
)  # fmt: skip
def test_whether_a_record_changed_its_time_says_first_and_else_its_json(
    path: Path, before: str, then: str, ignored: list[str], kind: str
) -> None:
    lake = lake_of(path, at=AT, seen=AT)
    lake.store(batch(RawRecord("a", before)))
    counts = lake.store(batch(RawRecord("a", then), ignored=ignored))
    assert (counts.updated, counts.unchanged) == (int(kind == "updated"), int(kind == "unchanged"))
    assert row(lake, "_payload")["_payload"] == (then if kind == "updated" else before)


def test_odd_field_names_have_columns(path: Path) -> None:
    names = ["_hash", "_HASH", "order", 'a"b', "a'b", "a/b~c", "Name", "name", "ünï cödé", "select"]
    lake = lake_of(path, **{name: {"type": "integer"} for name in names}, **{"": {}})
    lake.store(batch(raw("a", **{name: i for i, name in enumerate(names)})))
    found = row(lake)
    expected = {
        **{name: names.index(name) for name in names if name not in ("_hash", "_HASH", "name")},
        "_hash_": 0,
        "_HASH_2": 1,
        "name_2": 7,
    }
    assert {key: found[key] for key in expected} == expected
    assert misfits(lake) == []


def test_streams_whose_names_differ_in_case_alone_are_refused(path: Path) -> None:
    lake = DuckDbLake(path)
    lake.store(batch(raw("a"), stream="Order"))
    with pytest.raises(Fatal, match=r"records\.Order and records\.order can't be in one lake"):
        lake.store(batch(raw("b"), stream="order"))
    assert lake.streams() == ["Order"]


@pytest.mark.parametrize("field", ["rowid", "rowId"])
def test_a_field_by_the_name_of_a_row_number_doubles_no_record(path: Path, field: str) -> None:
    lake = lake_of(path, **{field: {"type": "integer"}}, name={"type": "string"})
    lake.store(batch(*(raw(key, **{field: 0}, name="1") for key in "abc")))
    counts = lake.store(batch(raw("a", **{field: 1}, name="2"), raw("b", **{field: 0}, name="1")))
    assert (counts.updated, counts.unchanged) == (1, 1)
    found = lake.select(f"SELECT _external_id, {field}_, name FROM records.contacts ORDER BY ALL")
    assert [tuple(r.values()) for r in found.to_pylist()] == [
        ("a", 1, "2"),
        ("b", 0, "1"),
        ("c", 0, "1"),
    ]
    assert [c.external_id for c in lake.changes("contacts", 0, 9)] == ["a", "b", "c", "a"]
    schema = {"properties": {field: {"type": "integer"}}}
    for value in (1, 2):
        record = mapped_record("a", {field: value})
        lake.keep_mapped("contacts", [record], [], Offset("map:contacts", 1), schema)
    assert len(lake.mapped("contacts", 0, 9)) == 1


def test_other_declared_fields_fill_the_columns_anew(path: Path) -> None:
    before = lake_of(path, name={"type": "string"}, score={"type": "string"})
    before.store(batch(raw("a", name="A", score="12", city="Rome"), raw("b", score="abc")))
    before.store(batch(raw("c", score="7")))
    before.store(batch(raw("c", deleted=True)))
    first_seen = row(before, "_first_seen_at", "_external_id = 'a'")
    before.close()
    after = lake_of(path, score={"type": "integer"}, city={"type": "string"})
    after.store(batch(raw("d", score=1)))
    found = row(after, where="_external_id = 'a'")
    assert (found["score"], found["city"]) == (12, "Rome")
    assert "name" not in found
    assert found["_first_seen_at"] == first_seen["_first_seen_at"]
    assert misfits(after) == [("b", "score", "abc")]
    assert row(after, "_deleted_at", "_external_id = 'c'")["_deleted_at"] is not None
    assert len(after.changes("contacts", 0, 99)) == 5
    after.close()
    again = lake_of(path, score={"type": "string"})
    again.store(batch(cursor=1))
    assert row(again, "score", "_external_id = 'b'")["score"] == "abc"
    assert misfits(again) == []


def test_columns_that_are_filled_anew_leave_other_dead_letters_alone(path: Path) -> None:
    before = lake_of(path, score={"type": "string"})
    fault = DeadLetter("pull", "contacts", "a", "at", "it's more than a day ahead of now", "2999")
    before.store(batch(raw("a", score="1.5"), raw("b", score="abc"), dead_letters=[fault]))
    before.store(batch(raw("c", score="x")))
    before.store(batch(raw("c", deleted=True)))
    before.close()
    after = lake_of(path, score={"type": "integer"})
    after.store(batch(cursor=1))
    told = [("a", "at", "2999"), ("a", "score", "1.5"), ("b", "score", "abc")]
    assert sorted(misfits(after)) == told, "nothing of c, which is deleted"
    after.close()
    again = lake_of(path, score={"type": "number"})
    again.store(batch(cursor=2))
    assert sorted(misfits(again)) == [told[0], told[2]]


def test_what_does_not_fit_is_told_by_its_record_whatever_fields_are_called(path: Path) -> None:
    names = ["key", "json", "old", "row", "position", "found", "parsed", "c0", "m0", "hash"]
    text = {name: {"type": "string"} for name in names}
    before = lake_of(path, **text)
    before.store(batch(raw("a", **{name: f"its {name}" for name in names}, n="x")))
    before.close()
    after = lake_of(path, **text, n={"type": "integer"})
    after.store(batch(raw("b", **{name: f"its {name}" for name in names}, n="y")))
    assert sorted(misfits(after)) == [("a", "n", "x"), ("b", "n", "y")]
    found = after.select("SELECT * FROM records.contacts ORDER BY _external_id").to_pylist()
    assert [row["_external_id"] for row in found] == ["a", "b"]
    assert all(row[name] == f"its {name}" for row in found for name in names)


def test_mapped_records_follow_their_schema_too(path: Path) -> None:
    lake = lake_of(path)
    offset = Offset("map:people")
    record = [mapped_record("a", {"day": "2026-01-02", "n": 5})]
    lake.keep_mapped("people", record, [], offset, {"properties": {"n": {"type": "integer"}}})
    dated = {"properties": {"day": {"type": "string", "format": "date"}}}
    lake.keep_mapped("people", record, [], offset, dated)
    (found,) = lake.select("SELECT * EXCLUDE (_mapped_at, _hash) FROM mapped.people").to_pylist()
    assert str(found["day"]) == "2026-01-02"
    assert "n" not in found


# --- queries -------------------------------------------------------------------------------------


def test_reading_makes_no_file(path: Path) -> None:
    lake = lake_of(path)
    assert lake.cursor("contacts") is None
    assert lake.streams() == []
    assert lake.count("SELECT count(*) FROM links") == 0
    assert lake.links(LinkKey("people"), ["a"]) == {}
    with pytest.raises(NotFound, match="the lake is empty"):
        lake.select("SELECT 1")
    assert not path.parent.exists()


def test_select_answers_queries(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a"), raw("b")))
    lake.store(batch(raw("x"), stream="Deals of 'us'"))
    assert lake.streams() == ["Deals of 'us'", "contacts"]
    assert lake.count("SELECT count(*) FROM records.contacts") == 2
    sql = "SELECT _external_id FROM records.contacts WHERE _external_id > ? ORDER BY 1"
    assert lake.select(sql, ["a"]).to_pylist() == [{"_external_id": "b"}]
    assert lake.select("DESCRIBE links").num_rows == 10
    assert lake.select("FROM cursors").num_rows == 0
    with pytest.raises(NotFound, match="nowhere"):
        lake.select("SELECT * FROM nowhere")
    assert lake.count("SELECT count(*) FROM nowhere") == 0
    with pytest.raises(Fatal, match="nocolumn"):
        lake.select("SELECT nocolumn FROM links")
    with pytest.raises(Fatal, match="syntax error"):
        lake.select("SELEC")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM records.contacts",
        "SELECT 1; DELETE FROM records.contacts",
        "WITH x AS (SELECT 1) INSERT INTO cursors SELECT 'a', NULL, NULL, NULL",
        "CREATE TABLE memory.t AS SELECT 1",
        "ATTACH ':memory:' AS other",
        "DETACH lake",
        "COPY links TO '/tmp/links.csv'",
        "SET threads = 1",
        "PRAGMA version",
        "",
    ],
)
def test_select_writes_nothing(path: Path, sql: str) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a")))
    before = path.read_bytes()
    with pytest.raises(Fatal, match="can only be read"):
        lake.select(sql)
    assert path.read_bytes() == before
    assert lake.store(batch(raw("b"))).created == 1, "it can still be used"


def test_what_is_attached_for_reading_cannot_be_written(path: Path) -> None:
    lake_of(path).store(batch(raw("a")))
    file = LakeFile(path, 5)
    with file.reading("look") as there, pytest.raises(duckdb.Error, match="read-only mode"):
        assert there
        file.execute("DELETE FROM lake.changes")


def test_a_query_sees_no_python_variables(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a")))
    parameters = duckdb.sql("SELECT 1").to_arrow_table()
    with pytest.raises(NotFound):
        lake.select("SELECT * FROM parameters")
    assert parameters.num_rows == 1


def test_a_read_leaves_the_file_as_it_is(path: Path) -> None:
    lake_of(path).store(batch(raw("a"), cursor=1))
    before = path.read_bytes()
    lake = lake_of(path)
    assert lake.cursor("contacts") == 1
    assert lake.store(batch(raw("a"))).unchanged == 1
    lake.changes("contacts", 0, 9)
    lake.select("SELECT * FROM changes")
    assert path.read_bytes() == before


# --- the file ------------------------------------------------------------------------------------


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    lake_of(path).store(batch(raw("a")))
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE format SET version = {FORMAT + 1}")
    with pytest.raises(Fatal, match="newer version"):
        lake_of(path).cursor("contacts")


def test_a_file_that_is_no_lake_is_said_so(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("not a database")
    with pytest.raises(Fatal, match=r"acme\.duckdb can't be opened"):
        lake_of(path).cursor("contacts")


def test_a_scan_sees_what_came_as_a_dead_letter(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a"), raw("b"), raw("c")))
    letter = DeadLetter("pull", "contacts", "a", "", "it can't be taken")
    lake.store(batch(raw("b"), scan="s", dead_letters=[letter]))
    assert lake.finish_scan("contacts", "s", 0.5, "run").deleted == 1
    gone = lake.select("SELECT external_id FROM changes WHERE kind = 'deleted'").to_pylist()
    assert gone == [{"external_id": "c"}]


def test_a_failed_write_leaves_all_as_it_was(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a"), cursor=1))
    broken = batch(raw("b"), cursor=object())
    with pytest.raises(TypeError):
        lake.store(broken)
    assert lake.cursor("contacts") == 1
    assert [change.external_id for change in lake.changes("contacts", 0, 9)] == ["a"]


HOLD = """
import sys, time
from pathlib import Path
from membrane_sync.stores.file_lock import held
with held(Path(sys.argv[1]), "store contacts", 5):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lake's lock."""
    lake_of(path).store(batch(raw("a"), cursor=1))
    with child(HOLD, f"{path}.lock") as process:
        yield process
        process.kill()


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_whoever_waits_too_long_hears_who_holds_it(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    started = time.monotonic()
    with pytest.raises(LockTimeout) as caught:
        lake_of(path, wait_seconds=0.3).cursor("contacts")
    assert time.monotonic() - started >= 0.3
    year = datetime.now().year
    said = rf"acme\.duckdb is held by process {holder.pid} on \S+ \(store contacts, since {year}-"
    assert caught.match(said)


def test_a_dead_holder_holds_nothing_and_is_not_named(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    left_behind = path.with_name(f"{path.name}.lock.holder")
    signed = left_behind.read_text()
    holder.kill()
    holder.wait()
    assert lake_of(path, wait_seconds=5).cursor("contacts") == 1
    assert not left_behind.exists(), "who lets go signs off"
    with child(HOLD, f"{path}.lock") as second:
        left_behind.write_text(signed)
        with pytest.raises(LockTimeout, match="held by another process; waited"):
            lake_of(path, wait_seconds=0.1).cursor("contacts")
        second.kill()


def test_who_waits_gets_it_in_the_end(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGTERM)
    assert lake_of(path, wait_seconds=10).cursor("contacts") == 1


def test_a_file_that_is_open_elsewhere_is_said_so(path: Path) -> None:
    lake_of(path).store(batch(raw("a")))
    code = f"import duckdb, time; c = duckdb.connect({str(path)!r}); print(1, flush=True); "
    with child(code + "time.sleep(60)") as process:
        with pytest.raises(LockTimeout, match=f"open in another program.*{process.pid}"):
            lake_of(path).store(batch(raw("b")))
        process.kill()


STORE_ON = """
import sys
from pathlib import Path
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.stream_rules import StreamRules
from membrane_sync.records import Link, LinkKey, Offset
from tests.stores.records import batch, mapped_record, raw
schema = {"properties": {"n": {"type": "integer"}}}
lake = DuckDbLake(Path(sys.argv[1]), schemas={"contacts": schema})
n = lake.cursor("contacts") or 0
print("go", flush=True)
while True:
    n += 1
    ids = [f"{n}-{i}" for i in range(50)]
    lake.store(batch(*(raw(i, n=n) for i in ids), raw("same", n=n), cursor=n))
    values = [mapped_record(i, {"n": n}) for i in ids]
    lake.keep_mapped("people", values, [], Offset("map:people", n, "v"), {})
    links = [Link(i, i) for i in ids]
    lake.keep_links(LinkKey("people"), links, [], [], Offset("push:people", n), ids)
"""


def test_kill_leaves_the_state_before_or_after_never_between(path: Path) -> None:
    for round_number in range(10):
        with child(STORE_ON, str(path)) as process:
            time.sleep(0.02 + 0.045 * round_number)
            process.kill()
            process.wait()
        lake = lake_of(path, n={"type": "integer"})
        n = lake.cursor("contacts") or 0
        if not path.exists():
            continue
        counts = {
            "records": ("SELECT count(*) FROM records.contacts", n * 50 + (n > 0)),
            "of the last": (f"SELECT count(*) FROM records.contacts WHERE n > {n}", 0),
            "changes": ("SELECT count(*) FROM changes", n * 51),
            "numbered": ("SELECT count(DISTINCT seq) FROM changes", n * 51),
            "mapped": ("SELECT count(*) FROM mapped.people", lake.offset("map:people").seq * 50),
            "links": ("SELECT count(*) FROM links", lake.offset("push:people").seq * 50),
        }
        for name, (sql, expected) in counts.items():
            assert lake.count(sql) == expected, f"round {round_number}: {name}"
        assert lake.offset("push:people").seq <= lake.offset("map:people").seq <= n
        lake.close()
        # What was mapped or linked of the last step is lost with the process: do it again.
        _catch_up(path, n)
    assert n > 0


def _catch_up(path: Path, n: int) -> None:
    lake = lake_of(path, n={"type": "integer"})
    ids = [f"{n}-{i}" for i in range(50)]
    if n and lake.offset("map:people").seq < n:
        values = [mapped_record(i, {"n": n}) for i in ids]
        lake.keep_mapped("people", values, [], Offset("map:people", n, "v"), {})
    if n and lake.offset("push:people").seq < n:
        links = [Link(i, i) for i in ids]
        lake.keep_links(LinkKey("people"), links, [], [], Offset("push:people", n), ids)
    lake.close()
