"""What holds for evaluation as a whole: errors, modes, depth, and leaving its inputs alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from membrane_sync.formulas import (
    MISSING,
    FieldError,
    FormulaError,
    check,
    evaluate,
    evaluate_fields,
)

BAD_DATE = {"$extractDate": {"$var": "d"}}
FORMULA = {"x": {"$formula": {"$concat": [{"$var": "n"}]}}}


def test_missing_is_one_falsy_object() -> None:
    assert not MISSING
    assert repr(MISSING) == "MISSING"
    assert copy.deepcopy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING


def test_an_error_says_where_which_and_why_but_not_what() -> None:
    with pytest.raises(FormulaError) as raised:
        evaluate({"a": [1, {"$firstNotEmpty": [BAD_DATE]}]}, {"d": "secret"})
    error = raised.value
    assert (error.path, error.operator) == ("a[1].$firstNotEmpty[0]", "$extractDate")
    assert error.value == "secret"
    assert str(error).startswith("a[1].$firstNotEmpty[0]: $extractDate can't read this as a date")
    assert "secret" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_not_strict_is_silent_about_values_but_not_about_what_cannot_run() -> None:
    assert evaluate({"a": BAD_DATE, "b": 1}, {"d": "soon"}, strict=False) == {"b": 1}
    with pytest.raises(FormulaError):
        evaluate({"$findAppRecordId": {"recordId": 1}}, {}, strict=False)
    with pytest.raises(FormulaError):
        evaluate({"a": {"$copy": "b"}, "b": {"$copy": "a"}}, {}, strict=False)


def test_fields_fail_one_by_one() -> None:
    template = {"name": {"$var": "n"}, "due": {"x": BAD_DATE}, "none": {"$var": "q"}}
    value, [error] = evaluate_fields(template, {"n": "Ada", "d": "soon"})
    assert value == {"name": "Ada"}
    assert error == FieldError("due", template["due"], "soon", error.reason)
    assert error.reason.startswith("due.x: $extractDate can't read")


def test_fields_of_which_none_is_left() -> None:
    value, errors = evaluate_fields({"due": BAD_DATE}, {"d": "soon"})
    assert value is MISSING
    assert [error.field for error in errors] == ["due"]
    assert evaluate_fields({}, {}) == ({}, [])
    assert evaluate_fields({"a": {"$var": "q"}}, {}) == (MISSING, [])


def test_a_formula_as_template_is_one_field() -> None:
    assert evaluate_fields({"$var": "$"}, {"a": 1}) == ({"a": 1}, [])
    value, [error] = evaluate_fields(BAD_DATE, {"d": "soon"})
    assert value is MISSING
    assert (error.field, error.value) == ("$", "soon")


def test_copies_between_fields() -> None:
    template = {"a": {"x": 1}, "b": {"$copy": "a.x"}, "c": {"$copy": "d"}, "d": {"$copy": "a"}}
    value, [error] = evaluate_fields(template, {})
    assert value == {"a": {"x": 1}, "b": 1, "d": {"x": 1}}
    assert (error.field, error.formula, error.value) == ("c", {"$copy": "d"}, "d")


def test_a_copy_of_a_copy_that_fails_fails_too() -> None:
    template = {"a": {"$copy": "b"}, "b": {"$copy": "c"}, "c": 1, "d": {"$copy": "a"}}
    value, errors = evaluate_fields(template, {})
    assert value == {"b": 1, "c": 1}
    assert [error.field for error in errors] == ["a", "d"]


def test_a_copy_where_all_fields_fail() -> None:
    value, errors = evaluate_fields({"a": {"$copy": "$"}}, {})
    assert value is MISSING
    assert [error.field for error in errors] == ["a"]


def test_a_deferred_formula_does_not_remember_the_last_record() -> None:
    """Quirk 3: the template is the same after as before."""
    before = copy.deepcopy(FORMULA)
    assert evaluate(FORMULA, {"n": "first"}) == {"x": {"$concat": ["first"]}}
    assert evaluate(FORMULA, {"n": "second"}) == {"x": {"$concat": ["second"]}}
    assert before == FORMULA


def test_a_result_can_be_changed_without_changing_the_template() -> None:
    template: dict[str, Any] = {"a": {}, "b": [], "c": {"d": [1]}}
    value = evaluate(template, {})
    value["a"]["x"] = value["c"]["d"][0] = 5
    value["b"].append(1)
    assert template == {"a": {}, "b": [], "c": {"d": [1]}}


NESTS: dict[str, Callable[[Any], Any]] = {
    "$concat": lambda inner: {"$concat": [inner]},
    "$concat with values": lambda inner: {"$concat": {"values": [inner]}},
    "$firstNotEmpty": lambda inner: {"$firstNotEmpty": [inner]},
    "$lastName": lambda inner: {"$lastName": inner},
    "$tpl": lambda inner: {"$tpl": {"template": "{a}", "values": {"a": inner}}},
    "$map": lambda inner: {"$map": {"value": 1, "mapping": [{"from": 1, "to": inner}]}},
    "$case": lambda inner: {"$case": {"cases": [{"filter": True, "value": inner}]}},
    "filter": lambda inner: {"$case": [{"filter": inner, "value": "x"}]},
    "$eval": lambda inner: {"$eval": inner, "isNotEmpty": True},
    "$iterate": lambda inner: {"$iterate": {"source": [1], "item": inner}},
    "$iterate of objects": lambda inner: {"$iterate": {"source": [1], "item": {"a": inner}}},
    "$mergeObjects": lambda inner: {"$mergeObjects": [{"a": inner}]},
    "$formula": lambda inner: {"$formula": inner},
    "object": lambda inner: {"a": inner},
    "list": lambda inner: [inner],
}


def nested(nest: Callable[[Any], Any], times: int) -> Any:
    formula: Any = "x"
    for _ in range(times):
        formula = nest(formula)
    return formula


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
def test_200_deep_gives_a_result(nest: Callable[[Any], Any]) -> None:
    assert evaluate(nested(nest, 200), {}) is not MISSING


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
@pytest.mark.parametrize("strict", [True, False])
def test_5000_deep_is_an_error(nest: Callable[[Any], Any], strict: bool) -> None:
    with pytest.raises(FormulaError, match="nested more than"):
        evaluate(nested(nest, 5000), {}, strict)


@pytest.mark.parametrize("name", ["object", "list"])
def test_the_limit_is_600_levels_for_evaluate_and_check_alike(name: str) -> None:
    allowed, refused = nested(NESTS[name], 600), nested(NESTS[name], 601)
    assert repr(evaluate(allowed, {})) == repr(allowed)
    assert check(allowed) == []
    assert len(check(refused)) == 1
    with pytest.raises(FormulaError, match="600 levels"):
        evaluate(refused, {})


def test_deep_fields_fail_one_by_one() -> None:
    template = {"deep": nested(NESTS["$case"], 5000), "a": 1}
    value, [error] = evaluate_fields(template, {})
    assert (value, error.field) == ({"a": 1}, "deep")


def test_a_formula_within_itself_is_an_error() -> None:
    formula: dict[str, Any] = {"$concat": []}
    formula["$concat"].append(formula)
    with pytest.raises(FormulaError):
        evaluate(formula, {})


def test_deep_data_passes_through_and_is_an_error_as_text() -> None:
    data: Any = "x"
    for _ in range(5000):
        data = [data]
    assert evaluate({"a": {"$var": "d"}}, {"d": data})["a"] is data
    assert evaluate({"a": {"$var": "d"}, "b": {"$copy": "a"}}, {"d": data})["b"] is data
    with pytest.raises(FormulaError):
        evaluate({"$concat": [{"$var": "d"}]}, {"d": data})
