"""History: every version of a record, from when and to when it was valid."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.errors import NotFound
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.stream_rules import StreamRules
from tests.stores.records import batch, raw

KEPT = StreamRules(history=True)
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "acme.duckdb"


def lake_of(path: Path, rules: StreamRules = KEPT, **fields: Any) -> DuckDbLake:
    schemas = {"contacts": {"properties": fields or {"name": {"type": "string"}}}}
    return DuckDbLake(path, schemas=schemas, rules={"contacts": rules})


def versions(lake: DuckDbLake, external_id: str) -> list[tuple[str, bool]]:
    """Each version's name, and whether it's valid now."""
    found = lake.versions("contacts", external_id, 99).to_pylist()
    return [(row["name"], row["_valid_to"] is None) for row in found]


def names(lake: DuckDbLake, at: datetime) -> dict[str, str]:
    found = lake.as_of("contacts", at, 99).to_pylist()
    return {row["_external_id"]: row["name"] for row in found}


def now() -> datetime:
    return datetime.now(UTC)


def test_an_update_closes_the_old_version_and_opens_the_new(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a", name="A"), raw("b", name="B"), run_id="r1"))
    lake.store(batch(raw("a", name="A2"), raw("b", name="B"), run_id="r2"))
    assert versions(lake, "a") == [("A", False), ("A2", True)]
    assert versions(lake, "b") == [("B", True)]
    first, second = lake.versions("contacts", "a", 9).to_pylist()
    assert first["_valid_to"] == second["_valid_from"], "no gap and no overlap"
    assert (first["_run_id"], second["_run_id"]) == ("r1", "r2")
    assert json.loads(first["_payload"]) == {"id": "a", "name": "A"}


def test_the_lake_as_of_a_time(path: Path) -> None:
    lake = lake_of(path)
    before = now()
    lake.store(batch(raw("a", name="A"), raw("b", name="B")))
    between = now()
    lake.store(batch(raw("a", name="A2"), raw("b", deleted=True)))
    assert names(lake, before) == {}
    assert names(lake, between) == {"a": "A", "b": "B"}
    zone = between.astimezone(tz=None)
    assert names(lake, zone) == {"a": "A", "b": "B"}
    assert names(lake, now()) == {"a": "A2"}


def test_deleting_closes_and_coming_back_opens(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a", name="A")))
    lake.store(batch(raw("a", deleted=True)))
    assert versions(lake, "a") == [("A", False)]
    lake.store(batch(raw("a", name="A")))
    assert versions(lake, "a") == [("A", False), ("A", True)]


def test_a_full_scan_closes_what_is_gone(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a", name="A"), raw("b", name="B")))
    lake.store(batch(raw("a", name="A"), scan="s"))
    lake.finish_scan("contacts", "s", 1, "run")
    assert versions(lake, "b") == [("B", False)]


def test_history_begins_with_what_the_lake_holds(path: Path) -> None:
    lake_of(path, StreamRules()).store(batch(raw("a", name="A"), raw("b", name="B")))
    lake_of(path, StreamRules()).store(batch(raw("b", deleted=True)))
    stored = now()
    lake = lake_of(path)
    lake.store(batch(raw("a", name="A2")))
    assert versions(lake, "a") == [("A", False), ("A2", True)]
    assert names(lake, stored) == {"a": "A"}


def test_history_that_was_off_has_a_gap_and_no_lie(path: Path) -> None:
    lake_of(path).store(batch(raw("a", name="A")))
    lake_of(path, StreamRules()).store(batch(raw("a", name="A2")))
    off = now()
    lake = lake_of(path)
    lake.store(batch(raw("b", name="B")))
    assert versions(lake, "a") == [("A", False), ("A2", True)]
    assert names(lake, off) == {}
    assert names(lake, now()) == {"a": "A2", "b": "B"}


def test_without_history_there_is_none(path: Path) -> None:
    lake = lake_of(path, StreamRules())
    lake.store(batch(raw("a", name="A")))
    with pytest.raises(NotFound, match=r"no history of 'contacts'") as failure:
        lake.versions("contacts", "a", 1)
    assert "history: true" in failure.value.hint
    tables = lake.select("SELECT * FROM duckdb_tables() WHERE schema_name = 'history'")
    assert tables.num_rows == 0


def test_columns_of_old_versions_follow_the_declaration(path: Path) -> None:
    lake_of(path).store(batch(raw("a", name="A", score=1)))
    lake_of(path).store(batch(raw("a", name="A2", score=2)))
    lake = lake_of(path, name={"type": "string"}, score={"type": "integer"})
    lake.store(batch(raw("b", name="B", score=3)))
    found = lake.versions("contacts", "a", 9).to_pylist()
    assert [row["score"] for row in found] == [1, 2]


def test_found_fields_are_in_the_history(path: Path) -> None:
    lake = lake_of(path, StreamRules(is_open=True, history=True))
    lake.store(batch(raw("a", name="A", n=1)))
    lake.store(batch(raw("a", name="A", n="x", more=True)))
    found = lake.versions("contacts", "a", 9).to_pylist()
    assert [(row["n"], row["more"]) for row in found] == [("1", None), ("x", True)]


@pytest.mark.parametrize("before_it_was_noted", [False, True])
def test_a_clock_that_goes_back_makes_no_overlap(
    path: Path, monkeypatch: pytest.MonkeyPatch, before_it_was_noted: bool
) -> None:
    lake = lake_of(path)
    lake.store(batch(raw("a", name="A")))
    times = iter(now() - timedelta(hours=hours) for hours in range(1, 99))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return next(times)

    monkeypatch.setattr("membrane_sync.stores.lake.history.datetime", Clock)
    if before_it_was_noted:
        with duckdb.connect(str(path)) as file:
            file.execute("DELETE FROM counters WHERE name LIKE 'history_newest%'")
    lake.store(batch(raw("a", name="A2")))
    first, second = lake.versions("contacts", "a", 9).to_pylist()
    assert first["_valid_from"] <= first["_valid_to"] <= second["_valid_from"]


def test_a_hard_delete_leaves_nothing_but_the_entry_in_the_feed(path: Path) -> None:
    lake = lake_of(path, StreamRules(history=True, hard_deletes=True))
    lake.store(batch(raw("a", name="Ada"), raw("b", name="Bob"), raw("c", name="Cy")))
    lake.store(batch(raw("a", deleted=True)))
    lake.store(batch(raw("c", name="Cy"), scan="s"))
    lake.finish_scan("contacts", "s", 1, "run")
    assert versions(lake, "a") == versions(lake, "b") == []
    kept = lake.select("SELECT _external_id FROM records.contacts").to_pylist()
    assert [row["_external_id"] for row in kept] == ["c"]
    feed = [(c.external_id, c.kind, c.payload) for c in lake.changes("contacts", 3, 9)]
    assert feed == [("a", "deleted", None), ("b", "deleted", None)]


def test_where_deletions_become_hard_nothing_is_left_of_earlier_ones(path: Path) -> None:
    lake = lake_of(path)
    lake.store(batch(*(raw(key, name=key) for key in "abc")))
    lake.store(batch(raw("a", deleted=True), raw("b", deleted=True)))
    lake.store(batch(raw("b", name="b")))
    hard = StreamRules(history=True, hard_deletes=True)
    lake_of(path, hard).store(batch(cursor=1))
    assert versions(lake, "a") == []
    assert versions(lake, "b") == [("b", False), ("b", True)]
    kept = lake.select("SELECT _external_id FROM records.contacts ORDER BY 1").to_pylist()
    assert [row["_external_id"] for row in kept] == ["b", "c"]
    lake_of(path).store(batch(raw("c", deleted=True)))
    assert versions(lake, "c") == [("c", False)]
    lake_of(path, hard).store(batch(cursor=2))
    assert versions(lake, "c") == []


EDITS = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 2))),
        max_size=4,
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(rounds=EDITS)
def test_as_of_any_commit_is_what_the_lake_held_then(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, int | None]]]
) -> None:
    lake = lake_of(tmp_path_factory.mktemp("lake") / "acme.duckdb", name={"type": "integer"})
    lake.store(batch(raw("z", name=0)))
    held = {"z": 0}
    seen: list[tuple[datetime, dict[str, int]]] = [(now(), dict(held))]
    for edits in rounds:
        lake.store(
            batch(*(raw(key, name=value, deleted=value is None) for key, value in edits), cursor=1)
        )
        for key, value in edits:
            held.pop(key, None)
            held.update({key: value} if value is not None else {})
        seen.append((now(), dict(held)))
    for at, then in seen:
        assert names(lake, at) == then
    assert names(lake, FOREVER) == held
    lake.close()
