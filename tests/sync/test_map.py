"""Map: formulas and types give the product's record, or say which field can't be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import mapping as benchmark
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.formulas import MISSING, FieldError
from membrane_sync.records import Batch, Change, RawRecord, Report
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.map import MOST_NAMES, import_records, map_stream
from membrane_sync.sync.mapper import Mapper, exporter, importer, map_texts, map_values
from membrane_sync.sync.template import lineage_rows
from membrane_sync.testing import MemoryLake
from tests.formulas import test_plan
from tests.sync import test_fit
from tests.sync.parts import collection, mapping, schema

EMAIL = mapping(email={"$var": "$.email"})
LONGER = mapping(email={"$concat": [{"$var": "$.email"}, {"$var": "$.more"}]})


def import_record(
    of: FieldMapping, to: DataSchema | None, record: dict[str, Any]
) -> tuple[Any, Sequence[FieldError]]:
    """What a sync makes of one record, and what failed."""
    (found,) = map_values(importer(of, to), [record])
    assert (found.text is None) == bool(found.errors)
    return (None if found.text is None else json.loads(found.text)), found.errors


def test_fields_the_schema_does_not_know_are_dropped_and_named() -> None:
    wide = mapping(email={"$var": "$.email"}, extra={"$var": "$.email"})
    (found,) = map_values(importer(wide, schema()), [{"email": "a"}])
    assert (found.text, found.dropped) == ('{"email":"a"}', {"extra"})
    assert import_record(wide, None, {"email": "a"})[0] == {"email": "a", "extra": "a"}


def test_defaults_and_required_fields() -> None:
    of = schema(properties={"email": {}, "stage": {"default": "lead"}}, required=["email"])
    assert import_record(EMAIL, of, {"email": "a"}) == ({"email": "a", "stage": "lead"}, ())
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
        Change(3, "both", "created", json.dumps({"email": "x", "score": "2026-01-02"})),
    ]
    found = import_records(importer(bad, schema()), "people", changes)
    assert [record.external_id for record in found.records] == ["good"]
    assert [(x.external_id, x.field, x.value) for x in found.dead] == [
        ("bad", "email", '"x"'),
        ("bad", "score", '"y"'),
        ("both", "email", '"x"'),
        ("both", "score", '"2026-01-02"'),
    ]
    assert all(x.verb == "map" and x.element == "people" for x in found.dead)
    assert json.loads(found.dead[0].formula) == {"$extractDate": {"$var": "$.email"}}
    assert "$extractDate" in found.dead[2].reason, "the formula fails"
    assert "should be integer" in found.dead[3].reason, "its value doesn't fit"


def test_no_value_of_a_sensitive_field_is_kept() -> None:
    hidden = {"type": "integer", "isSensitive": True}
    of = schema(properties={"a": hidden, "b": hidden, "c": {"properties": {"d": hidden}}})
    bad = mapping(a={"$var": "$.a"}, b={"$extractDate": {"$var": "$.a"}}, c={"d": {"$var": "$.a"}})
    change = Change(1, "x", "created", json.dumps({"a": "planted-4711"}))
    found = import_records(importer(bad, of), "people", [change])
    assert [letter.field for letter in found.dead] == ["b", "a", "c"]
    assert "planted" not in str(found.dead)
    open_schema = schema(properties={"a": {"type": "integer"}})
    assert "planted" in str(import_records(importer(bad, open_schema), "people", [change]).dead)


def test_a_mapping_that_gives_no_object_is_a_dead_letter() -> None:
    whole = FieldMapping.model_validate({"key": "m", "import_value": {"$var": "$.name"}})
    for record in ({"name": "text"}, {"other": 1}):
        _, (error,) = import_record(whole, None, record)
        assert error.reason == "the mapping gives no object"


@pytest.mark.parametrize(
    ("value", "why"),
    [("\ud800", "half a surrogate pair"), (float("inf"), "JSON compliant")],
)
def test_what_can_not_be_kept_as_json_is_a_dead_letter(value: Any, why: str) -> None:
    both = mapping(x={"$var": "$.x"}, y={"$var": "$.y"})
    _, (error,) = import_record(both, None, {"x": value, "y": 1})
    assert why in error.reason and error.value is MISSING
    assert (error.field, error.formula) == ("x", {"$var": "$.x"})


def test_a_name_that_can_not_be_kept_is_the_whole_records() -> None:
    half = "\ud800"
    whole = FieldMapping.model_validate({"key": "m", "import_value": {"$var": "$"}})
    _, (error,) = import_record(whole, None, {half: half})
    assert error.field == "" and "half a surrogate pair" in error.reason


def test_a_value_that_is_nested_too_deeply_is_a_dead_letter() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    _, (error,) = import_record(
        mapping(x={"$var": "$.x"}), schema(properties={"x": {}}), {"x": deep}
    )
    assert "deeper than Python can follow" in error.reason


def test_a_dead_letter_holds_text_that_can_be_stored() -> None:
    changes = [Change(1, "a", "created", '{"x": "\\ud800"}')]
    of = schema(properties={"x": {"type": "integer"}})
    (letter,) = import_records(importer(mapping(x={"$var": "$.x"}), of), "people", changes).dead
    assert letter.value.encode() == b'"?"'


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
    found = import_records(importer(EMAIL, schema()), "people", [*changes, gone])
    assert [(r.external_id, r.value) for r in found.records] == [
        ("a", '{"email":"a"}'),
        ("b", None),
    ]


@settings(max_examples=300, deadline=None)
@given(
    test_plan.TEMPLATES | test_plan.FORMULAS,
    st.just({}) | test_fit.SCHEMAS | test_fit.SCHEMAS.map(lambda x: {"properties": {"f": x}}),
    st.lists(test_plan.RECORDS, min_size=1, max_size=8),
)
def test_many_records_become_what_each_becomes_by_itself(
    template: Any, of: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    mapper = Mapper(template, of)
    texts = [json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records]
    together = map_texts(mapper, texts, few=0)
    for fast, slow in zip(together, map_values(mapper, records), strict=True):
        assert repr(fast.errors) == repr(slow.errors) and fast.dropped == slow.dropped
        text = slow.text and json.dumps(
            json.loads(slow.text), sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
        assert fast.text == text


@pytest.mark.parametrize("template", [benchmark.PLAIN, benchmark.CONTACTS])
def test_records_that_fit_are_not_shaped_one_by_one(
    template: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [benchmark.encode(benchmark.contact(i)) for i in range(1_000)]
    expected = list(map_texts(Mapper(template, benchmark.schema_of(template)), texts, few=9_999))
    monkeypatch.setattr("membrane_sync.sync.mapper.shaped", None)
    found = map_texts(Mapper(template, benchmark.schema_of(template)), texts)
    assert [one.text for one in found] == [one.text for one in expected]


# --- export --------------------------------------------------------------------------------------

EXPORT = FieldMapping.model_validate(
    {
        "key": "m",
        "export_value": {name: {"$var": f"$.{name}"} for name in ("email", "name", "id", "at")},
        "default_export_value": "not taken",
    }
)


def exported(**more: Any) -> tuple[Any, set[str]]:
    """What is sent to a collection of this kind, and what is left out."""
    fields = {"email": {"type": "string"}, "name": {}, "at": {}, "id": {"readOnly": True}}
    of = collection(fields_schema={"type": "object", "properties": fields}, **more)
    (found,) = map_values(exporter(EXPORT, of), [{"email": 5, "name": "n", "id": "i", "at": 1}])
    assert found.text is not None
    return json.loads(found.text), set(found.dropped)


@pytest.mark.parametrize(
    ("methods", "sent"),
    [
        ({}, {"email", "name", "at"}),
        ({"create": {}}, {"email", "name", "at"}),
        ({"create": {"fields": ["email"]}}, {"email"}),
        ({"create": {"fields": ["email"]}, "update": {"fields": ["name"]}}, {"email", "name"}),
        ({"create": {"excluded_fields": ["at"]}}, {"email", "name"}),
        ({"create": {"excluded_fields": ["at"]}, "update": {}}, {"email", "name", "at"}),
        ({"create": {"fields": ["email", "at"], "excluded_fields": ["at"]}}, {"email"}),
        ({"create": {"fields": ["id", "email"]}}, {"email"}),
    ],
)
def test_an_export_gives_what_the_collection_takes(methods: dict[str, Any], sent: set[str]) -> None:
    declared = {name: {"method": "POST", "path": "/x", **more} for name, more in methods.items()}
    value, dropped = exported(**declared)
    assert set(value) == sent
    assert dropped == {"email", "name", "id", "at"} - sent
    assert value["email"] == "5", "in the collection's types"


def test_an_export_to_a_collection_without_a_schema_obeys_its_lists() -> None:
    create = {"method": "POST", "path": "/x", "excluded_fields": ["at"]}
    record = {"email": "e", "name": "n", "id": "i", "at": 1}
    (found,) = map_values(exporter(EXPORT, collection(create=create)), [record])
    assert json.loads(found.text or "") == {"email": "e", "name": "n", "id": "i"}
    (found,) = map_values(exporter(EXPORT, None), [record])
    assert json.loads(found.text or "") == record


# --- size ----------------------------------------------------------------------------------------


def test_ten_thousand_fields(tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(10_000)]
    wide = mapping(**{name: {"$var": f"$.{name}"} for name in names})
    of = schema(properties={name: {"type": "integer"} for name in names})
    lake = DuckDbLake(tmp_path / "lake.duckdb")
    payload = json.dumps({name: str(n) for n, name in enumerate(names)})
    lake.store(Batch("contacts", [RawRecord("a", payload)]))
    report = Report()
    map_stream(lake, "people", "contacts", wide, of, "v1", report)
    (row,) = lake.mapped("people", 0, 9)
    lake.close()
    assert report.mapped == 1
    assert json.loads(row.value or "") == {name: n for n, name in enumerate(names)}


@pytest.mark.parametrize("depth", [200, 5_000])
def test_a_deeply_nested_formula_gives_a_result_or_says_so(depth: int) -> None:
    formula: Any = {"$var": "$.email"}
    for _ in range(depth):
        formula = {"$concat": [formula]}
    value, errors = import_record(mapping(email=formula), schema(), {"email": "a"})
    if depth == 200:
        assert (value, errors) == ({"email": "a"}, ())
    else:
        assert "nested more than" in errors[0].reason


# --- a stream ------------------------------------------------------------------------------------


def stored(*records: dict[str, Any]) -> MemoryLake:
    lake = MemoryLake()
    raw = [RawRecord(r["id"], json.dumps(r)) for r in records]
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
    lake.store(Batch("contacts", [RawRecord("a", '{"email": "new"}')]))
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
    lake.store(Batch("contacts", [RawRecord("a", "{}", deleted=True)]))
    run(lake)
    assert values(lake) == {"a": None}


def test_long_streams_are_mapped_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("membrane_sync.sync.map.BATCH", 2)
    lake = stored(*({"id": f"r{i}", "email": f"{i}"} for i in range(5)))
    assert run(lake).mapped == 5
    assert lake.offset("map:people").seq == 5


def test_the_report_names_what_was_dropped_and_no_more_than_fits() -> None:
    lake = stored({"id": "a", "email": "a"}, {"id": "b", "email": "b"})
    wide = mapping(email={"$var": "$.email"}, zip="1", **{"more": {"city": "x"}})
    assert run(lake, wide).dropped_fields == ["more", "zip"]
    assert run(lake, wide).dropped_fields == [], "nothing was mapped"
    many = mapping(email="a", **{f"x{n}": n for n in range(300)})
    assert len(run(lake, many, "v2").dropped_fields) == MOST_NAMES


def test_a_misfit_of_a_mapping_that_is_one_formula_names_it() -> None:
    schema = DataSchema(key="x", schema={"properties": {"age": {"type": "integer"}}})
    mapping = FieldMapping(key="x", import_value={"$var": "$"})
    (found,) = map_values(importer(mapping, schema), [{"age": "old"}])
    assert [(error.field, error.formula) for error in found.errors] == [("age", {"$var": "$"})]


def test_a_copied_field_reads_what_the_other_one_does() -> None:
    full = {"$concat": [{"$var": "$.n"}, {"$var": "$.m"}]}
    value = {
        "a": {"b.c": full},
        "l": [{"$copy": "$.a"}, {"$var": "$.k"}],
        "x": {"y": {"$copy": r"$.a.b\.c"}},
        "z": 1,
    }
    rows = lineage_rows(FieldMapping(key="x", import_value=value))
    assert {row.field: row.reads for row in rows} == {
        "a.b.c": ("$.m", "$.n"),
        "l": ("$.k", "$.m", "$.n"),
        "x.y": ("$.m", "$.n"),
        "z": (),
    }
    (row,) = lineage_rows(FieldMapping(key="x", import_value={"$mergeObjects": [{"$copy": "$.a"}]}))
    assert (row.field, row.reads) == ("$", ())
