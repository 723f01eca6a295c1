"""Lookups of a sync: answered from the lake, a batch at a time, and asked again until found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.formulas.lookups import SchemaQuestion, Unanswerable
from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import Names
from membrane_sync.records import Batch, Link, LinkKey, Offset, Report
from membrane_sync.sync.lookup import Answering
from membrane_sync.sync.map import map_stream
from membrane_sync.testing import MemoryLake
from tests.stores.records import raw
from tests.sync.parts import mapping

BOSS = mapping(name={"$var": "$.name"}, boss={"$findAppRecordId": {"recordId": {"$var": "$.boss"}}})
OWNER = {"type": "string", "referenceCollection": {"key": "users"}}
OWNED = mapping(
    owner={"$lookup": {"query": {"email": {"$var": "$.owner"}, "team.id": {"$var": "$.team"}}}}
)


def store(lake: Lake, stream: str, *records: Any) -> None:
    lake.store(Batch(stream, records, run_id="r"))


def link(lake: Lake, table: str, direction: str = "import", **ids: str) -> None:
    links = [Link(external, app, direction=direction) for external, app in ids.items()]
    lake.keep_links(LinkKey(table, direction=direction), links, (), (), Offset("push:other"), ())


def run(lake: Lake, of: Any, to: DataSchema | None = None, names: Names | None = None) -> Report:
    report = Report()
    answering = Answering(lake, names or Names(), "people")
    map_stream(lake, "people", "contacts", of, to, "v1", report, find=answering)
    return report


def values(lake: Lake) -> dict[str, Any]:
    mapped = lake.mapped("people", 0, 100)
    return {r.external_id: json.loads(r.value) for r in mapped if r.value is not None}


def test_links_of_the_syncs_own_table(lake: Lake) -> None:
    store(lake, "contacts", raw("1", name="Ada", boss=7), raw("2", name="Bob"))
    link(lake, "people", **{"7": "app-7"})
    link(lake, "others", **{"7": "wrong"})
    run(lake, BOSS)
    assert values(lake) == {"1": {"name": "Ada", "boss": "app-7"}, "2": {"name": "Bob"}}


def test_a_record_that_asked_in_vain_is_mapped_again_until_it_finds(lake: Lake) -> None:
    store(lake, "contacts", raw("1", name="Ada", boss=7), raw("2", name="Bob"))
    assert run(lake, BOSS).mapped == 2
    assert values(lake)["1"] == {"name": "Ada"}
    assert run(lake, BOSS).mapped == 0
    link(lake, "people", **{"7": "app-7"})
    assert run(lake, BOSS).mapped == 1
    assert values(lake)["1"] == {"name": "Ada", "boss": "app-7"}
    assert lake.waiting("people", "contacts", "", 10) == []


def test_a_record_that_waits_and_is_deleted_waits_no_more(lake: Lake) -> None:
    store(lake, "contacts", raw("1", name="Ada", boss=7))
    run(lake, BOSS)
    store(lake, "contacts", raw("1", deleted=True))
    assert [c.payload for c in lake.waiting("people", "contacts", "", 10)] == [None]
    run(lake, BOSS)
    assert (values(lake), lake.waiting("people", "contacts", "", 10)) == ({}, [])


def test_each_direction_first_asks_its_own_links(lake: Lake) -> None:
    link(lake, "people", "import", **{"7": "in"})
    link(lake, "people", "export", **{"7": "out", "8": "back"})
    both = mapping(
        app={"$findAppRecordId": {"recordId": {"$var": "$.id"}}},
        ours={"$findExternalRecordId": {"recordId": {"$var": "$.ours"}}},
    )
    store(lake, "contacts", raw("7", ours="in"), raw("8", ours="out"))
    run(lake, both)
    assert values(lake) == {"7": {"app": "in", "ours": "7"}, "8": {"app": "back", "ours": "7"}}


def test_records_are_found_by_their_fields(lake: Lake) -> None:
    to = DataSchema.model_validate({"key": "c", "schema": {"properties": {"owner": OWNER}}})
    store(
        lake,
        "users",
        raw("u2", email="ada@x.org", team={"id": 5}),
        raw("u1", email="ada@x.org", team={"id": 6}),
        raw("u3", email="bob@x.org", team={"id": 5}, deleted=False),
        raw("u4", email=None, team={"id": 5}),
    )
    store(lake, "users", raw("u3", deleted=True))
    records = [("ada@x.org", 5), ("ada@x.org", "6"), ("bob@x.org", 5), ("", 5), ("null", 5)]
    store(lake, "contacts", *(raw(f"c{n}", owner=o, team=t) for n, (o, t) in enumerate(records)))
    store(lake, "contacts", raw("c9", team=5))
    report = run(lake, OWNED, to)
    found = {i: value.get("owner") for i, value in values(lake).items()}
    assert found == {"c0": "u2", "c1": "u1"}
    assert report.failed == 4, "a mapping that gives nothing is a dead letter, as ever"


def test_a_collection_that_was_never_read_is_an_error_until_it_is(lake: Lake) -> None:
    to = DataSchema.model_validate({"key": "c", "schema": {"properties": {"owner": OWNER}}})
    of = mapping(owner={"$lookup": {"query": {"email": {"$var": "$.owner"}}}})
    store(lake, "contacts", raw("1", owner="ada@x.org"))
    users = DataCollection.model_validate({"key": "users", "list": {"path": "/u", "records": "$"}})
    assert run(lake, of, to, Names(collection=lambda _: users)).failed == 1
    store(lake, "users", raw("u1", email="ada@x.org"))
    assert run(lake, of, to).mapped == 1
    assert values(lake) == {"1": {"owner": "u1"}}


def test_schemas_of_the_project() -> None:
    users = DataCollection.model_validate(
        {"key": "users", "fields_schema": {"title": "User"}, "list": {"path": "/", "records": "$"}}
    )
    names = Names({"users": users}.get, {"people": {"title": "Person"}}.get)
    questions = [
        SchemaQuestion("data-collection", "users", ""),
        SchemaQuestion("internal-data-schema", "people", ""),
        SchemaQuestion("data-collection", "people", ""),
    ]
    found = Answering(MemoryLake(), names)(questions)
    assert [found[question] for question in questions[:2]] == [
        {"title": "User"},
        {"title": "Person"},
    ]
    assert isinstance(found[questions[2]], Unanswerable)


class Counting(MemoryLake):
    """Counts the questions that reach the lake."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def links(self, key: LinkKey, external_ids: Sequence[str]) -> Any:
        self.asked.append(len(external_ids))
        return super().links(key, external_ids)


def test_a_batch_is_answered_by_one_query_for_each_table_and_direction() -> None:
    lake = Counting()
    store(lake, "contacts", *(raw(str(n), name="x", boss=n + 1) for n in range(1_000)))
    run(lake, BOSS)
    assert lake.asked == [1_000, 1_000]


def test_records_that_fail_ask_no_more() -> None:
    lake = Counting()
    store(lake, "contacts", *(raw(str(n), name="x", boss=n, at="soon") for n in range(500)))
    dated = mapping(at={"$extractDate": {"$var": "$.at"}}, **BOSS.import_value)
    assert run(lake, dated).failed == 500
    assert lake.asked == [500, 500]
