"""Map: formulas and types give the product's record, or say which field can't be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.records import Batch, Change, RawRecord, Report
from membrane_sync.sync.map import import_record, import_records, map_stream
from membrane_sync.testing import MemoryLake
from tests.sync.parts import mapping, schema

EMAIL = mapping(email={"$var": "$.email"})
LONGER = mapping(email={"$concat": [{"$var": "$.email"}, {"$var": "$.more"}]})


def one(record: dict[str, Any], **field: Any) -> Any:
    """The value of a single field of this type, or the reason why there's none."""
    value, errors = import_record(
        mapping(x={"$var": "$.x"}), schema(properties={"x": field}), record
    )
    return errors[0].reason if errors else value.get("x")


@pytest.mark.parametrize(
    ("field", "value", "result"),
    [
        ({"type": "string"}, "a", "a"),
        ({"type": "string"}, 5, "5"),
        ({"type": "string"}, True, "true"),
        ({"type": "integer"}, "12", 12),
        ({"type": "integer"}, " -12 ", -12),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "integer"}, 2**80, 2**80),
        ({"type": "number"}, "1.5e3", 1500.0),
        ({"type": "number"}, ".5", 0.5),
        ({"type": "number"}, 2, 2),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, False, False),
        ({"type": ["integer", "null"]}, None, None),
        ({"type": ["integer", "string"]}, "x", "x"),
        ({"type": "object"}, {"a": 1}, {"a": 1}),
        ({"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
        ({}, {"any": [1]}, {"any": [1]}),
        ({"type": "string", "format": "date"}, "2026-01-02", "2026-01-02"),
        ({"type": "string", "enum": ["a"]}, "a", "a"),
    ],
)
def test_values_come_into_their_type(field: dict[str, Any], value: Any, result: Any) -> None:
    assert one({"x": value}, **field) == result
    assert type(one({"x": value}, **field)) is type(result)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ({"type": "string"}, {"a": 1}, "should be string, is an object"),
        ({"type": "integer"}, "12.5", "should be integer, is text"),
        ({"type": "integer"}, 1.5, "should be integer, is a number"),
        ({"type": "integer"}, "1_000", "should be integer, is text"),
        ({"type": "integer"}, "١٢", "should be integer, is text"),
        ({"type": "integer"}, True, "should be integer, is a boolean"),
        ({"type": "number"}, "nan", "should be number, is text"),
        ({"type": "number"}, "inf", "should be number, is text"),
        ({"type": "number"}, "1e999", "should be number, is text"),
        ({"type": "boolean"}, "yes", "should be boolean, is text"),
        ({"type": ["integer", "number"]}, "x", "should be integer or number, is text"),
        ({"type": "array"}, "x", "should be array, is text"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "x"], "1: should be integer"),
        (
            {"type": "object", "properties": {"n": {"type": "integer"}}},
            {"n": "x"},
            "n: should be integer, is text",
        ),
        ({"type": "string", "format": "date"}, "2026-02-31", "is not a date"),
        ({"type": "string", "format": "date-time"}, "soon", "is not a date-time"),
        ({"type": "string", "enum": ["a", "b"]}, "c", "is not one of a, b"),
        ({"type": "string", "maxLength": 2}, "abc", "longer than 2"),
        ({"type": "string", "minLength": 2}, "a", "shorter than 2"),
        ({"type": "integer", "maximum": 5}, 6, "greater than 5"),
        ({"type": "integer", "minimum": 5}, "4", "less than 5"),
    ],
)
def test_values_that_do_not_fit_say_why(field: dict[str, Any], value: Any, reason: str) -> None:
    assert reason in one({"x": value}, **field)


def test_fields_the_schema_does_not_know_are_left_out() -> None:
    wide = mapping(email={"$var": "$.email"}, extra={"$var": "$.email"})
    assert import_record(wide, schema(), {"email": "a"}) == ({"email": "a"}, [])
    assert import_record(wide, None, {"email": "a"})[0] == {"email": "a", "extra": "a"}


def test_defaults_and_required_fields() -> None:
    of = schema(properties={"email": {}, "stage": {"default": "lead"}}, required=["email"])
    assert import_record(EMAIL, of, {"email": "a"}) == ({"email": "a", "stage": "lead"}, [])
    for record in ({"x": 1}, {"email": None}):
        _, (error,) = import_record(mapping(email={"$var": "$.email"}, k="x"), of, record)
        assert (error.field, error.value) == ("email", None)
        assert "required" in error.reason


