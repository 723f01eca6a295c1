"""check() finds what is wrong before a formula runs; variables() finds what it reads."""

from __future__ import annotations

from typing import Any

import pytest

from membrane_sync.formulas import OPERATORS, FormulaError, Problem, check, variables
from membrane_sync.formulas.check import _EVALUATED
from membrane_sync.formulas.shapes import SHAPES

V = {"$var": "$.a"}

WRONG: list[tuple[Any, tuple[str | int, ...], str]] = [
    ({"$concta": [V]}, (), "$concta is no operator; did you mean $concat?"),
    ({"a": [{"$firstname": V}]}, ("a", 0), "did you mean $firstName?"),
    ({"$concat": [{"$zzzzzz": 1}]}, ("$concat", 0), "$zzzzzz is no operator; $plain keeps it"),
    ({"$var": "$.a["}, ("$var",), "has a [ without its ]"),
    ({"$var": "$.a[-1]"}, ("$var",), "[-1] is not an index"),
    ({"$var": "$a"}, ("$var",), "where . or [ should be"),
    ({"$var": ""}, ("$var",), "a locator is empty"),
    ({"$var": 5}, ("$var",), "$var needs a locator"),
    ({"x": {"$copy": 5}}, ("x", "$copy"), "$copy needs a locator"),
    ({"$record": {"name": "x"}}, ("$record",), "$record needs an id"),
    ({"$findAppRecordId": {}}, ("$findAppRecordId",), "needs a recordId"),
    (
        {"$findExternalRecordId": {"recordId": V, "dataLinkTabel": {}}},
        ("$findExternalRecordId", "dataLinkTabel"),
        "knows no dataLinkTabel; did you mean dataLinkTable?",
    ),
    (
        {"$findAppRecordId": {"recordId": V, "dataLinkTable": 5}},
        ("$findAppRecordId", "dataLinkTable"),
        "needs a dataLinkTable with a key",
    ),
    ({"$lookup": {"query": {}}}, ("$lookup", "query"), "$lookup needs a query"),
    ({"$lookup": {"querry": {"a": 1}}}, ("$lookup", "querry"), "did you mean query?"),
    ({"$dataSchemaRef": {"type": "x", "key": "k"}}, ("$dataSchemaRef", "type"), "needs a type"),
    ({"$tpl": "Hi {n}"}, ("$tpl",), "$tpl needs a template"),
    ({"$tpl": {"template": "Hi", "values": 5}}, ("$tpl", "values"), "$tpl needs values by name"),
    ({"$concat": "ab"}, ("$concat",), "$concat needs a list of values, or values:"),
    ({"$concat": {"delimiter": "-"}}, ("$concat",), "$concat needs a list of values"),
    ({"$concat": V}, ("$concat",), "$concat needs a list of values"),
    ({"$map": {"value": V}}, ("$map",), "$map needs a mapping, a list of from and to"),
    ({"$map": {"value": V, "mappings": []}}, ("$map",), "(it says mappings)"),
    ({"$map": {"mapping": []}}, ("$map",), "$map needs a value"),
    ({"$map": {"value": V, "mapping": [{"to": 1}]}}, ("$map", "mapping", 0), "needs from and to"),
    ({"$case": 5}, ("$case",), "$case needs a list of cases"),
    ({"$case": {"cases": [{}]}}, ("$case", "cases", 0), "a case needs a value"),
    ({"$case": [{"filter": {"$evl": 1}, "value": 1}]}, ("$case", 0, "filter"), "mean $eval?"),
    ({"$eval": V}, (), "$eval needs a comparison beside it: is, isNot"),
    ({"$eval": V, "isnt": 1}, ("isnt",), "'isnt' is no comparison; did you mean isNot?"),
    ({"$eval": V, "is": {"$vra": "a"}}, ("is",), "did you mean $var?"),
    ({"$eval": V, "oneOf": 5}, ("oneOf",), "oneOf needs a list"),
    ({"$and": True}, ("$and",), "$and needs a list"),
    ({"$or": {"a": 1}}, ("$or",), "$or needs a list"),
    ({"$firstNotEmpty": "x"}, ("$firstNotEmpty",), "$firstNotEmpty needs a list"),
    ({"$mergeObjects": {"a": 1}}, ("$mergeObjects",), "$mergeObjects needs a list"),
    ({"$iterate": {"locator": "$.a", "items": 1}}, ("$iterate",), "needs a source and an item"),
    ({"$iterate": {"source": 5, "item": 1}}, ("$iterate", "source"), "a source that is a list"),
    ({"$formula": {"$vra": "a"}}, ("$formula",), "did you mean $var?"),
]

FILTER_WRONG = [
    ({"field": "$.a[", "operator": "is"}, "has a [ without its ]"),
    ({"operator": "is"}, "a condition's field needs a locator"),
    ({"field": "$.a", "operator": "is_nott"}, "'is_nott' is no filter operator; did you mean"),
    (None, "a condition's field needs a locator"),
]

