"""infer_schema() and lineage() say what a mapping gives without running it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given, settings

from membrane_sync.formulas import MISSING, OPERATORS, FormulaError, evaluate_fields, variables
from membrane_sync.formulas.inference import _RULES, infer_schema, lineage, merged
from tests.formulas.test_properties import FORMULAS
from tests.formulas.test_vectors import VECTORS

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BOOLEAN = {"type": "boolean"}
FIRST = {"type": "string", "title": "First"}
LINE = {"type": "object", "properties": {"q": NUMBER, "tags": {"type": "array", "items": STRING}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "first": FIRST,
        "n": INTEGER,
        "x": NUMBER,
        "any": {},
        "lines": {"type": "array", "items": LINE},
        "o": {"type": "object", "properties": {"k": BOOLEAN}, "additionalProperties": STRING},
        "either": {"anyOf": [{"type": "object", "properties": {"k": STRING}}, STRING]},
    },
}
V = {name: {"$var": f"$.{name}"} for name in SCHEMA["properties"]}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


INFERRED: list[tuple[Any, Any]] = [
    (V["first"], FIRST),
    ({"$var": "$"}, SCHEMA),
    ({"$var": "zz"}, {}),
    ({"$var": "a["}, {"type": "null"}),
    ({"$var": "lines[0].q"}, NUMBER),
    ({"$var": "lines.length"}, INTEGER),
    ({"$var": "lines.q"}, {}),
    ({"$var": "o.k"}, BOOLEAN),
    ({"$var": "o.other"}, STRING),
    ({"$var": "either.k"}, STRING),
    ({"$var": "any.x.y"}, {}),
    (
        {"a": V["n"], "b": 1, "c": None, "d": {}, "e": [], "f": 1.5, "g": True},
        {
            "type": "object",
            "properties": {
                "a": INTEGER,
                "b": INTEGER,
                "c": {"type": "null"},
                "d": {"type": "object", "properties": {}},
                "e": {"type": "array"},
                "f": NUMBER,
                "g": BOOLEAN,
            },
        },
    ),
    ([1, 1.5], array(NUMBER)),
    ([1, "a"], array({"anyOf": [INTEGER, STRING]})),
    ([1, V["any"]], array({})),
    ({"$concat": [V["n"]]}, STRING),
    ({"$tpl": {"template": "x"}}, STRING),
    ({"$map": {"value": 1, "mapping": [{"from": 1, "to": "x"}], "default": V["n"]}},
     {"anyOf": [STRING, INTEGER]}),
    ({"$map": {"value": 1, "mapping": [{"from": 1, "to": "x"}, {"from": 2, "to": "y"}]}}, STRING),
    ({"$case": [{"value": V["n"]}, {"value": V["x"]}]}, NUMBER),
    ({"$case": {"cases": [{"value": {"a": 1}}], "default": {"b": "x"}}},
     {"type": "object", "properties": {"a": INTEGER, "b": STRING}}),
    ({"$eval": 1, "is": 1}, BOOLEAN),
    ({"$firstNotEmpty": [V["first"], None, "x"]}, STRING),
    ({"$firstNotEmpty": V["lines"]}, LINE),
    ({"$mergeObjects": [{"a": 1, "c": 1}, {"b": V["n"], "c": "x"}]},
     {"type": "object", "properties": {"a": INTEGER, "c": STRING, "b": INTEGER}}),
    ({"$mergeObjects": [{"a": 1}, V["any"]]}, {"type": "object"}),
    (
        {
            "$iterate": {
                "source": V["lines"],
                "item": {
                    "x": {"$var": "item.q"},
                    "p": {"$var": "parent.first"},
                    "i": {"$var": "index"},
                    "t": {"$iterate": {"source": {"$var": "item.tags"}, "item": {"$var": "item"}}},
                },
            }
        },
        array({"type": "object", "properties": {"x": NUMBER, "p": FIRST, "i": INTEGER,
                                                "t": array(STRING)}}),
    ),
    ({"$plain": {"$var": "a"}}, {"type": "object", "properties": {"$var": STRING}}),
    ({"$record": {"id": 7}}, INTEGER),
    ({"$jsonata": "1 + 1"}, {}),
    ({"$formula": {"$concat": []}}, {}),
    ({"$number": "1"}, NUMBER),
    ({"$date": 1}, {"type": "string", "format": "date-time"}),
    ({"$extractDate": 1}, {"type": "string", "format": "date"}),
    ({"$split": {}}, array(STRING)),
    ({"$default": {"value": V["n"], "default": 0}}, INTEGER),
    ({"$default": {"value": V["any"], "default": 0}}, {}),
    (
        {"a": V["n"], "b": {"$copy": "a"}, "c": {"$copy": "$.b"}, "d": {"$copy": "d"}},
        {"type": "object", "properties": {"a": INTEGER, "b": INTEGER, "c": INTEGER, "d": {}}},
    ),
    ({"$nope": 1}, {"type": "object", "properties": {"$nope": INTEGER}}),
]  # fmt: skip


@pytest.mark.parametrize(("template", "schema"), INFERRED)
def test_infer_schema(template: Any, schema: Any) -> None:
    before = copy.deepcopy((template, SCHEMA))
    assert infer_schema(template, SCHEMA) == schema
    assert (template, SCHEMA) == before


def test_every_operator_that_has_a_rule_exists() -> None:
    assert set(_RULES) <= set(OPERATORS)
    assert set(OPERATORS) - set(_RULES) == {"$jsonata", "$formula", "$python"}


@pytest.mark.parametrize(
    ("schemas", "gives"),
    [
        ([], {}),
        ([{}], {}),
        ([STRING, {}], {}),
        ([INTEGER, NUMBER, INTEGER], NUMBER),
        ([FIRST, STRING], STRING),
        ([{"anyOf": [STRING, INTEGER]}, NUMBER], {"anyOf": [STRING, NUMBER]}),
        ([array(INTEGER), array(STRING)], array({"anyOf": [INTEGER, STRING]})),
        ([{"type": "array"}, array(STRING)], array(STRING)),
        ([{"type": ["string", "null"]}, STRING], {"anyOf": [{"type": ["string", "null"]}, STRING]}),
    ],
)
def test_merged(schemas: Any, gives: Any) -> None:
    assert merged(schemas) == gives


def fits(value: Any, schema: Any) -> bool:
    """Whether a value is what the schema says, as far as inference says anything."""
    if not schema:
        return True
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    kind = schema["type"]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return kind == "object" and all(fits(v, known.get(k, {})) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return kind == "array" and all(fits(item, schema.get("items", {})) for item in value)
    kinds = {bool: ["boolean"], int: ["integer", "number"], float: ["number"], str: ["string"]}
    return kind in kinds.get(type(value), ["null"])


@settings(max_examples=500, deadline=None)
@example({"$tpl": {"template": None}})
@example({"$tpl": {"template": 3}})
@example({"$tpl": {"template": "x"}})
@given(FORMULAS)
def test_what_is_inferred_holds(template: Any) -> None:
    if any(name in repr(template) for name in ("$copy", "$mergeObjects", "$record", "length")):
        return  # these work on lists and on what is missing in ways of their own
    schema = infer_schema(template, {})
    value, _ = evaluate_fields(template, {})
    assert value is MISSING or fits(value, schema), (value, schema)


@pytest.mark.parametrize("mapping", VECTORS["templates"])
def test_public_mappings_have_a_schema(mapping: str) -> None:
    for template in VECTORS["templates"][mapping].values():
        if isinstance(template, dict) and not next(iter(template), "").startswith("$"):
            schema = infer_schema(template, {"type": "object"})
            assert list(schema["properties"]) == list(template)


READS: list[tuple[Any, dict[str, set[str]]]] = [
    ({"a": {"$var": "x.y"}, "b": 1}, {"a": {"$.x.y"}, "b": set()}),
    ({"a": {"b": {"$var": "x"}, "c": [{"$var": "y"}, 1]}},
     {"a.b": {"$.x"}, "a.c[0]": {"$.y"}, "a.c[1]": set()}),
    ({"a.b": {"$var": "x"}}, {r"a\.b": {"$.x"}}),
    ({"$var": "x"}, {"$": {"$.x"}}),
    ([{"$var": "x"}], {"[0]": {"$.x"}}),
    ({"l": {"$iterate": {"source": {"$var": "ls"}, "item": {"q": {"$var": "parent.p"}}}}},
     {"l": {"$.ls", "$.p"}}),
    ({"a": {"$jsonata": "x"}}, {"a": {"$"}}),
    ({"a": {"$jsonata": {"expression": "x", "input": {"x": {"$var": "y"}}}}}, {"a": {"$.y"}}),
    ({"a": {"x": {"$var": "y"}, "z": 1}, "b": {"$copy": "a.x"}, "c": {"$copy": "a"}},
     {"a.x": {"$.y"}, "a.z": set(), "b": {"$.y"}, "c": {"$.y"}}),
    ({"a": {"$copy": "b"}, "b": {"$copy": "a"}}, {"a": set(), "b": set()}),
    ({"a": {"$copy": "b.c"}, "b": {"$var": "x"}}, {"a": {"$.x"}, "b": {"$.x"}}),
    ({}, {"$": set()}),
    (5, {"$": set()}),
]  # fmt: skip


@pytest.mark.parametrize(("template", "reads"), READS)
def test_lineage(template: Any, reads: dict[str, set[str]]) -> None:
    assert lineage(template) == reads


@settings(max_examples=200, deadline=None)
@given(FORMULAS)
def test_lineage_reads_what_the_template_reads(template: Any) -> None:
    assert set().union(*lineage(template).values()) == variables(template)


def test_too_deep_is_an_error() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(FormulaError, match="nested more than"):
        infer_schema(deep, {})
    wide = {f"f{i}": {"$var": f"x{i}"} for i in range(10_000)}
    assert len(lineage(wide)) == len(infer_schema(wide, {})["properties"]) == 10_000


def test_references_are_followed() -> None:
    known = {
        "address": {"properties": {"city": {"$ref": "schemas/city"}, "up": {"$ref": "address"}}},
        "city": {"type": "string", "title": "City"},
    }
    schema = {"properties": {"at": {"$ref": "address"}, "all": {"items": {"$ref": "city"}}}}
    template = {
        "city": {"$var": "$.at.city"},
        "up": {"$var": "$.at.up.city"},
        "all": {"$iterate": {"source": {"$var": "$.all"}, "item": {"$var": "$.item"}}},
        "none": {"$var": "$.gone"},
    }
    found = infer_schema(template, schema, known.get)["properties"]
    assert found == {
        "city": known["city"],
        "up": {},
        "all": {"type": "array", "items": known["city"]},
        "none": {},
    }
    assert infer_schema({"$var": "$.x"}, {"properties": {"x": {"$ref": "nobody"}}}) == {}
