"""A plan gives what the scalar evaluator gives, for every record: values, errors and all."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import mapping as benchmark
from membrane_sync.formulas import MISSING, evaluate_fields
from membrane_sync.formulas.filters import COMPARISONS, FILTERS
from membrane_sync.formulas.frames import columns, text_column
from membrane_sync.formulas.plan import FEW, Mapped, Plan, compile
from tests.formulas import test_cases, test_properties
from tests.formulas.test_vectors import VECTORS

SCALE = int(os.environ.get("PLAN_EXAMPLES", "1"))
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

NAMES = ("a", "b", "c", "x.y", "length", "0", "a b", "ä", "~/", "item", "")
DATES = (
    "2024-05-07", "2024-05-07T04:00:00Z", "2024-05-06T23:00:00-05:00", "2024-05-07 04:00",
    "2024-12-31T23:59:59.999999+0130", "2024-02-30", "2024", "2024-05", "2024-05-07T24:00:00Z",
    "2024-05-07T04:00:00.1234567Z", "May 7, 2024", "0001-01-01", "9999-12-31T23:59:59-01:00",
    "2024-05-07T04:00:61Z", " 2024-05-07", "2024-1-2", "2024-05-07T04:00:00Z+02:00",
)  # fmt: skip
TEXTS = (
    "", " ", "0", "1", "1.0", "01", "-5", "+5", " 5 ", "1e3", "0x10", ".5", "5.", "12abc", "abc",
    "true", "null", "NaN", "Infinity", "Ada", "Zoë", "İ", "ß", "李", "a@b.org", "a@b@c", '"', "\\",
    "\n", "\x00", "\x1f", "\x7f", "\u2028", "\u00a0", "{a}", "[object Object]", "1,2", "'", "a'b",
    "😀", "e-5", ":1e5", "$.a", "12345678901234567890",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 5, 50, 90, 10**15, 2**53, 2**53 + 1, 2**63, 2**64, 10**20, 10**21, 10**22,
    -(10**30), 0.0, -0.0, 0.1, 1.0, 12.5, 1e-4, 1e-5, 1.5e-7, 1e15, 1e16, 1e17, 1e21, 1e22, 1e300,
    5e-324, 123456789.123456789, 2024.0,
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([*NUMBERS, *TEXTS, *DATES])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(NAMES)
    return st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)


VALUES = st.recursive(SCALARS, _containers, max_leaves=8)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "a": SCALARS | VALUES,
        "b": SCALARS | st.sampled_from(DATES),
        "c": st.lists(st.dictionaries(st.sampled_from(["a", "b"]), VALUES) | VALUES, max_size=4),
        "o": st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4),
        "x.y": VALUES,
        "": VALUES,
    },
)
STEP_TEXTS = (".a", ".b", ".c", ".o", ".length", ".0", ".ä", "[0]", "[1]", ".~/", ".", r".x\.y")
STEPS = st.lists(st.sampled_from(STEP_TEXTS), max_size=3)
LOCATORS = (
    st.sampled_from(["$.a", "$.b", "$.c", "$.o", "$", "a", r"$.x\.y", "$.o.a", "$.c[0].a", "$.["])
    | st.sampled_from(
        ["$.item", "$.item.a", "$.item.b", "$.index", "$.parent.a", "$.parent.item.a"]
    )
    | STEPS.map(lambda steps: "$" + "".join(steps))
)
VARS = LOCATORS.map(lambda locator: {"$var": locator})
LITERALS = SCALARS | st.sampled_from(
    [10**400, [10**400], [], {}, [1, "1", None, True], ["a", 0.5], {"a": 1}]
)
CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {"field": LOCATORS, "operator": st.sampled_from([*FILTERS, "nope"]), "value": LITERALS}
    ),
    max_size=2,
)


def _formulas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    listed = st.lists(inner, max_size=3)
    holds = st.builds(
        lambda value, name, operand: {"$eval": value, name: operand},
        inner,
        st.sampled_from([*COMPARISONS, "nope"]),
        LITERALS | inner,
    )
    pairs = st.lists(st.fixed_dictionaries({"from": LITERALS}, optional={"to": inner}), max_size=3)
    cases = st.lists(
        st.fixed_dictionaries({"value": inner}, optional={"filter": holds | inner | CONDITIONS}),
        max_size=3,
    )
    delimiter = st.sampled_from(["", ", ", "'", '"', "\n", None, 0, 1.5])
    return st.one_of(
        holds,
        listed.map(lambda values: {"$concat": values}),
        st.builds(
            lambda values, by: {"$concat": {"values": values, "delimiter": by}},
            listed | inner,
            delimiter,
        ),
        st.builds(
            lambda value, pairs, other: {
                "$map": {"value": value, "mapping": pairs, "default": other}
            },
            inner,
            pairs,
            inner,
        ),
        cases.map(lambda items: {"$case": items}),
        st.builds(lambda c, other: {"$case": {"cases": c, "default": other}}, cases, inner),
        st.sampled_from(["$firstNotEmpty", "$and", "$or"]).flatmap(
            lambda name: listed.map(lambda values: {name: values})
        ),
        st.builds(
            lambda text, a, b: {"$tpl": {"template": text, "values": {"a": a, "b": b}}},
            st.sampled_from(["{a}", "Dear {a} {b}!", "{{a}}", "{b}\n'{a}' \"", ""]),
            inner,
            inner,
        ),
        st.sampled_from(["$extractDate", "$extractTime", "$domainFromEmail", "$firstName"]).flatmap(
            lambda name: inner.map(lambda value: {name: value})
        ),
        st.builds(
            lambda source, item: {"$iterate": {"source": source, "item": item}},
            inner | st.just({"$var": "$.c"}),
            inner,
        ),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
        listed,
    )


FORMULAS = st.recursive(VARS | VARS | LITERALS, _formulas, max_leaves=8)
TEMPLATES = st.dictionaries(st.sampled_from(["f", "g", "h", 'q"\\', "é"]), FORMULAS, max_size=4)


def check_same(template: Any, records: list[Any]) -> tuple[Plan, Mapped]:
    plan = compile(template)
    texts = [encode(record) for record in records]
    for sql in filter(None, (plan.sql, plan.careful)):
        columns(sql, text_column(texts))
    mapped = plan.run(texts, few=0)
    for number, record in enumerate(records):
        value, errors = evaluate_fields(template, record)
        assert mapped.texts[number] == (MISSING if value is MISSING else encode(value))
        assert repr(mapped.errors.get(number, [])) == repr(errors)
    return plan, mapped


@settings(max_examples=400 * SCALE, deadline=None)
@given(TEMPLATES, st.lists(RECORDS, min_size=1, max_size=8))
def test_any_mapping_of_any_records(template: Any, records: list[Any]) -> None:
    check_same(template, records)


@settings(max_examples=200 * SCALE, deadline=None)
@given(FORMULAS, st.lists(RECORDS | VALUES, min_size=1, max_size=8))
def test_any_formula_of_any_values(template: Any, records: list[Any]) -> None:
    check_same(template, records)


@settings(max_examples=200 * SCALE, deadline=None)
@given(
    test_properties.FORMULAS.filter(lambda formula: "$now" not in repr(formula)),
    st.lists(RECORDS, min_size=1, max_size=4),
)
def test_any_template_at_all(template: Any, records: list[Any]) -> None:
    check_same(template, records)


@settings(max_examples=200 * SCALE, deadline=None)
@given(
    st.sampled_from([*COMPARISONS]), LITERALS, st.lists(SCALARS | VALUES, min_size=1, max_size=20)
)
def test_comparisons(name: str, operand: Any, values: list[Any]) -> None:
    template = {"f": {"$eval": {"$var": "$.a"}, name: {"$plain": operand}}}
    check_same(template, [{"a": value} for value in values])


@pytest.mark.parametrize(
    "operator", ["$extractDate", "$extractTime", "$domainFromEmail", "$concat"]
)
def test_operators_on_every_odd_value(operator: str) -> None:
    values = [*DATES, *TEXTS, *NUMBERS, None, True, [], {}, [1], {"a": None}]
    argument = [{"$var": "$.a"}] if operator == "$concat" else {"$var": "$.a"}
    check_same({"f": {operator: argument}}, [*({"a": value} for value in values), {}])


WRITTEN = (
    "-0", "-0.0", "1.10", "1E5", "1e+5", "1E-7", "0.00001", "10e-1", "1e16", "1e22", "1e400",
    "-1e400", "1e-400", "9007199254740993", "18446744073709551616", "1234567890123456789012345678",
    "12345678.123456789012345", "100000000000000000000.0", "123456789012345680.5", "NaN",
    "Infinity", r'"\u0041"', r'"\/"', r'"\u00e9"', '"é"', r'"\ud83d\ude00"', r'"\ud800"',
    r'"\u0000"', r'"\u000a"', r'"\u0035"', r'"\"q\""', r'"\\"', '"\u2028"', '"\ufeff"', "[ ]",
    "{ }", "[1, 2]", "[null]", "[[[[[[[[1]]]]]]]]", '{"a.b": 1}', '{"": 2}', r'{"a\u0062": 1}',
    '{"a": [1, {"k": null}]}', '[{"k": 1}, {"k": "1"}, {"k": 1e2}, {"k": null}, 5]',
    '"2024-05-07T04:00:00Z"', '"a,b"', '" 5 "', "null", "true", '"9007199254740993"',
    '"9007199254740992"', '"-9007199254740993.5"', '"9007199254740993x"', '" 9007199254740993"',
)  # fmt: skip
"""Values as apps may write them, which isn't how Python does."""