RIGHT: list[Any] = [
    None,
    "text",
    {"a": [1, {"b": {}}], "c": V},
    {"$concat": {"values": V, "delimiter": ", "}},
    {"$and": V},
    {"$plain": {"$nope": {"$var": ""}}},
    {"$tpl": {"template": "{a}", "values": {"a": V}}},
    {"$map": {"value": V, "mapping": [{"from": 1, "to": V}], "default": V}},
    {"$case": [{"filter": [{"field": "$.a", "operator": "is", "value": {"$x": 1}}], "value": 1}]},
    {"$eval": V, "oneOf": V},
    {"$iterate": {"source": V, "item": {"x": {"$var": "$.item"}}}},
    {"a": 1, "b": {"$copy": {"$concat": ["$.", "a"]}}},
    {"$record": {"id": 1}},
    {"$findAppRecordId": {"recordId": V}},
    {"$findExternalRecordId": {"recordId": V, "dataLinkTable": {"key": "people"}}},
    {"$lookup": {"query": {"email": V}, "createIfNotFound": True, "create": {"fields": {}}}},
    {"$dataSchemaRef": "people"},
    {"$dataSchemaRef": {"type": "data-collection", "key": "people", "parameters": {"a": 1}}},
]


@pytest.mark.parametrize(("formula", "path", "message"), WRONG)
def test_wrong(formula: Any, path: tuple[str | int, ...], message: str) -> None:
    found = [problem for problem in check(formula) if problem.path == path]
    assert any(message in problem.message for problem in found), check(formula)


@pytest.mark.parametrize(("condition", "message"), FILTER_WRONG)
def test_wrong_filter(condition: Any, message: str) -> None:
    problems = check({"$case": {"cases": [{"filter": [condition], "value": 1}]}})
    assert message in problems[0].message
    assert problems[0].path == ("$case", "cases", 0, "filter", 0)


@pytest.mark.parametrize("formula", RIGHT)
def test_right(formula: Any) -> None:
    assert check(formula) == []


def test_problems_come_in_the_order_written_and_read_well() -> None:
    problems = check({"b": {"$var": ""}, "a": [{"$vra": 1}]})
    assert [problem.path for problem in problems] == [("b", "$var"), ("a", 0)]
    assert str(problems[1]).startswith("a[0]: $vra is no operator")
    assert str(Problem((), "whole")) == "whole"


def test_too_deep_is_a_problem() -> None:
    formula: Any = 1
    for _ in range(5000):
        formula = [formula]
    [problem] = check(formula)
    assert "nested more than" in problem.message


def test_tables_name_only_operators() -> None:
    assert set(SHAPES) | set(_EVALUATED) <= set(OPERATORS)


READS: list[tuple[Any, set[str]]] = [
    (5, set()),
    ({"a": {"$var": "a.b"}, "b": {"$var": r"$.x\.y[0]"}}, {"$.a.b", r"$.x\.y[0]"}),
    ({"$var": "$"}, {"$"}),
    ({"$var": "$.a["}, set()),
    ({"$plain": V}, set()),
    ({"a": 1, "b": {"$copy": "a"}}, set()),
    ({"$eval": V, "is": {"$var": "b"}}, {"$.a", "$.b"}),
    ({"$tpl": {"template": "{x}", "values": {"x": V}}}, {"$.a"}),
    ({"$concat": {"values": [V], "delimiter": {"$var": "d"}}}, {"$.a", "$.d"}),
    (
        {
            "$map": {
                "value": V,
                "mapping": [{"from": {"$var": "f"}, "to": {"$var": "t"}}],
                "default": {"$var": "d"},
            }
        },
        {"$.a", "$.f", "$.t", "$.d"},
    ),
    ({"$case": [{"filter": [{"field": "f.g", "operator": "is"}], "value": V}]}, {"$.f.g", "$.a"}),
    ({"$case": {"cases": [{"filter": V, "value": 1}], "default": {"$var": "d"}}}, {"$.a", "$.d"}),
    ({"$iterate": {"source": V, "item": {"$var": "$.item.x"}}}, {"$.a"}),
    ({"$iterate": {"source": V, "item": {"$var": "$.parent.p"}}}, {"$.a", "$.p"}),
    ({"$iterate": {"source": V, "item": {"$var": "$"}}}, {"$.a", "$"}),
    ({"$iterate": {"source": V, "item": {"$var": "$.index"}}}, {"$.a"}),
    (
        {
            "$iterate": {
                "source": V,
                "item": {
                    "$iterate": {
                        "source": {"$var": "$.item.k"},
                        "item": [{"$var": "$.parent.parent.p"}, {"$var": "$.parent.item.z"}],
                    }
                },
            }
        },
        {"$.a", "$.p"},
    ),
    ({"$formula": {"$concat": [V]}}, {"$.a"}),
    ({"$lookup": {"query": {"e": V}}}, {"$.a"}),
    ({"$nope": V}, {"$.a"}),
]


@pytest.mark.parametrize(("formula", "locators"), READS)
def test_variables(formula: Any, locators: set[str]) -> None:
    assert variables(formula) == locators


def test_variables_of_too_deep() -> None:
    formula: Any = 1
    for _ in range(5000):
        formula = {"a": formula}
    with pytest.raises(FormulaError, match="nested more than"):
        variables(formula)
