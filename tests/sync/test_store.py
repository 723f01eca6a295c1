"""Store: small pages are committed together, each group with its last cursor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from membrane_sync.records import Batch, DeadLetter, RawRecord, Report, StoreCounts
from membrane_sync.sync import store as module
from membrane_sync.sync.pull import Pulled
from membrane_sync.sync.store import finish_scan, new_scan, store
from membrane_sync.testing import MemoryLake


class Noting(MemoryLake):
    """A lake that notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    def store(self, batch: Batch) -> StoreCounts:
        self.batches.append(batch)
        return super().store(batch)


def page(*ids: str, cursor: Any = None, dead: int = 0) -> Pulled:
    letters = [DeadLetter("pull", "contacts", f"dead{i}", "", "bad") for i in range(dead)]
    raw = [RawRecord(i, "{}") for i in ids]
    return Pulled(len(ids) + dead, Batch("contacts", raw, cursor, "run", "", letters))


def test_small_pages_are_one_commit_with_the_last_cursor() -> None:
    lake, report = Noting(), Report()
    store([page("a", cursor=1), page("b", cursor=2, dead=1), page("a")], lake, report)
    (batch,) = lake.batches
    assert [raw.external_id for raw in batch.records] == ["a", "b", "a"]
    assert (batch.cursor, batch.run_id, len(batch.dead_letters)) == (2, "run", 1)
    assert (report.pages, report.pulled, report.created, report.failed) == (3, 4, 2, 1)
    assert report.cursor_to == "2"


def test_a_commit_holds_only_so_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_ROWS", 3)
    lake = Noting()
    store([page("a", "b"), page("c"), page("d"), page("e", "f"), page("g")], lake, Report())
    assert [len(batch.records) for batch in lake.batches] == [3, 3, 1]


def test_a_commit_holds_only_so_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_BYTES", 5)
    lake = Noting()
    store([page("a", "b"), page("c"), page("d"), page("e")], lake, Report())
    assert [len(batch.records) for batch in lake.batches] == [3, 2]


def test_a_commit_waits_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 100, 1))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(times)))
    monkeypatch.setattr(module, "FLUSH_SECONDS", 2.0)
    lake = Noting()
    store([page("a"), page("b"), page("c")], lake, Report())
    assert [len(batch.records) for batch in lake.batches] == [2, 1]


def test_nothing_pulled_is_nothing_stored() -> None:
    lake = Noting()
    store([], lake, Report())
    assert lake.batches == []


@pytest.mark.parametrize("rows", [1, 2, 20_000])
def test_what_was_committed_before_a_failure_stays(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(module, "FLUSH_ROWS", rows)

    def pages() -> Iterator[Pulled]:
        for number, name in enumerate("abc"):
            yield page(name, cursor=number)
        raise RuntimeError("the line went dead")

    lake, report = Noting(), Report()
    with pytest.raises(RuntimeError, match="the line went dead"):
        store(pages(), lake, report)
    assert (set(lake.records("contacts")), lake.cursor("contacts")) == ({*"abc"}, 2)
    assert [raw.external_id for batch in lake.batches for raw in batch.records] == [*"abc"]
    assert (report.pulled, report.created, report.cursor_to) == (3, 3, "2")


def test_a_bad_record_on_many_pages_is_one_dead_letter_a_field() -> None:
    lake = Noting()
    store([page("a", dead=1), page("b", dead=2), page("c", dead=1)], lake, Report())
    assert [letter.external_id for letter in lake.dead_letters] == ["dead0", "dead1"]


@pytest.mark.parametrize("rows", [1, 20_000])
def test_a_record_that_comes_again_and_is_well_has_no_dead_letter(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Wherever a commit ends: a record may be mended while the list is read."""
    monkeypatch.setattr(module, "FLUSH_ROWS", rows)
    lake = Noting()
    store([page("dead0", "a", dead=2), page("dead0"), page("b", dead=0)], lake, Report())
    assert [letter.external_id for letter in lake.dead_letters] == ["dead1"]


def test_it_says_whether_all_that_came_has_an_id() -> None:
    nameless = Pulled(1, Batch("contacts", []), named=False)
    assert store([page("a"), page("b")], MemoryLake(), Report())
    assert not store([page("a"), nameless, page("b")], MemoryLake(), Report())


def test_progress_names_the_verb_and_the_numbers_so_far() -> None:
    heard: list[tuple[str, int, int]] = []
    store(
        [page("a"), page("b")],
        MemoryLake(),
        Report(),
        lambda verb, report: heard.append((verb, report.pages, report.created)),
    )
    assert heard == [("pull", 1, 0), ("pull", 2, 0), ("store", 2, 2)]


def test_the_end_of_a_scan_counts_what_it_deleted() -> None:
    lake, report, scan = MemoryLake(), Report(), new_scan()
    lake.store(Batch("contacts", [RawRecord(i, "{}") for i in "abc"]))
    lake.store(Batch("contacts", [RawRecord(i, "{}") for i in "ab"], scan=scan))
    finish_scan(lake, "contacts", scan, 0.5, "run", report)
    assert report.deleted == 1
    assert new_scan() != scan
