"""What a lake keeps in mind of itself is never older than the lake."""

from __future__ import annotations

from pathlib import Path

from membrane_sync.records import DeadLetter, LinkKey, Offset
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from tests.stores.records import batch, mapped_record, raw


def test_a_leased_lake_sees_all_that_it_writes(tmp_path: Path) -> None:
    lake = DuckDbLake(tmp_path / "acme.duckdb", epoch=1)
    assert lake.changes("contacts", 0, 10) == [] and lake.mapped("contacts", 0, 10) == []
    for number in range(1, 4):
        lake.store(batch(raw(f"r{number}")))
        assert [change.external_id for change in lake.changes("contacts", number - 1, 10)] == [
            f"r{number}"
        ]
        offset = Offset("map:contacts", number, "v")
        lake.keep_mapped("contacts", [mapped_record(f"r{number}", {"n": number})], [], offset, {})
        assert lake.offset("map:contacts") == offset
        assert len(lake.mapped("contacts", number - 1, 10)) == 1
    assert lake.refused("contacts", 10) == []
    letter = DeadLetter("push", "contacts", "r1", "", "no")
    pushed = Offset("push:contacts", 3, "v")
    lake.keep_links(LinkKey("people"), [], [], [letter], pushed, ["r1"])
    assert [record.external_id for record in lake.refused("contacts", 10)] == ["r1"]
    lake.close()


def test_without_a_lease_another_ones_writes_are_seen(tmp_path: Path) -> None:
    reader, writer = (DuckDbLake(tmp_path / "acme.duckdb") for _ in range(2))
    assert reader.changes("contacts", 0, 10) == []
    writer.store(batch(raw("a")))
    assert len(reader.changes("contacts", 0, 10)) == 1
    writer.store(batch(raw("b")))
    assert len(reader.changes("contacts", 1, 10)) == 1


def test_a_lake_of_before_the_feeds_reach_was_noted_is_read_whole(tmp_path: Path) -> None:
    lake = DuckDbLake(tmp_path / "acme.duckdb", epoch=1)
    lake.store(batch(raw("a")))
    with lake._file.writing("a test"):
        lake._file.execute("DELETE FROM lake.counters WHERE contains(name, '/')")
    assert len(lake.changes("contacts", 0, 10)) == 1
    lake.close()
