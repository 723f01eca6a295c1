"""transform_variables() composes mappings; fill_fields() adds what other fields can give."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from membrane_sync.formulas import MISSING, FormulaError, check, evaluate
from membrane_sync.formulas.transform import fill_fields, transform_variables
from tests.formulas.test_properties import FORMULAS, SCOPES

NATIVE: dict[str, Any] = {
    "first": {"$var": "$.given"},
    "last": {"$var": "$.family"},
    "full": {"$concat": [{"$var": "g"}, {"$var": "f"}]},
    "lit": "x",
    "nul": None,
    "addr": {"street": {"$var": "$.a.s"}, "city": "B"},
    "emails": [{"value": {"$var": "m"}}],
    "obj": {"$var": "o"},
    "esc": {"$var": r"$.a\.b"},
}
GONE = {"$var": "zz"}
FIRST, GIVEN = {"$var": "first"}, {"$var": "$.given"}

AS_MEMBRANE: list[tuple[Any, Any]] = [
    ({"$var": "$"}, NATIVE),
    (FIRST, GIVEN),
    ({"$var": "full"}, {"$concat": [{"$var": "g"}, {"$var": "f"}]}),
    ({"$var": "full.x"}, MISSING),
    ({"$var": "lit"}, "x"),
    ({"$var": "lit.x"}, MISSING),
    ({"$var": "nul"}, None),
    ({"$var": "addr"}, {"street": {"$var": "$.a.s"}, "city": "B"}),
    ({"$var": "addr.street.z[0]"}, {"$var": "$.a.s.z[0]"}),
    ({"$var": "emails[0].value"}, {"$var": "m"}),
    ({"$var": "emails[1].value"}, MISSING),
    ({"$var": r"esc.q\.r"}, {"$var": r"$.a\.b.q\.r"}),
    ({"$var": "a["}, MISSING),
    ({"$var": ""}, MISSING),
    ({"$concat": [FIRST, GONE, "-"]}, {"$concat": [GIVEN, "-"]}),
    ({"$concat": [GONE]}, MISSING),
    (
        {"$concat": {"values": [FIRST, GONE], "delimiter": " "}},
        {"$concat": {"values": [GIVEN], "delimiter": " "}},
    ),
    ({"$eval": FIRST, "is": {"$var": "last"}}, {"$eval": GIVEN, "is": {"$var": "$.family"}}),
    ({"$eval": GONE, "is": 1}, MISSING),
    ({"$eval": GONE, "isEmpty": True}, MISSING),
    (
        {
            "$case": {
                "cases": [
                    {"filter": {"$eval": FIRST, "is": 1}, "value": {"$var": "last"}},
                    {"filter": {"$eval": GONE, "is": 1}, "value": 2},
                ],
                "default": GONE,
            }
        },
        {
            "$case": {
                "cases": [{"filter": {"$eval": GIVEN, "is": 1}, "value": {"$var": "$.family"}}]
            }
        },
    ),
    ({"$case": {"cases": [{"filter": GONE, "value": 1}], "default": FIRST}}, GIVEN),
    ({"$and": [FIRST, GONE]}, {"$and": [GIVEN]}),
    ({"$and": [GONE]}, MISSING),
    ({"$firstNotEmpty": [GONE, FIRST]}, {"$firstNotEmpty": [GIVEN]}),
    ({"$iterate": {"source": GONE, "item": 1}}, MISSING),
    (
        {"$iterate": {"source": {"$var": "emails"}, "item": {"$var": "$.item.value"}}},
        {"$iterate": {"source": [{"value": {"$var": "m"}}], "item": {"$var": "$.item.value"}}},
    ),
    ({"$record": {"id": 7, "name": "x"}}, {"$record": {"id": 7, "name": "x"}}),
    ({"$copy": "first"}, {"$copy": "first"}),
    ({"$firstName": GONE}, MISSING),
    ({"$lookup": {"query": {"email": FIRST, "b": GONE}}}, {"$lookup": {"query": {"email": GIVEN}}}),
    ({"$lookup": {"query": {"email": GONE}}}, MISSING),
    ({"$mergeObjects": [{"a": GONE}, {"b": FIRST}]}, {"$mergeObjects": [{"b": GIVEN}]}),
    ({"$nope": FIRST}, {"$nope": GIVEN}),
    ({"$nope": GONE}, MISSING),
    ({"a": 1, "b": None, "c": {}, "d": []}, {"a": 1, "b": None, "c": {}, "d": []}),
    ([GONE, 2], [2]),
    ([GONE], MISSING),
    ({"$var": "first", "x": 1}, GIVEN),
    ({"$concat": [FIRST], "x": 1}, {"$concat": [GIVEN]}),
]
"""What Membrane's own transformVars gives for these, run with the same mapping."""