def test_every_field_that_fails_is_a_dead_letter_and_the_rest_goes_on() -> None:
    bad = mapping(
        email={"$extractDate": {"$var": "$.email"}}, score={"$extractDate": {"$var": "$.score"}}
    )
    changes = [
        Change(1, "bad", "created", json.dumps({"email": "x", "score": "y"})),
        Change(2, "good", "created", json.dumps({"email": "2026-01-02T03:04:05Z"})),
        Change(3, "shape", "created", json.dumps({"email": "2026-01-02", "score": "2026-01-02"})),
    ]
    records, dead = import_records(bad, schema(), "people", changes)
    assert [record.external_id for record in records] == ["good"]
    assert [(x.external_id, x.field, x.value) for x in dead] == [
        ("bad", "email", '"x"'),
        ("bad", "score", '"y"'),
        ("shape", "score", '"2026-01-02"'),
    ]
    assert all(x.verb == "map" and x.element == "people" for x in dead)
    assert json.loads(dead[0].formula) == {"$extractDate": {"$var": "$.email"}}


def test_a_mapping_that_gives_no_object_is_a_dead_letter() -> None:
    whole = FieldMapping.model_validate({"key": "m", "import_value": {"$var": "$.name"}})
    for record in ({"name": "text"}, {"other": 1}):
        _, (error,) = import_record(whole, None, record)
        assert error.reason == "the mapping gives no object"


def test_the_default_formula_and_raw_fields() -> None:
    declared = FieldMapping.model_validate(
        {
            "key": "m",
            "default_import_value": {"email": {"$var": "$.email"}},
            "include_raw_fields": True,
        }
    )
    value, _ = import_record(declared, None, {"email": "a", "x": 1})
    assert value == {"email": "a", "raw_fields": {"email": "a", "x": 1}}


def test_of_a_record_only_its_present_state_is_mapped() -> None:
    payload = json.dumps({"email": "a"})
    changes = [Change(1, "a", "created", payload), Change(2, "a", "updated", payload)]
    gone = Change(3, "b", "deleted", None)
    records, _ = import_records(EMAIL, schema(), "people", [*changes, gone])
    assert [(r.external_id, r.value) for r in records] == [("a", '{"email":"a"}'), ("b", None)]


# --- a stream ------------------------------------------------------------------------------------


def stored(*records: dict[str, Any]) -> MemoryLake:
    lake = MemoryLake()
    raw = [RawRecord(r["id"], json.dumps(r), json.dumps(r)) for r in records]
    lake.store(Batch("contacts", raw))
    return lake


def run(lake: MemoryLake, of: FieldMapping = EMAIL, version: str = "v1") -> Report:
    report = Report()
    map_stream(lake, "people", "contacts", of, schema(), version, report)
    return report


def values(lake: MemoryLake) -> dict[str, Any]:
    return {r.external_id: r.value and json.loads(r.value) for r in lake.mapped("people", 0, 99)}


def test_only_what_changed_is_mapped() -> None:
    lake = stored({"id": "a", "email": "a"}, {"id": "b", "email": "b"})
    assert run(lake).mapped == 2
    writes = lake.writes
    assert run(lake).mapped == 0
    assert lake.writes == writes
    lake.store(Batch("contacts", [RawRecord("a", '{"email": "new"}', "h")]))
    assert run(lake).mapped == 1
    assert values(lake) == {"a": {"email": "new"}, "b": {"email": "b"}}


def test_another_version_maps_all_again_and_writes_what_differs() -> None:
    lake = stored({"id": "a", "email": "a"}, {"id": "b", "email": "b", "more": "!"})
    run(lake)
    last = lake.mapped("people", 0, 9)[-1].seq
    assert run(lake, LONGER, "v2").mapped == 1
    assert [record.external_id for record in lake.mapped("people", last, 9)] == ["b"]
    assert values(lake)["b"] == {"email": "b!"}


def test_a_record_that_maps_again_loses_its_dead_letters() -> None:
    lake = stored({"id": "a", "email": {"not": "text"}}, {"id": "b", "email": "b"})
    report = run(lake)
    assert (report.mapped, report.failed) == (1, 1)
    assert [letter.external_id for letter in lake.dead_letters] == ["a"]
    run(lake, mapping(email={"$var": "$.email.not"}), "v2")
    assert [letter.external_id for letter in lake.dead_letters] == ["b"]


def test_deletions_follow_through() -> None:
    lake = stored({"id": "a", "email": "a"})
    run(lake)
    lake.store(Batch("contacts", [RawRecord("a", "{}", "", deleted=True)]))
    run(lake)
    assert values(lake) == {"a": None}


def test_long_streams_are_mapped_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membrane_sync.sync.map.BATCH", 2)
    lake = stored(*({"id": f"r{i}", "email": f"{i}"} for i in range(5)))
    assert run(lake).mapped == 5
    assert lake.offset("map:people").seq == 5
