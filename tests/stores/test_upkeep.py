"""Upkeep of the lake: retention, compaction, and a scan's difference in bounded memory."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.errors import Fatal
from membrane_sync.records import Offset
from membrane_sync.stores.lake import duckdb_lake
from membrane_sync.stores.lake import file as lake_file
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.retention import Retention
from membrane_sync.stores.lake.stream_rules import StreamRules
from tests.stores.records import batch, raw

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "acme.duckdb"


def read_to(lake: DuckDbLake, seq: int, consumer: str = "map:contacts") -> None:
    lake.keep_mapped("contacts", [], [], Offset(consumer, seq), {})


def age(path: Path, days: int) -> None:
    """Make everything in the lake so much older."""
    back = timedelta(days=days)
    with duckdb.connect(str(path)) as file:
        file.execute("UPDATE changes SET changed_at = changed_at - ?", [back])
        for (table,) in file.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'history'"
        ).fetchall():
            file.execute(
                f"UPDATE history.{table} SET _valid_from = _valid_from - ?, "
                "_valid_to = _valid_to - ?",
                [back, back],
            )


def feed(lake: DuckDbLake) -> list[tuple[int, str, str]]:
    return [(c.seq, c.external_id, c.kind) for c in lake.changes("contacts", 0, 99)]


# --- retention -----------------------------------------------------------------------------------


def busy_lake(path: Path, retention: Retention) -> DuckDbLake:
    """A lake with changes 1 to 5, of which 1 and 2 are superseded."""
    lake = DuckDbLake(path, retention=retention)
    lake.store(batch(raw("a", n=1), raw("b", n=1)))
    lake.store(batch(raw("a", n=2)))
    lake.store(batch(raw("b", deleted=True), raw("c", n=1)))
    return lake


LAST = [(3, "a", "updated"), (4, "b", "deleted"), (5, "c", "created")]


def test_superseded_changes_go_once_they_are_old_and_read(path: Path) -> None:
    lake = busy_lake(path, Retention(changes_days=7))
    read_to(lake, 5)
    assert lake.compact() == 0, "they aren't old yet"
    age(path, 8)
    assert lake.compact() == 2
    assert feed(lake) == LAST, "whoever begins at the first entry still meets every record"
    lake.store(batch(raw("d")))
    assert feed(lake)[-1] == (6, "d", "created"), "and the numbers go on"


def test_what_a_consumer_has_not_read_stays(path: Path) -> None:
    lake = busy_lake(path, Retention(changes_days=7))
    age(path, 8)
    assert lake.compact() == 0, "nobody has read anything"
    read_to(lake, 5)
    read_to(lake, 1, "map:other")
    assert lake.compact() == 1
    assert feed(lake) == [(2, "b", "created"), *LAST]


def test_a_stream_where_nothing_happens_holds_up_no_other(path: Path) -> None:
    lake = busy_lake(path, Retention(changes_days=7))
    read_to(lake, 5)
    read_to(lake, 0, "map:quiet")
    read_to(lake, 0, "map:no sync any more")
    age(path, 8)
    lake.close()
    consumers = {"map:contacts": "contacts", "map:quiet": "quiet"}
    lake = DuckDbLake(path, retention=Retention(changes_days=7), consumers=consumers)
    assert lake.compact() == 2
    assert feed(lake) == LAST


def test_what_says_which_records_are_new_to_a_scan_stays_until_its_end(path: Path) -> None:
    lake = DuckDbLake(path, retention=Retention(changes_days=7))
    lake.store(batch(*(raw(f"old{n}") for n in range(4))))
    lake.store(batch(*(raw(f"new{n}") for n in range(9)), scan="refused"))
    lake.store(batch(*(raw(f"new{n}", v=2) for n in range(9)), scan="anew"))
    read_to(lake, 99)
    age(path, 8)
    assert lake.compact() == 0
    with pytest.raises(Fatal, match="delete 4 of 4 records"):
        lake.finish_scan("contacts", "anew", 0.5, "run")
    assert lake.finish_scan("contacts", "anew", 1, "run").deleted == 4
    age(path, 8)
    assert lake.compact() == 13


def test_each_consumer_of_a_stream_holds_what_it_has_not_read(path: Path) -> None:
    lake = busy_lake(path, Retention(changes_days=7))
    lake.close()
    consumers = {"map:contacts": "contacts", "map:other": "contacts"}
    lake = DuckDbLake(path, retention=Retention(changes_days=7), consumers=consumers)
    age(path, 8)
    assert lake.compact() == 0
    read_to(lake, 5)
    read_to(lake, 1, "map:other")
    assert lake.compact() == 1
    assert feed(lake) == [(2, "b", "created"), *LAST]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.dictionaries(st.sampled_from("abc"), st.integers(-1, 2))),
        st.tuples(st.sampled_from(["one", "two"]), st.integers(1, 3)),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=20,
)


@settings(max_examples=12, deadline=None)
@given(steps=STEPS)
def test_whoever_reads_on_comes_to_what_there_is_whatever_was_dropped(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    """Consumers read a page now and then; one begins when all is over."""
    consumers = {"map:one": "contacts", "map:two": "contacts", "map:late": "contacts"}
    lake = DuckDbLake(
        tmp_path_factory.mktemp("lake") / "acme.duckdb",
        retention=Retention(changes_days=0),
        consumers=consumers,
    )
    alive: dict[str, int] = {}
    held: dict[str, dict[str, str | None]] = {"one": {}, "two": {}, "late": {}}

    def read(consumer: str, limit: int) -> None:
        offset = lake.offset(f"map:{consumer}")
        page = lake.changes("contacts", offset.seq, limit)
        held[consumer].update({change.external_id: change.payload for change in page})
        read_to(lake, page[-1].seq if page else offset.seq, offset.consumer)

    for what, value in steps:
        if what == "store":
            lake.store(batch(*(raw(i, n=n, deleted=n < 0) for i, n in value.items())))
            alive = {i: n for i, n in {**alive, **value}.items() if n >= 0}
        elif what == "compact":
            lake.compact()
        else:
            read(what, value)
    for consumer, records in held.items():
        read(consumer, 99)
        assert {i: json.loads(p)["n"] for i, p in records.items() if p} == alive
    lake.compact()
    assert len(feed(lake)) == len({external_id for _, external_id, _ in feed(lake)})
    lake.close()


def test_nothing_is_dropped_unless_asked_for(path: Path) -> None:
    lake = busy_lake(path, Retention())
    read_to(lake, 5)
    age(path, 10_000)
    lake.tidy()
    assert lake.compact() == 0
    assert len(feed(lake)) == 5


def test_versions_that_ended_long_ago_go(path: Path) -> None:
    rules = {"contacts": StreamRules(history=True)}
    lake = DuckDbLake(path, rules=rules, retention=Retention(history_days=30))
    lake.store(batch(raw("a", n=1)))
    lake.store(batch(raw("a", n=2)))
    assert lake.compact() == 0
    age(path, 31)
    assert lake.compact() == 1
    (left,) = lake.versions("contacts", "a", 9).to_pylist()
    assert left["_valid_to"] is None, "the present version stays, however old"


def test_tidying_drops_once_a_day(path: Path) -> None:
    lake = busy_lake(path, Retention(changes_days=7))
    read_to(lake, 5)
    lake.tidy()
    age(path, 8)
    lake.tidy()
    assert len(feed(lake)) == 5, "it was tidied today"
    with duckdb.connect(str(path)) as file:
        file.execute("UPDATE counters SET value = value - 1 WHERE name = 'tidied_on'")
    lake.tidy()
    assert feed(lake) == LAST


# --- compaction ----------------------------------------------------------------------------------


def contents(lake: DuckDbLake) -> tuple[object, ...]:
    tables = ("records.contacts", "changes", "cursors", "counters", "declarations", "offsets")
    return tuple(lake.select(f"SELECT * FROM {table}").to_pylist() for table in tables)


def filled(path: Path, rows: int = 60_000) -> DuckDbLake:
    lake = DuckDbLake(path, schemas={"contacts": {"properties": {"n": {"type": "integer"}}}})
    lake.store(batch(*(raw(f"r{n}", n=n, text=f"{n * 7919:060d}") for n in range(rows)), cursor=1))
    return lake


def leave_a_hole(path: Path) -> None:
    """Make the file mostly free, with something at its end, so that DuckDB can't cut it off."""
    with duckdb.connect(str(path)) as file:
        file.execute("CREATE TABLE bulk AS SELECT random() AS x, i FROM range(2_000_000) r(i)")
        file.execute("CREATE TABLE after_it AS SELECT random() AS x FROM range(200_000)")
    with duckdb.connect(str(path)) as file:
        file.execute("DROP TABLE bulk")