CORRECTED: list[tuple[Any, Any]] = [
    ({"$plain": FIRST}, {"$plain": FIRST}),
    ({"$case": [{"value": 1}]}, {"$case": [{"value": 1}]}),
    ({"$eval": {"$concat": [FIRST]}, "is": 1}, {"$eval": {"$concat": [GIVEN]}, "is": 1}),
    ({"$eval": FIRST, "is": GONE}, MISSING),
    ({"$concat": {"values": [GONE], "delimiter": " "}}, MISSING),
    (
        {"$tpl": {"template": "{a} {b}", "values": {"a": FIRST, "b": GONE}}},
        {"$tpl": {"template": "{a} {b}", "values": {"a": GIVEN, "b": None}}},
    ),
    ({"$tpl": {"template": "{b}", "values": {"b": GONE}}}, MISSING),
    ({"$map": {"value": GONE, "mapping": [{"from": 1, "to": 2}], "default": FIRST}}, GIVEN),
    ({"$map": {"value": GONE, "mapping": [{"from": None, "to": 2}], "default": 3}}, 2),
    (
        {"$map": {"value": FIRST, "mapping": [{"from": 1, "to": GONE}, {"from": GONE, "to": 1}]}},
        {"$map": {"value": GIVEN, "mapping": [{"from": 1}]}},
    ),
    ({"$formula": {"$concat": [FIRST]}}, {"$formula": {"$concat": [GIVEN]}}),
    ({"$formula": FIRST}, {"$formula": FIRST}),
    (
        {"$case": [{"filter": [{"field": "obj.k", "operator": "is", "value": 1}], "value": FIRST}]},
        {"$case": [{"filter": [{"field": "$.o.k", "operator": "is", "value": 1}], "value": GIVEN}]},
    ),
    ({"$case": [{"filter": [{"field": "full", "operator": "is"}], "value": 1}]}, MISSING),
    (
        {
            "$iterate": {
                "source": {"$var": "obj"},
                "item": [{"$var": "item.x"}, {"$var": "parent.addr"}],
            }
        },
        {
            "$iterate": {
                "source": {"$var": "o"},
                "item": [{"$var": "$.item.x"}, {"street": {"$var": "$.parent.a.s"}, "city": "B"}],
            }
        },
    ),
    ({"$findAppRecordId": {"dataLinkTable": {"key": "k"}, "recordId": GONE}}, MISSING),
    ({"$jsonata": "first"}, {"$jsonata": {"expression": "first", "input": NATIVE}}),
    ({"$default": {"value": GONE, "default": FIRST}}, GIVEN),
    ({"$default": {"value": FIRST, "default": GONE}}, GIVEN),
    ({"$split": {"value": GONE, "delimiter": ","}}, MISSING),
    ({"$date": {"value": GONE, "unit": "seconds"}}, MISSING),
    ({"$regex": {"value": FIRST, "pattern": "x"}}, {"$regex": {"value": GIVEN, "pattern": "x"}}),
    ({"$now": {}}, {"$now": {}}),
]
"""Where composing is more than Membrane does, or does not lose what it loses."""


@pytest.mark.parametrize(("template", "gives"), AS_MEMBRANE + CORRECTED)
def test_transform(template: Any, gives: Any) -> None:
    before = copy.deepcopy((template, NATIVE))
    assert transform_variables(template, NATIVE) == gives
    assert (template, NATIVE) == before


def test_the_golden_vector() -> None:
    template = {"fullName": {"$concat": [{"$var": "$.first"}, {"$var": "$.last"}]}}
    assert transform_variables(template, NATIVE) == {
        "fullName": {"$concat": [{"$var": "$.given"}, {"$var": "$.family"}]}
    }


@pytest.mark.parametrize(
    ("mapping", "gives"),
    [
        (None, {"b": 1}),
        (MISSING, {"b": 1}),
        ({}, {"b": 1, "c": {}}),
        ({"$var": "$"}, {"a": {"$var": "$.first"}, "b": 1, "c": {"$var": "$"}}),
        ({"$var": "f"}, {"a": {"$var": "$.f.first"}, "b": 1, "c": {"$var": "f"}}),
        ({"$concat": ["x"]}, {"b": 1, "c": {"$concat": ["x"]}}),
    ],
)
def test_mappings_of_other_shapes(mapping: Any, gives: Any) -> None:
    assert transform_variables({"a": FIRST, "b": 1, "c": {"$var": "$"}}, mapping) == gives


