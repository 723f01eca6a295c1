"""What holds for every formula, tried on made-up ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from membrane_sync.formulas import (
    MISSING,
    OPERATORS,
    FormulaError,
    check,
    clock,
    evaluate,
    evaluate_fields,
    variables,
)
from membrane_sync.formulas.filters import COMPARISONS, FILTERS
from membrane_sync.formulas.javascript import deep_equal, loose_equal, to_string
from membrane_sync.formulas.locators import parse, text_of


@pytest.fixture(autouse=True, scope="module")
def _the_same_time() -> Iterator[None]:
    with clock.at(datetime(2024, 5, 7, 4, tzinfo=UTC)):
        yield


NAMES = st.sampled_from(["a", "b", "x.y", "", "item", "parent", "index", "values", "$copy"])
LOCATORS = st.sampled_from(["$", "a", "$.b", r"$.x\.y", "$.a[0]", "$.item", "$.parent.a", "$.["])
DATES = st.sampled_from(["2024-05-07", "2024-05-07T04:00:00Z", "05/07/2024 4:00 PM", "2024-02-30"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | DATES | LOCATORS
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)


VALUES = st.recursive(SCALARS, _containers, max_leaves=8)


def _formulas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.fixed_dictionaries(
        {},
        optional={
            "values": st.lists(inner, max_size=3) | inner,
            "template": st.just("{a}") | inner,
            "delimiter": inner,
            "value": inner,
            "default": inner,
            "mapping": st.lists(st.fixed_dictionaries({"from": inner, "to": inner}), max_size=2),
            "cases": st.lists(
                st.fixed_dictionaries({"filter": inner | FILTER, "value": inner}), max_size=2
            ),
            "source": st.lists(inner, max_size=2) | inner,
            "item": inner,
            "id": inner,
        },
    )
    args = inner | st.lists(inner, max_size=3) | named
    operators = st.sampled_from(sorted(OPERATORS)).flatmap(
        lambda name: st.builds(lambda a: {name: a}, args)
    )
    comparisons = st.builds(
        lambda name, value, operand: {"$eval": value, name: operand},
        st.sampled_from([*COMPARISONS, "nope"]),
        inner,
        inner,
    )
    return operators | comparisons | _containers(inner)


FILTER = st.lists(
    st.fixed_dictionaries(
        {"field": LOCATORS, "operator": st.sampled_from([*FILTERS, "nope"]), "value": VALUES}
    )
    | SCALARS,
    max_size=2,
)
FORMULAS = st.recursive(
    SCALARS | LOCATORS.map(lambda locator: {"$var": locator}), _formulas, max_leaves=12
)
SCOPES = st.dictionaries(NAMES, VALUES, max_size=4) | VALUES


def outcome(formula: Any, scope: Any, strict: bool = True) -> str:
    try:
        return repr(evaluate(formula, scope, strict))
    except FormulaError as error:
        return f"fails: {error}"


@settings(max_examples=600, deadline=None)
@given(FORMULAS, SCOPES, st.booleans())
def test_nothing_but_formula_errors_and_no_changes(formula: Any, scope: Any, strict: bool) -> None:
    before = repr(formula), repr(scope)
    first = outcome(formula, scope, strict)
    assert (repr(formula), repr(scope)) == before
    assert outcome(formula, scope, strict) == first


@settings(max_examples=300, deadline=None)
@given(FORMULAS, SCOPES)
def test_field_by_field_agrees_with_the_whole(formula: Any, scope: Any) -> None:
    value, errors = evaluate_fields(formula, scope)
    whole = outcome(formula, scope)
    if errors:
        assert whole.startswith("fails: ")
        names = {"$", *map(str, formula)} if isinstance(formula, dict) else {"$"}
        assert {error.field for error in errors} <= names
    else:
        assert repr(value) == whole


@settings(max_examples=300, deadline=None)
@given(FORMULAS, st.dictionaries(NAMES, VALUES, max_size=4))
@example({"$formula": {"$plain": {"$var": "a"}}}, {"a": 1})
@example({"$formula": {"$findAppRecordId": {"$var": "$"}}}, {"a": None})
@example({"$formula": {"$iterate": {"$var": "a"}}}, {"a": 1})
@example({"$formula": {"$iterate": {"source": {"$tpl": {"$var": "a"}}}}}, {"a": 1})
def test_only_the_variables_matter(formula: Any, scope: dict[str, Any]) -> None:
    read = [parse(locator) for locator in variables(formula)]
    names = {steps[0] if steps else None for steps in read}
    needed = {key: item for key, item in scope.items() if None in names or key in names}
    assert outcome(formula, needed) == outcome(formula, scope)


@settings(max_examples=300, deadline=None)
@given(FORMULAS)
def test_check_and_variables_take_anything(formula: Any) -> None:
    assert all(problem.message for problem in check(formula))
    assert all(text_of(parse(locator)) == locator for locator in variables(formula))


@given(VALUES)
def test_a_value_without_operators_is_itself(value: Any) -> None:
    assert repr(evaluate({"$plain": value}, {})) == repr(value)
    assert repr(evaluate({"$var": "$"}, value)) == repr(value)


@given(st.lists(st.text() | st.integers(min_value=0), max_size=4))
def test_locators_can_be_written_and_read_back(steps: list[str | int]) -> None:
    steps = [step if isinstance(step, str) else step % 2**32 for step in steps]
    assert parse(text_of(steps)) == tuple(steps)


@given(SCALARS, SCALARS)
def test_equality_is_mutual(one: Any, other: Any) -> None:
    assert loose_equal(one, other) == loose_equal(other, one)
    assert deep_equal(one, other) == deep_equal(other, one)
    assert deep_equal(one, copy.deepcopy(one))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_that_number(number: float) -> None:
    assert float(to_string(number)) == number


def test_missing_as_a_scope_is_no_scope() -> None:
    assert evaluate({"$var": "$.a"}, MISSING) is MISSING
