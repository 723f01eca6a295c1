"""Push: rows and links, poison, deletions, and crashes between the two databases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import DestinationError, Fatal
from membrane_sync.ports import Outcome, Owner
from membrane_sync.records import Delivery, LinkKey, MappedRecord, Offset, Report
from membrane_sync.sync.push import link_and_push
from membrane_sync.testing import MemoryDestination, MemoryLake
from tests.sync.parts import collection, declared_sync, resolved, schema

OWNER = Owner("acme", "acme_app")
KEY = LinkKey("people")


def keep(lake: MemoryLake, **values: Any) -> None:
    """Mapped records by external id; None for a deleted one."""
    records = [
        MappedRecord(i, None if v is None else json.dumps(v), json.dumps(v))
        for i, v in values.items()
    ]
    lake.keep_mapped("contacts", records, [], Offset("map:contacts"), {})


def run(
    lake: MemoryLake,
    destination: MemoryDestination,
    sync: Sync | None = None,
    to: DataSchema | None = None,
    links: str = "people",
    *,
    look: bool = True,
) -> Report:
    report = Report()
    table = resolved(collection()).links.model_copy(update={"key": links})
    to = to or schema()
    link_and_push(lake, destination, sync or declared_sync(), table, to, OWNER, report, look=look)
    return report


def emails(destination: MemoryDestination) -> list[str]:
    return sorted(row["email"] for row in destination.rows("contacts"))


def test_rows_and_links_are_written_and_counted() -> None:
    lake, destination = MemoryLake(), MemoryDestination()
    keep(lake, a={"email": "a"}, b={"email": "b"})
    report = run(lake, destination)
    assert (report.linked, report.delivered, report.removed, report.failed) == (2, 2, 0, 0)
    assert emails(destination) == ["a", "b"]
    links = lake.links(KEY, ["a", "b"])
    assert {link.app_id for link in links.values()} == {
        row["id"] for row in destination.rows("contacts")
    }
    assert links["a"].app_hash == '{"email": "a"}'
    keep(lake, a={"email": "new"})
    report = run(lake, destination)
    assert (report.linked, report.delivered) == (0, 1)
    assert emails(destination) == ["b", "new"]


class Watched(MemoryDestination):
    """Says what it was asked to write, and refuses to be prepared once its table is unfit."""

    def __init__(self) -> None:
        super().__init__()
        self.fit = True
        self.batches: list[list[str]] = []

    def prepare(self, schema: DataSchema) -> None:
        if not self.fit:
            raise DestinationError("table 'contacts' has no column 'email'")
        super().prepare(schema)

    def write(
        self,
        schema: DataSchema,
        owner: Owner,
        deliveries: Sequence[Delivery],
        *,
        soft: bool = False,
    ) -> Outcome:
        self.batches.append([delivery.external_id for delivery in deliveries])
        return super().write(schema, owner, deliveries, soft=soft)

    def drop(self) -> None:
        self._tables.clear()


def test_nothing_to_do_writes_nothing() -> None:
    lake, destination = MemoryLake(), Watched()
    keep(lake, a={"email": "a"})
    run(lake, destination)
    writes = lake.writes
    report = run(lake, destination)
    assert (report.delivered, lake.writes, destination.batches) == (0, writes, [["a"]])


def test_a_table_that_no_longer_fits_is_said_even_if_nothing_changed() -> None:
    lake, destination = MemoryLake(), Watched()
    keep(lake, a={"email": "a"})
    run(lake, destination)
    destination.fit = False
    with pytest.raises(DestinationError, match="no column 'email'"):
        run(lake, destination)


def test_a_poison_row_is_a_dead_letter_and_has_no_link() -> None:
    lake = MemoryLake()
    destination = MemoryDestination(lambda row: "too bad" if row["email"] == "bad" else None)
    keep(lake, a={"email": "a"}, p={"email": "bad"}, b={"email": "b"})
    report = run(lake, destination)
    assert (report.delivered, report.linked, report.failed) == (2, 2, 1)
    assert [(x.verb, x.external_id, x.reason) for x in lake.dead_letters] == [
        ("push", "p", "too bad")
    ]
    assert "p" not in lake.links(KEY, ["a", "p"])
    keep(lake, p={"email": "mended"})
    assert run(lake, destination).linked == 1
    assert lake.dead_letters == []
    assert emails(destination) == ["a", "b", "mended"]


def test_what_was_refused_is_tried_again_when_its_cause_may_be_gone() -> None:
    lake, destination = MemoryLake(), MemoryDestination(lambda _: "the table is too narrow")
    keep(lake, a={"email": "a"}, b={"email": "b", "id": "a-key"})
    run(lake, destination)
    assert run(lake, destination).failed == 2
    destination.refuses = lambda row: "still" if row["email"] == "b" else None
    report = run(lake, destination)
    assert (report.delivered, report.linked, report.failed) == (1, 1, 1)
    assert [(x.external_id, x.reason) for x in lake.dead_letters] == [("b", "still")]
    keep(lake, b=None, c={"email": "c", "id": "a-key"})
    assert (run(lake, destination).failed, lake.dead_letters) == (0, [])
    writes = lake.writes
    run(lake, destination)
    assert lake.writes == writes


def test_a_record_whose_row_was_another_s_gets_it_when_that_one_is_gone() -> None:
    lake, destination = MemoryLake(), MemoryDestination()
    keep(lake, a={"email": "a", "id": "1"}, b={"email": "b", "id": "1"})
    run(lake, destination)
    assert [letter.external_id for letter in lake.dead_letters] == ["b"]
    keep(lake, a=None)
    run(lake, destination)
    assert (emails(destination), lake.dead_letters) == (["b"], [])


def test_an_update_that_is_refused_keeps_its_link() -> None:
    lake = MemoryLake()
    destination = MemoryDestination(lambda row: "too bad" if row["email"] == "bad" else None)
    keep(lake, a={"email": "a"})
    run(lake, destination)
    keep(lake, a={"email": "bad"})
    run(lake, destination)
    assert set(lake.links(KEY, ["a"])) == {"a"}
    assert emails(destination) == ["a"]


@pytest.mark.parametrize(
    ("delete", "rows_left", "removed"), [("hard", 0, 1), ("soft", 1, 1), ("ignore", 1, 0)]
)
def test_deletions_follow_the_policy(delete: str, rows_left: int, removed: int) -> None:
    lake, destination = MemoryLake(), MemoryDestination()
    to = schema(table={"deleted_column": "gone_at"})
    sync = declared_sync(delete=delete)
    keep(lake, a={"email": "a"})
    run(lake, destination, sync, to)
    keep(lake, a=None)
    report = run(lake, destination, sync, to)
    rows = destination.rows("contacts")
    assert len(rows) == rows_left
    assert all((row["gone_at"] is not None) == (delete == "soft") for row in rows)
    assert (report.removed, report.unlinked, report.delivered) == (removed, 1, 0)
    assert lake.links(KEY, ["a"]) == {}
    keep(lake, a={"email": "back"})
    run(lake, destination, sync, to)
    assert [(row["email"], row["gone_at"]) for row in destination.rows("contacts")] == [
        ("back", None)
    ]


def test_what_cannot_work_is_said_before_anything_is_written() -> None:
    lake = MemoryLake()
    keep(lake, a={"email": "a"})
    with pytest.raises(DestinationError, match="no deleted_column"):
        run(lake, MemoryDestination(), declared_sync(delete="soft"))
    bare = DataSchema.model_validate({"key": "contacts", "schema": {}})
    with pytest.raises(DestinationError, match="names no table"):
        run(lake, MemoryDestination(), to=bare)
    assert lake.links(KEY, ["a"]) == {}


def test_another_table_gets_all_records() -> None:
    lake, destination = MemoryLake(), MemoryDestination()
    keep(lake, a={"email": "a"}, b={"email": "b"})
    run(lake, destination)
    report = run(lake, destination, to=schema(table={"name": "people"}))
    assert (report.delivered, report.linked) == (2, 0)
    assert len(destination.rows("people")) == 2


def test_a_table_that_was_dropped_or_emptied_is_filled_again() -> None:
    lake, destination = MemoryLake(), Watched()
    keep(lake, a={"email": "a"}, b={"email": "b"}, c={"email": "c"})
    run(lake, destination)
    keep(lake, a=None)
    run(lake, destination)
    before = destination.rows("contacts")
    destination.drop()
    # Another connection's sync was the first to make the table again.
    other = Owner("globex", "globex_app")
    destination.write(schema(), other, [Delivery("x", "x", {"email": "theirs"})])
    report = run(lake, destination)
    assert (report.delivered, report.linked, report.failed) == (2, 0, 0)
    assert [row for row in destination.rows("contacts") if row["tenant"] == "acme"] == before
    assert run(lake, destination).delivered == 0


def test_who_does_not_look_finds_a_dropped_table_with_the_next_change() -> None:
    lake, destination = MemoryLake(), Watched()
    keep(lake, a={"email": "a"}, b={"email": "b"})
    run(lake, destination)
    destination.drop()
    assert run(lake, destination, look=False).delivered == 0
    keep(lake, c={"email": "c"})
    assert run(lake, destination, look=False).delivered == 3
    destination.drop()
    assert run(lake, destination).delivered == 3


def test_a_crash_while_a_table_is_filled_again_forgets_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("membrane_sync.sync.push.BATCH", 2)
    for at in range(1, 5):
        lake, destination = Crashing(99), Watched()
        keep(lake, **{f"r{i}": {"email": f"{i}"} for i in range(5)})
        run(lake, destination)
        destination.drop()
        lake.at = at
        with pytest.raises(Crash):
            run(lake, destination)
        run(lake, destination)
        assert len(emails(destination)) == 5


def test_a_table_whose_records_were_all_deleted_stays_empty() -> None:
    lake, destination = MemoryLake(), Watched()
    keep(lake, a={"email": "a"})
    run(lake, destination)
    keep(lake, a=None)
    run(lake, destination)
    written = len(destination.batches)
    run(lake, destination)
    assert (len(destination.batches), destination.rows("contacts")) == (written, [])


def test_another_database_gets_all_records() -> None:
    lake, destination = MemoryLake(), MemoryDestination()
    keep(lake, a={"email": "a"}, b={"email": "b"})
    run(lake, destination)
    destination.place = "another, with a copy of the rows"
    assert run(lake, destination).delivered == 2


def test_a_link_table_with_links_cannot_be_renamed() -> None:
    lake, destination = MemoryLake(), MemoryDestination()
    keep(lake, a={"email": "a"})
    run(lake, destination)
    with pytest.raises(
        Fatal, match="has its links in link table 'people', and now names 'persons'"
    ):
        run(lake, destination, links="persons")
    assert emails(destination) == ["a"]
    keep(lake, a={"email": "a2"})
    run(lake, destination)
    assert emails(destination) == ["a2"]
    keep(lake, a=None)
    run(lake, destination)
    keep(lake, b={"email": "b"})
    run(lake, destination, links="persons")
    assert emails(destination) == ["b"]


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_where_a_batch_ends_makes_no_difference_to_match(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("membrane_sync.sync.push.BATCH", batch)
    lake, destination = MemoryLake(), MemoryDestination()
    destination.write(schema(), OWNER, [Delivery("", "0", {"email": "there"})])
    sync = declared_sync(match=["email"])
    keep(lake, a={"email": "there"}, b={"email": "there"}, c={"email": "new"}, d={"email": "new"})
    run(lake, destination, sync)
    assert [letter.external_id for letter in lake.dead_letters] == ["b", "d"]
    keep(lake, a={"email": "moved"}, e={"email": "there"}, f={"email": "moved"})
    run(lake, destination, sync)
    assert {letter.external_id for letter in lake.dead_letters} == {"b", "d", "f"}
    assert emails(destination) == ["moved", "new", "there"]
    assert {i: link.app_id for i, link in lake.links(KEY, list("af")).items()} == {"a": "0"}


def test_long_feeds_are_written_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membrane_sync.sync.push.BATCH", 2)
    lake, destination = MemoryLake(), MemoryDestination()
    keep(lake, **{f"r{i}": {"email": f"{i}"} for i in range(5)})
    assert run(lake, destination).delivered == 5


class Crash(Exception):
    """The process is gone."""


class Crashing(MemoryLake):
    """A lake whose process dies before it writes links for the n-th time."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def keep_links(self, *arguments: Any) -> None:
        self.at -= 1
        if self.at == 0:
            raise Crash
        super().keep_links(*arguments)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "afterwards", [{}, {"b": None}, {"b": None, "c": {"email": "c", "id": "B"}}]
)
def test_a_crash_between_the_databases_leaves_no_trace(at: int, afterwards: dict[str, Any]) -> None:
    def outcome(lake: MemoryLake) -> Any:
        destination = MemoryDestination()
        steps = [{"a": {"email": "a"}}, {"b": {"email": "b", "id": "B"}, "a": {"email": "a2"}}]
        for step in [*steps, afterwards]:
            keep(lake, **step)
            try:
                run(lake, destination)
            except Crash:
                continue
        run(lake, destination)
        links = {i: link.app_id for i, link in lake.links(KEY, list("abc")).items()}
        return destination.rows("contacts"), links, lake.dead_letters

    assert outcome(Crashing(at)) == outcome(MemoryLake())
