"""Push: rows and links, poison, deletions, and crashes between the two databases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import DestinationError
from membrane_sync.ports import Owner
from membrane_sync.records import LinkKey, MappedRecord, Offset, Report
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
) -> Report:
    report = Report()
    table = resolved(collection()).links
    to = to or schema()
    link_and_push(lake, destination, sync or declared_sync(), table, to, OWNER, report)
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


def test_nothing_to_do_touches_nothing() -> None:
    lake = MemoryLake()
    keep(lake, a={"email": "a"})
    run(lake, MemoryDestination())
    writes = lake.writes

    class Untouched(MemoryDestination):
        def prepare(self, schema: DataSchema) -> None:
            raise AssertionError("nothing is to be written")

    report = run(lake, Untouched())
    assert (report.delivered, lake.writes) == (0, writes)


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
