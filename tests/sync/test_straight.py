"""Straight: what one query maps and shapes is what the scalar evaluator and `shaped` make of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import mapping as benchmark
from membrane_sync.formulas import evaluate_fields
from membrane_sync.formulas.frames import columns, text_column
from membrane_sync.project.shape import shaped
from membrane_sync.sync.straight import compile_straight
from membrane_sync.sync.template import sorted_template
from tests.formulas import test_plan
from tests.sync import test_fit
from tests.sync.test_fit import dumped

FIELDS = st.dictionaries(
    test_fit.NAMES, st.tuples(test_plan.FORMULAS, test_fit.SCHEMAS), min_size=1, max_size=4
)


def check_sound(template: Any, schema: dict[str, Any], records: list[Any]) -> list[str | None]:
    """Hold the query against both evaluators; gives its texts."""
    straight = compile_straight(sorted_template(template), schema)
    texts = [dumped(record, sort_keys=False) for record in records]
    if straight.sql:
        columns(straight.sql, text_column(texts))  # else an error would pass for nothing found
    found: list[str | None] = straight.run(text_column(texts), few=0).to_pylist()
    for record, text in zip(records, found, strict=True):
        if text is not None:
            value, errors = evaluate_fields(template, record)
            shape = shaped(value, schema)
            assert not errors and not shape.misfits and not shape.dropped
            assert dumped(shape.value) == text
    return found


@settings(max_examples=60, deadline=None)
@given(FIELDS, st.lists(test_plan.RECORDS, min_size=1, max_size=8))
def test_what_is_given_is_right(fields: dict[str, Any], records: list[dict[str, Any]]) -> None:
    template = {name: formula for name, (formula, _) in fields.items()}
    schema = {"properties": {name: part for name, (_, part) in fields.items()}}
    check_sound(template, schema, records)
    check_sound({"in": template, "x": 1}, {"properties": {"in": schema, "x": {}}}, records)


@pytest.mark.parametrize("template", [benchmark.PLAIN, benchmark.CONTACTS])
def test_a_real_mapping_is_given_whole(template: Any) -> None:
    records = [benchmark.contact(i) for i in range(500)]
    assert None not in check_sound(template, benchmark.schema_of(template), records)


TEXT = {"type": "string"}
TEMPLATE = {
    "id": {"$var": "$.id"},
    "address": {"city": {"$var": "$.city"}, "zip": {"$var": "$.zip"}},
    "name": {"$concat": ["n ", {"$var": "$.name"}]},
    "kind": "person",
    "tags": {"$var": "$.tags"},
}
SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "address": {"type": "object", "properties": {"city": TEXT, "zip": TEXT}},
        "name": TEXT,
        "kind": TEXT,
        "tags": {"type": "array", "items": TEXT},
        "unused": TEXT,
    },
    "required": ["id"],
}


def test_values_are_brought_into_their_types() -> None:
    given = {"id": "7", "name": 5, "zip": 4051, "tags": ["a"]}
    expected = '{"address":{"zip":"4051"},"id":7,"kind":"person","name":"n 5","tags":["a"]}'
    assert check_sound(TEMPLATE, SCHEMA, [given]) == [expected]


@pytest.mark.parametrize(
    "record",
    [{}, {"id": None}, {"id": "7a"}, {"id": 1, "tags": [1]}, {"id": 1, "city": []},
     {"id": 1, "name": [1]}, {"id": 1, "city": "\x01"}, {"id": 1, "zip": 1e300}],
)  # fmt: skip
def test_what_needs_a_look_is_left(record: Any) -> None:
    assert check_sound(TEMPLATE, SCHEMA, [record]) == [None]


@pytest.mark.parametrize(
    ("more", "template"),
    [
        ({"additionalProperties": True}, {}),
        ({}, {"unknown": 1}),
        ({"required": ["unused"]}, {}),
        ({"properties": {**SCHEMA["properties"], "unused": {"default": 1}}}, {}),
        ({"properties": {**SCHEMA["properties"], "name": {"readOnly": True}}}, {}),
        ({"properties": {**SCHEMA["properties"], "name": {"pattern": "n"}}}, {}),
        ({}, {"name": {"$firstName": "Ada L"}}),
        ({}, {"address": {"$var": "$.address"}}),
    ],
)  # fmt: skip
def test_what_one_query_can_not_do_has_none(more: dict[str, Any], template: Any) -> None:
    assert compile_straight(sorted_template({**TEMPLATE, **template}), {**SCHEMA, **more}).sql == ""


def test_a_required_field_of_an_object_is_asked_for_only_with_the_object() -> None:
    address = {**SCHEMA["properties"]["address"], "required": ["city"]}  # type: ignore[index]
    schema = {"properties": {**SCHEMA["properties"], "address": address}}  # type: ignore[dict-item]
    found = check_sound(
        TEMPLATE, schema, [{"id": 1}, {"id": 1, "zip": "z"}, {"id": 1, "city": "c"}]
    )
    assert [text is None for text in found] == [False, True, False]
    assert json.loads(found[2] or "")["address"] == {"city": "c"}