RECORD: dict[str, Any] = {
    "given": "Ada", "family": "Lovelace", "g": "A", "f": "L", "a": {"s": "Elm"}, "m": "a@b.co",
    "o": [{"x": 1}, {"x": 2, "y": [3]}], "a.b": {"q.r": 5},
}  # fmt: skip
UNIVERSAL: list[Any] = [
    {"name": {"$concat": [{"$var": "first"}, " ", {"$var": "last"}]}, "none": GONE},
    {
        "$iterate": {
            "source": {"$var": "obj"},
            "item": {"$concat": [{"$var": "item.x"}, {"$var": "parent.full"}]},
        }
    },
    {
        "$iterate": {
            "source": {"$var": "obj"},
            "item": {
                "$iterate": {
                    "source": {"$var": "item.y"},
                    "item": [
                        {"$var": "item"},
                        {"$var": "parent.parent.last"},
                        {"$var": "parent.index"},
                    ],
                }
            },
        }
    },
    {"x": {"$jsonata": "addr.street & emails[0].value"}},
    {
        "$iterate": {
            "source": {"$var": "obj"},
            "item": {"$jsonata": "$string(item.x) & parent.first"},
        }
    },
    {"$tpl": {"template": "{a}{b}!", "values": {"a": FIRST, "b": GONE}}},
    {"$map": {"value": {"$var": "lit"}, "mapping": [{"from": "x", "to": {"$var": "last"}}]}},
    {"$case": [{"filter": [{"field": "obj.x", "operator": "is", "value": 2}], "value": "two"}]},
    {"$mergeObjects": [{"$var": "addr"}, {"zip": {"$var": "esc.q\\.r"}}]},
]


@pytest.mark.parametrize("template", UNIVERSAL)
def test_composing_gives_what_one_after_the_other_gives(template: Any) -> None:
    composed = transform_variables(template, NATIVE)
    assert check(composed) == []
    assert evaluate(composed, RECORD) == evaluate(template, evaluate(NATIVE, RECORD))


@settings(max_examples=200, deadline=None)
@given(FORMULAS, SCOPES)
def test_any_formula_is_transformed(template: Any, mapping: Any) -> None:
    before = repr((template, mapping))
    transform_variables(template, mapping)
    assert repr((template, mapping)) == before


def test_deep_templates_and_wide_ones() -> None:
    deep: Any = FIRST
    for _ in range(150):
        deep = {"$firstNotEmpty": [deep]}
    assert evaluate(transform_variables(deep, NATIVE), RECORD) == "Ada"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(FormulaError, match="nested more than"):
        transform_variables(deep, NATIVE)
    wide = {f"f{i}": FIRST for i in range(10_000)}
    assert transform_variables(wide, NATIVE) == {f"f{i}": GIVEN for i in range(10_000)}


FALLBACKS: dict[str, Any] = {
    "fullName": [
        {"$concat": {"values": [{"$var": "firstName"}, {"$var": "lastName"}], "delimiter": " "}}
    ],
    "firstName": [{"$firstName": {"$var": "fullName"}}],
    "primaryEmail": [{"$var": "emails[0].value"}],
    "emails": [[{"value": {"$var": "primaryEmail"}}]],
    "address.full": [{"$concat": [{"$var": "address.street"}, {"$var": "address.city"}]}],
    "dueTime": [{"$var": "endTime"}, {"$var": "startTime"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ({"fullName": {"$var": "n"}}, {"firstName": {"$firstName": {"$var": "n"}}}),
        (
            {"firstName": {"$var": "n"}},
            {"fullName": {"$concat": {"values": [{"$var": "n"}], "delimiter": " "}}},
        ),
        ({"primaryEmail": {"$var": "m"}}, {"emails": [{"value": {"$var": "m"}}]}),
        ({"emails": {"$var": "ms"}}, {"primaryEmail": {"$var": "$.ms[0].value"}}),
        ({"startTime": {"$var": "s"}}, {"dueTime": {"$var": "s"}}),
        ({"endTime": 1, "startTime": 2}, {"dueTime": 1}),
        ({"address": {"street": "s"}}, {"address": {"street": "s", "full": {"$concat": ["s"]}}}),
        ({"address": {"$var": "a"}}, {}),
        ({"other": 1}, {}),
        ({}, {}),
    ],
)
def test_fill_fields(fields: Any, added: Any) -> None:
    before = copy.deepcopy(fields)
    assert fill_fields(fields, FALLBACKS) == {**fields, **added}
    assert fields == before


def test_a_mapping_that_is_a_formula_is_left_alone() -> None:
    assert fill_fields({"$var": "$"}, FALLBACKS) == {"$var": "$"}
    assert fill_fields(None, FALLBACKS) is None