V: dict[str, Any] = {"$var": "$.v"}
OPERANDS = (5, "5", "a", None, -0.0, True, "2024-05-06", 9007199254740992, "", [1, "a"])


@pytest.mark.parametrize(
    "formulas",
    [
        pytest.param(
            [
                V, {"$concat": ["<", V, ">"]}, {"$tpl": {"template": "{a}!", "values": {"a": V}}},
                {"$map": {"value": V, "mapping": [{"from": f, "to": "to"} for f in OPERANDS]}},
                {"$and": [V, True]}, {"$or": [V]}, {"$firstNotEmpty": [V, "x"]},
                {"$mergeObjects": [{"a": 0}, V]}, {"$default": {"value": V, "default": "D"}},
                *({name: V} for name in ("$extractDate", "$extractTime", "$date", "$lower")),
                *({name: V} for name in ("$domainFromEmail", "$trim", "$number", "$boolean")),
            ],
            id="operators",
        ),
        pytest.param(
            [{"$var": f"$.v{steps}"} for steps in (
                ".a", r".a\.b", ".length", "[0]", ".0", ".", "[0].k", ".a[1].k", "[0][0][0]", ".ab",
            )]
            + [{"$iterate": {"source": V, "item": {"$var": f"$.item{steps}"}}}
               for steps in ("", ".k", ".a")],
            id="places",
        ),
        *(pytest.param([{"$eval": V, name: {"$plain": other}} for other in OPERANDS], id=name)
          for name in COMPARISONS),
        *(pytest.param([{"$case": [{"filter": [{"field": field, "operator": name, "value": other}],
                                    "value": "yes"}, {"value": "no"}]}
                        for other in OPERANDS for field in ("$.v", "$.v.k")], id=f"filter {name}")
          for name in FILTERS),
    ],
)  # fmt: skip
def test_texts_as_apps_write_them(formulas: list[Any]) -> None:
    texts = [form % text for text in WRITTEN for form in ('{"v":%s}', ' {\t"v" : %s }\n')]
    template = {f"f{i}": formula for i, formula in enumerate(formulas)}
    mapped = compile(template).run([*texts, "{}", "[]", "null"], few=0)
    for number, text in enumerate([*texts, "{}", "[]", "null"]):
        value, errors = evaluate_fields(template, json.loads(text))
        assert mapped.texts[number] == (MISSING if value is MISSING else encode(value)), text
        assert repr(mapped.errors.get(number, [])) == repr(errors), text


