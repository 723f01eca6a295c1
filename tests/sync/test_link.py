"""Link: which record of the product an external record is."""

from __future__ import annotations

import json
import uuid
from typing import Any

from membrane_sync.elements.sync import Sync
from membrane_sync.ports import Owner
from membrane_sync.records import Delivery, Link, LinkKey, MappedRecord, Offset
from membrane_sync.sync.link import Linked, link, new_id
from membrane_sync.testing import MemoryDestination, MemoryLake
from tests.sync.parts import collection as any_collection
from tests.sync.parts import declared_sync, resolved, schema

OWNER = Owner("acme", "acme_app")
KEY = LinkKey("people")


def record(external_id: str, **value: Any) -> MappedRecord:
    text = json.dumps(value) if value else None
    return MappedRecord(external_id, text, f"hash of {text}", seq=1)


def run(
    lake: MemoryLake,
    *records: MappedRecord,
    destination: MemoryDestination | None = None,
    sync: Sync | None = None,
    one_to_one: bool = True,
) -> Linked:
    table = resolved(any_collection(), one_to_one=one_to_one).links
    place = destination or MemoryDestination()
    return link(lake, place, sync or declared_sync(), table, schema(), OWNER, records)


def linked(**links: str) -> MemoryLake:
    lake = MemoryLake()
    kept = [Link(external_id, app_id) for external_id, app_id in links.items()]
    lake.keep_links(KEY, kept, [], [], Offset("push:contacts"), [])
    return lake


def app_ids(result: Linked) -> dict[str, str]:
    return {delivery.external_id: delivery.app_id for delivery in result.deliveries}


def rows(*values: dict[str, Any]) -> MemoryDestination:
    destination = MemoryDestination()
    deliveries = [Delivery(f"x{i}", f"row{i}", value) for i, value in enumerate(values)]
    destination.write(schema(), OWNER, deliveries)
    return destination


def test_a_linked_record_keeps_its_row() -> None:
    result = run(linked(a="1"), record("a", email="x", id="2"))
    assert app_ids(result) == {"a": "1"}
    assert result.new == frozenset()


def test_a_key_that_the_mapping_gives_is_taken() -> None:
    result = run(MemoryLake(), record("a", email="x", id=7), record("b", email="y", id=""))
    assert app_ids(result)["a"] == "7"
    assert app_ids(result)["b"] == new_id("acme_app", "people", "b")
    assert result.new == {"a", "b"}


def test_an_equal_row_is_taken_once() -> None:
    place = rows({"email": "x"}, {"email": "y"})
    sync = declared_sync(match=["email"])
    records = [record("a", email="x"), record("b", email="x"), record("c", email="none")]
    result = run(MemoryLake(), *records, destination=place, sync=sync)
    assert app_ids(result) == {"a": "row0", "c": new_id("acme_app", "people", "c")}
    (letter,) = result.dead_letters
    assert letter.external_id == "b"
    assert "record row0 of the product is already linked to external record a" in letter.reason
    result = run(MemoryLake(), *records, destination=place, sync=sync, one_to_one=False)
    assert (app_ids(result)["a"], app_ids(result)["b"]) == ("row0", "row0")


def test_a_new_id_is_always_the_same() -> None:
    assert new_id("acme", "people", "a") == new_id("acme", "people", "a")
    others = {
        new_id(*names)
        for names in [
            ("acme", "people", "a"),
            ("acme", "people", "b"),
            ("globex", "people", "a"),
            ("acme", "deals", "a"),
        ]
    }
    assert len(others) == 4
    assert uuid.UUID(others.pop()).version == 5


def test_a_row_that_is_linked_already_is_refused_where_links_are_one_to_one() -> None:
    lake = linked(other="1")
    result = run(lake, record("a", id="1", email="x"), record("b", id="2", email="y"))
    assert app_ids(result) == {"b": "2"}
    (letter,) = result.dead_letters
    assert (letter.verb, letter.element, letter.external_id) == ("link", "contacts", "a")
    assert "record 1 of the product is already linked to external record other" in letter.reason
    assert app_ids(run(lake, record("a", id="1"), one_to_one=False)) == {"a": "1"}


def test_of_two_new_records_with_one_key_the_first_has_it() -> None:
    result = run(MemoryLake(), record("a", id="1"), record("b", id="1"))
    assert app_ids(result) == {"a": "1"}
    assert [letter.external_id for letter in result.dead_letters] == ["b"]


def test_a_record_made_anew_takes_over_from_the_one_that_is_gone() -> None:
    result = run(linked(old="1"), record("old"), record("new", id="1", email="x"))
    assert app_ids(result) == {"old": "1", "new": "1"}
    assert result.dead_letters == []


def test_a_deleted_record_is_delivered_if_it_is_linked() -> None:
    result = run(linked(a="1"), record("a"), record("unknown"))
    assert [(d.external_id, d.app_id, d.values) for d in result.deliveries] == [("a", "1", None)]