def test_a_file_of_few_records_stays_small_however_often_it_is_written(path: Path) -> None:
    lake = DuckDbLake(path)
    for number in range(40):
        lake.store(batch(raw("a", n=number), cursor=number))
    lake.close()
    assert path.stat().st_size < 5 * 2**20


def test_compaction_keeps_everything_and_gives_back_room(path: Path) -> None:
    lake = filled(path)
    leave_a_hole(path)
    before, size = contents(lake), path.stat().st_size
    lake.compact()
    assert contents(lake) == before
    assert path.stat().st_size < size / 1.5
    assert sorted(p.name for p in path.parent.iterdir()) == ["acme.duckdb", "acme.duckdb.lock"]
    lake.store(batch(raw("new", n=1)))
    assert lake.select("SELECT count(*) AS n FROM records.contacts").to_pylist() == [{"n": 60_001}]


def test_a_file_that_is_mostly_free_is_compacted_by_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_lake, "COMPACT_BYTES", 1)
    lake = filled(path, 1_000)
    inode = path.stat().st_ino
    lake.tidy()
    assert path.stat().st_ino == inode, "there's nothing to gain"
    leave_a_hole(path)
    before, size = contents(lake), path.stat().st_size
    assert size > 8_000_000, "DuckDB didn't cut the file itself"
    lake.tidy()
    assert path.stat().st_ino != inode
    assert path.stat().st_size < size / 2
    assert contents(lake) == before