def by_mapping() -> list[Any]:
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for case in VECTORS["cases"]:
        groups[case["mapping"], case["direction"]].append(case["record"])
    templates = VECTORS["templates"]
    return [
        pytest.param(templates[name][f"{direction}Value"], records, id=f"{name} {direction}")
        for (name, direction), records in groups.items()
    ]


@pytest.mark.parametrize(("template", "records"), by_mapping())
def test_vectors(template: Any, records: list[Any]) -> None:
    check_same(template, records)


def test_almost_all_public_mappings_are_planned() -> None:
    unplanned = {
        (name, field)
        for name, parts in VECTORS["templates"].items()
        for part in parts.values()
        for field in compile(part).unplanned
    }
    assert {field for _, field in unplanned} <= {"firstName", "lastName"}, unplanned


@pytest.mark.parametrize(("given", "case"), test_cases.load())
def test_case(given: Any, case: dict[str, Any]) -> None:
    if "$now" in repr(case) or "datetime" in repr(case):
        pytest.skip("what it gives changes, or is no JSON")
    check_same(case["formula"], [given])
    check_same({"f": case["formula"], "g": 1}, [given])


@pytest.mark.parametrize("template", [benchmark.CONTACTS, benchmark.PLAIN])
def test_a_real_mapping_needs_no_scalar_evaluation(template: Any) -> None:
    plan, mapped = check_same(template, [benchmark.contact(i) for i in range(200)])
    assert (plan.unplanned, mapped.scalar, mapped.errors) == ((), 0, {})


def test_many_records_stay_in_their_order() -> None:
    """DuckDB would hold a value against many others by a join, which doesn't keep the order."""
    many = {"$eval": {"$var": "$.kind"}, "oneOf": [f"kind {i}" for i in range(40)]}
    fields = {"id": {"$var": "$.id"}, "known": many, "loud": {"$eval": many, "contains": "r"}}
    texts = [encode({"id": i, "kind": f"kind {i % 60}"}) for i in range(30_000)]
    expected = [{"id": i, "known": i % 60 < 40, "loud": i % 60 < 40} for i in range(30_000)]
    assert list(compile(fields).run(texts).values()) == expected


def test_one_unplannable_field_leaves_the_others_planned() -> None:
    template = {"a": {"$var": "a"}, "n": {"$firstName": {"$var": "n"}}, "b": {"$concat": [1, "b"]}}
    plan, mapped = check_same(template, [{"a": 1, "n": "Ada Lovelace"}, {"n": "Ada"}, {}])
    assert plan.unplanned == ("n",)
    assert mapped.scalar == 3
    assert mapped.texts[0] == '{"a":1,"n":"Ada","b":"1b"}'


def test_one_odd_value_leaves_only_its_field_of_its_record() -> None:
    template = {"a": {"$concat": [{"$var": "a"}]}, "b": {"$var": "b"}}
    _, mapped = check_same(template, [{"a": "x", "b": 1}, {"a": [1, 2], "b": 2}, {"a": "y"}])
    assert (mapped.scalar, mapped.texts[1]) == (1, '{"a":"1,2","b":2}')


def test_errors_are_the_scalar_evaluators() -> None:
    template = {"id": {"$var": "id"}, "on": {"$extractDate": {"$var": "d"}}}
    _, mapped = check_same(template, [{"id": 1, "d": "2024-05-07"}, {"id": 2, "d": "soon"}])
    assert mapped.texts == ['{"id":1,"on":"2024-05-07"}', '{"id":2}']
    assert [(e.field, e.value) for e in mapped.errors[1]] == [("on", "soon")]
    assert list(mapped.values()) == [{"id": 1, "on": "2024-05-07"}, {"id": 2}]