def test_a_compaction_that_fails_leaves_no_half_of_a_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(path, 1_000)
    before = contents(lake)

    def full(*_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lake_file, "put_in_place", full)
    with pytest.raises(OSError, match="No space left"):
        lake.compact()
    assert sorted(p.name for p in path.parent.iterdir()) == ["acme.duckdb", "acme.duckdb.lock"]
    assert contents(lake) == before


def test_a_file_is_not_compacted_by_itself_where_the_disk_has_no_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_lake, "COMPACT_BYTES", 1)
    lake = filled(path, 1_000)
    leave_a_hole(path)
    inode = path.stat().st_ino
    room = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=2**20))
    lake.tidy()
    assert path.stat().st_ino == inode
    monkeypatch.undo()
    monkeypatch.setattr(duckdb_lake, "COMPACT_BYTES", 1)
    lake.tidy()
    assert path.stat().st_ino != inode


COMPACT = """
import sys
from pathlib import Path
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
lake = DuckDbLake(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    lake.compact()
"""


def test_a_compaction_that_is_killed_loses_nothing(path: Path) -> None:
    lake = filled(path, 20_000)
    before = contents(lake)
    for moment in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", COMPACT, str(path)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.037 * moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert contents(DuckDbLake(path)) == before
    lake.store(batch(raw("more")))
    lake.compact()
    assert not path.with_name("acme.duckdb.new").exists()


# --- a scan of a million records -----------------------------------------------------------------


def test_the_difference_of_a_million_records_takes_bounded_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_file, "MEMORY_MB", 64)
    lake = DuckDbLake(path)
    lake.store(batch(raw("000"), raw("x"), scan="s"))
    with duckdb.connect(str(path)) as file:
        file.execute(
            "INSERT INTO records.contacts SELECT md5(i::VARCHAR), '{}', 0, now()::TIMESTAMP, "
            "now()::TIMESTAMP, NULL, 'r' FROM range(1_000_000) r(i)"
        )
        file.execute(
            "INSERT INTO scans SELECT 'contacts', 's', md5(i::VARCHAR) FROM range(1_000_000) r(i) "
            "WHERE i % 100 <> 0"
        )
    written = path.stat().st_size
    assert lake.finish_scan("contacts", "s", 0.5, "run", expected=990_002).deleted == 10_000
    assert lake.select("SELECT current_setting('memory_limit') AS m").to_pylist()[0]["m"] == (
        "64.0 MiB"
    )
    left = lake.select("SELECT count(*) AS n FROM records.contacts WHERE _deleted_at IS NULL")
    assert left.to_pylist() == [{"n": 990_002}]
    assert lake.select("SELECT count(*) AS n FROM scans").to_pylist() == [{"n": 0}]
    assert path.stat().st_size < written * 1.5, "records that stayed weren't written again"


def test_a_commit_holds_little_of_a_large_table(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = DuckDbLake(path)
    lake.store(batch(raw("a")))
    with duckdb.connect(str(path)) as file:
        file.execute(
            "INSERT INTO records.contacts SELECT md5(i::VARCHAR), '{}', 0, now()::TIMESTAMP, "
            "now()::TIMESTAMP, NULL, 'r' FROM range(1_000_000) r(i)"
        )
    ids, mb = "SELECT max(_external_id) FROM lake.records.contacts", 2**20
    file = LakeFile(path, 5)

    def limit() -> str:
        return str(file.rows("SELECT current_setting('memory_limit')")[0][0])

    def held() -> int:
        sql = "SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'BASE_TABLE'"
        return file.number(sql)

    with file.reading("a test"):
        file.rows(ids)
        assert held() > 20 * mb, "DuckDB holds what it read"
    monkeypatch.setattr(lake_file, "LARGE_BYTES", mb)
    monkeypatch.setattr(lake_file, "SCAN_BYTES", 8 * mb)
    before = limit()
    with file.reading("a test"):
        with file.sparing():
            file.rows(ids)
            assert held() <= 8 * mb
        assert held() <= 4 * mb
        assert limit() == before
        with pytest.raises(duckdb.Error), file.sparing():
            file.rows("SELECT nothing")
        assert limit() == before
    file.close()


def test_the_room_of_a_file_is_known(path: Path) -> None:
    filled(path, 1_000)
    file = LakeFile(path, 1)
    with file.reading("look"):
        used, free = file.room()
    assert 0 < used <= path.stat().st_size
    assert free < used
    file.close()