def test_copies() -> None:
    check_same({"a": {"$var": "a"}, "b": {"$copy": "$.a"}}, [{"a": 1}, {}, {"a": [1e22]}])
    plan, mapped = check_same({"b": {"$copy": "a"}, "a": {"$var": "a"}}, [{"a": 1}, {}, {"a": "x"}])
    assert (plan.unplanned, mapped.scalar) == ((), 0)
    check_same({"a": {"$extractDate": {"$var": "a"}}, "b": {"$copy": "$.a"}}, [{"a": "x"}, {}])
    check_same({"b": {"$copy": "$.a.x"}, "a": {"x": {"$var": "a"}}}, [{"a": 1}, {}])
    check_same({"b": {"$copy": "$.c"}, "c": {"$copy": "$.b"}}, [{"a": 1}, {}])


@pytest.mark.parametrize("few", [0, FEW])
def test_python_records(few: int) -> None:
    records = [{"a": float("nan")}, {"a": "\ud800"}, {"a": "\x00é"}, {"a": (1, 2)}, {"a": 1}]
    mapped = compile({"f": {"$var": "$.a"}}).run(records, few=few)
    texts = ['{"f":NaN}', '{"f":"\ud800"}', '{"f":"\\u0000é"}', '{"f":[1,2]}', '{"f":1}']
    assert mapped.texts == texts


def test_texts_that_only_python_reads() -> None:
    texts = ['{"a":"\\ud800"}', '{"a":Infinity}', ' { "a" : 1e2 }\n', '{"a":-0}', '{"a":-0.0}']
    mapped = compile({"f": {"$var": "$.a"}, "g": {"$concat": [{"$var": "a"}]}}).run(texts, few=0)
    assert [json.loads(text) for text in texts] == [
        {"a": value["f"]} for value in mapped.values() if value is not MISSING
    ]


def test_a_mapping_can_do_nothing_but_map() -> None:
    evil = "x'); CREATE TABLE t(i INT); --"
    template = {evil: {"$concat": {"values": [{"$var": f"$.{evil}"}, evil], "delimiter": evil}}}
    check_same(template, [{evil: evil}, {}])
    check_same({"a": {"$case": [{"filter": {"$eval": {"$var": "a"}, "is": evil}, "value": evil}]}},
               [{"a": evil}, {"a": "b"}])  # fmt: skip


def test_large_and_deep_mappings_take_no_time_to_plan() -> None:
    wide = {f"f{i}": {"$var": f"$.k{i}"} for i in range(10_000)}
    check_same(wide, [{f"k{i}": i for i in range(10_000)}])
    formula: Any = {"$var": "$.a"}
    for _ in range(100):
        formula = {"$concat": [{"$firstNotEmpty": [formula]}]}
    check_same({"f": formula, "g": 1}, [{"a": "x"}])


@pytest.mark.parametrize("name", ["value", "Value", "length", "0", "a b", "x\\.y", ""])
def test_items_with_null_or_nothing_or_what_is_no_object(name: str) -> None:
    item = {"a": {"$var": f"$.item.{name}"}, "b": {"$var": "$.item.value"}}
    template = {"f": {"$iterate": {"source": {"$var": "$.list"}, "item": item}}}
    key = name.replace("\\", "")
    whole = {"value": 1, "Value": 2, key: {"x": [1, None]}}
    lists: list[Any] = [
        [whole, {}, {key: None}, {"value": None}, {"other": 1}],
        [whole, 5, "x", True, [1, 2], [], {key: '":null'}, {key: ""}],
        [None, whole, {"value": 10**30, key: -0.5}],
        [whole], [{}], [], None, "x", {"value": 1},
    ]  # fmt: skip
    check_same(template, [{"list": items} for items in lists])


def test_threads_map_each_their_own() -> None:
    plan = compile({"id": {"$var": "$.id"}, "name": {"$concat": ["n", {"$var": "$.id"}]}})

    def map_own(thread: int) -> list[Any]:
        texts = [encode({"id": f"{thread}-{i}"}) for i in range(FEW)]
        return [list(plan.run(texts).values()) for _ in range(5)]

    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(map_own, range(4))]
    for thread, answers in enumerate(found):
        ids = [f"{thread}-{i}" for i in range(FEW)]
        assert answers == [[{"id": i, "name": f"n{i}"} for i in ids]] * 5
