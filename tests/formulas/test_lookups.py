"""Formulas that ask: what they ask, in how many rounds, and what the answers become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.formulas.check import references
from membrane_sync.formulas.lookups import (
    MOST_ROUNDS,
    LinkQuestion,
    Lookups,
    Question,
    RecordQuestion,
    SchemaQuestion,
    Unanswerable,
    held,
    is_asking,
    prepare,
)
from membrane_sync.formulas.plan import compile
from membrane_sync.formulas.targets import with_collections
from membrane_sync.formulas.transform import transform_variables


class Answers:
    """Answers `7` by `app-7`, and remembers what was asked together."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        self.batches: list[Sequence[Question]] = []
        self._known = known

    def __call__(self, questions: Sequence[Question]) -> Mapping[Question, Any]:
        self.batches.append(questions)
        found: dict[Question, Any] = {}
        for question in questions:
            if isinstance(question, LinkQuestion):
                if not self._known or question.record_id in self._known:
                    side = "ext" if question.external else "app"
                    found[question] = f"{side}-{question.record_id}"
            elif isinstance(question, RecordQuestion):
                found[question] = "rec-" + "-".join(value for _, value in question.query)
            else:
                found[question] = {"title": question.key}
        return found


def app(locator: str = "$.id", **more: Any) -> dict[str, Any]:
    return {"$findAppRecordId": {"recordId": {"$var": locator}, **more}}


def mapped(template: Any, *records: Any, answers: Answers | None = None) -> list[Any]:
    """What each record gives, by the evaluator and by the plan."""
    lookups = Lookups(answers or Answers())
    prepare(template, [lambda record=record: record for record in records], lookups)
    with held(lookups):
        values = [evaluate(template, record) for record in records]
        plan = compile(template).run([json.dumps(record) for record in records], few=0)
    assert list(plan.values()) == values
    assert not plan.errors
    return values


def test_the_questions_of_all_records_are_asked_at_once() -> None:
    answers = Answers()
    template = {"name": {"$var": "$.name"}, "boss": app("$.boss"), "team": app("$.team")}
    records = [{"name": f"n{n}", "boss": n % 7, "team": f"t{n % 3}"} for n in range(500)]
    values = mapped(template, *records, answers=answers)
    assert values[8] == {"name": "n8", "boss": "app-1", "team": "app-t2"}
    [batch] = answers.batches
    assert len(batch) == len(set(batch)) == 7 + 3


@pytest.mark.parametrize(
    ("formula", "record", "question"),
    [
        (app(), {"id": 7}, LinkQuestion("", "7")),
        (app(), {"id": 7.0}, LinkQuestion("", "7")),
        (app(dataLinkTable={"key": "people"}), {"id": "a"}, LinkQuestion("people", "a")),
        (app(dataLinkTable="people"), {"id": "a"}, LinkQuestion("people", "a")),
        (
            {"$findExternalRecordId": {"recordId": "x", "dataLinkTable": {"key": {"$var": "$.t"}}}},
            {"t": "people"},
            LinkQuestion("people", "x", external=True),
        ),
        (
            {"$lookup": {"query": {"b": 1, "a": {"$var": "$.a"}}, "collection": {"key": "users"}}},
            {"a": "x"},
            RecordQuestion("users", "", (("a", "x"), ("b", "1"))),
        ),
        (
            {"$lookup": {"query": {"a": 1}, "collection": {"key": "u", "parameters": {"p": 1}}}},
            {},
            RecordQuestion("u", '{"p": 1}', (("a", "1"),)),
        ),
        (
            {"$dataSchemaRef": {"type": "data-collection", "key": "users"}},
            {},
            SchemaQuestion("data-collection", "users", ""),
        ),
        ({"$dataSchemaRef": "users"}, {}, SchemaQuestion("internal-data-schema", "users", "")),
    ],
)
def test_what_is_asked(formula: Any, record: Any, question: Question) -> None:
    answers = Answers()
    mapped({"x": formula}, record, answers=answers)
    assert answers.batches == [[question]]


@pytest.mark.parametrize(
    "formula",
    [
        app(),
        {"$findExternalRecordId": {"recordId": ""}},
        {"$lookup": {"query": {"a": {"$var": "$.no"}}, "collection": {"key": "users"}}},
        {"$lookup": {"query": {"a": "", "b": 1}, "collection": {"key": "users"}}},
    ],
)
def test_nothing_is_asked_of_nothing(formula: Any) -> None:
    answers = Answers()
    assert mapped({"x": formula}, {"id": None}, answers=answers) == [MISSING]
    assert answers.batches == []


def test_lookups_within_other_operators_and_within_one_another() -> None:
    answers = Answers()
    template = {
        "all": {"$iterate": {"source": {"$var": "$.ids"}, "item": {"id": app("$.item")}}},
        "text": {"$concat": ["person ", app("$.ids[0]")]},
        "known": {"$case": [{"filter": {"$eval": app("$.ids[0]"), "is": "app-a"}, "value": "yes"}]},
        "chain": {"$findExternalRecordId": {"recordId": app("$.ids[1]")}},
        "query": {"$lookup": {"query": {"boss": app("$.ids[0]")}, "collection": {"key": "users"}}},
        "copied": {"$copy": "$.text"},
    }
    [value] = mapped(template, {"ids": ["a", "b"]}, answers=answers)
    assert value == {
        "all": [{"id": "app-a"}, {"id": "app-b"}],
        "text": "person app-a",
        "known": "yes",
        "chain": "ext-app-b",
        "query": "rec-app-a",
        "copied": "person app-a",
    }
    assert len(answers.batches) == 2, "one round for each level"


def test_records_that_ask_in_vain_are_told() -> None:
    lookups = Lookups(Answers(known=["1", "3"]))
    template = {"boss": app("$.boss")}
    records = [{"boss": n} for n in range(5)] + [{}]
    missed = prepare(template, [lambda r=r: r for r in records], lookups)
    assert missed == {0, 2, 4}
    with held(lookups):
        assert [evaluate(template, r) for r in records][:2] == [MISSING, {"boss": "app-1"}]


def test_a_chain_of_questions_has_an_end() -> None:
    formula: Any = {"$var": "$.id"}
    for _ in range(MOST_ROUNDS + 1):
        formula = {"$findAppRecordId": {"recordId": formula}}
    lookups = Lookups(Answers())
    assert prepare({"x": formula}, [lambda: {"id": 1}], lookups) == {0}
    with held(lookups), pytest.raises(FormulaError, match="more than 10 questions"):
        evaluate(formula, {"id": 1})


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (app(), "recordId must be a text or a number"),
        (app("$.n", dataLinkTable=5), "needs a dataLinkTable with a key"),
        ({"$lookup": {"query": {"a": {"$var": "$.id"}}}}, "query by 'a' must be a text"),
        ({"$lookup": {"query": {"a": 1}}}, "no referenceCollection"),
        ({"$lookup": {"query": 5}}, "needs a query"),
        ({"$dataSchemaRef": {"type": "nope", "key": "k"}}, "needs a key, and a type"),
        ({"$findAppRecordId": {"recordId": "gone"}}, "it broke"),
    ],
)
def test_what_can_not_be_asked_fails_for_the_record(formula: Any, reason: str) -> None:
    lookups = Lookups(lambda questions: dict.fromkeys(questions, Unanswerable("it broke")))
    record = {"id": ["a"], "n": 1}
    prepare(formula, [lambda: record], lookups)
    with held(lookups), pytest.raises(FormulaError, match=reason):
        evaluate(formula, record)


def test_a_lookup_that_would_have_to_create_fails() -> None:
    args = {"query": {"a": 1}, "collection": {"key": "u"}, "createIfNotFound": True}
    lookups = Lookups(lambda _: {})
    prepare({"$lookup": args}, [dict], lookups)
    with held(lookups), pytest.raises(FormulaError, match="doesn't create one"):
        evaluate({"$lookup": args}, {})


def test_without_a_connection_asking_fails() -> None:
    with pytest.raises(FormulaError, match="name a connection"):
        evaluate(app(), {"id": 1})


LOOKUP = {"$lookup": {"query": {"name": {"$var": "$.item.n"}}}}
TO = {"referenceCollection": {"key": "users"}}
FOUND = {"$lookup": {**LOOKUP["$lookup"], "collection": {"key": "users"}}}


@pytest.mark.parametrize(
    ("template", "schema", "expected"),
    [
        ({"a": LOOKUP}, {"properties": {"a": TO}}, {"a": FOUND}),
        (
            {"a": {"b": LOOKUP}},
            {"properties": {"a": {"properties": {"b": TO}}}},
            {"a": {"b": FOUND}},
        ),
        ({"a": [LOOKUP]}, {"properties": {"a": {"items": TO}}}, {"a": [FOUND]}),
        ({"a": LOOKUP}, {"properties": {"b": TO}}, {"a": LOOKUP}),
        ({"a": {"$concat": [LOOKUP]}}, {"properties": {"a": TO}}, {"a": {"$concat": [LOOKUP]}}),
        ({"a": {"$plain": LOOKUP}}, {"properties": {"a": TO}}, {"a": {"$plain": LOOKUP}}),
        (
            {"a": {"$firstNotEmpty": [1, LOOKUP]}},
            {"properties": {"a": TO}},
            {"a": {"$firstNotEmpty": [1, FOUND]}},
        ),
        (
            {"$mergeObjects": [{"a": LOOKUP}]},
            {"properties": {"a": TO}},
            {"$mergeObjects": [{"a": FOUND}]},
        ),
        (
            {"a": {"$case": {"cases": [{"filter": LOOKUP, "value": LOOKUP}], "default": LOOKUP}}},
            {"properties": {"a": TO}},
            {"a": {"$case": {"cases": [{"filter": LOOKUP, "value": FOUND}], "default": FOUND}}},
        ),
        (
            {"a": {"$case": [{"value": LOOKUP}]}},
            {"properties": {"a": TO}},
            {"a": {"$case": [{"value": FOUND}]}},
        ),
        (
            {"a": {"$map": {"value": 1, "mapping": [{"from": 1, "to": LOOKUP}]}}},
            {"properties": {"a": TO}},
            {"a": {"$map": {"value": 1, "mapping": [{"from": 1, "to": FOUND}]}}},
        ),
        (
            {"a": {"$iterate": {"source": {"$var": "$.l"}, "item": {"u": LOOKUP}}}},
            {"properties": {"a": {"items": {"properties": {"u": TO}}}}},
            {"a": {"$iterate": {"source": {"$var": "$.l"}, "item": {"u": FOUND}}}},
        ),
    ],
)
def test_the_collection_is_that_of_the_field(template: Any, schema: Any, expected: Any) -> None:
    assert with_collections(template, schema) == expected


def test_a_reference_may_depend_on_the_result() -> None:
    reference = {"key": "options", "parameters": {"field": {"$var": "$.lines.field"}, "of": "x"}}
    option = {"referenceCollection": reference}
    schema = {"properties": {"lines": {"items": {"properties": {"option": option}}}}}
    template = {
        "lines": {
            "$iterate": {
                "source": {"$var": "$.rows"},
                "item": {
                    "field": {"$var": "$.item.f"},
                    "option": {"$lookup": {"query": {"label": {"$var": "$.item.o"}}}},
                },
            }
        }
    }
    answers = Answers()
    rows = [{"f": "size", "o": "XL"}, {"f": "color", "o": "red"}]
    mapped(with_collections(template, schema), {"rows": rows}, answers=answers)
    assert answers.batches == [
        [
            RecordQuestion("options", '{"field": "size", "of": "x"}', (("label", "XL"),)),
            RecordQuestion("options", '{"field": "color", "of": "x"}', (("label", "red"),)),
        ]
    ]


def test_a_reference_may_depend_on_a_field_around_the_list() -> None:
    reference = {"key": "options", "parameters": {"board": {"$var": "$.board"}}}
    schema = {"properties": {"tags": {"items": {"referenceCollection": reference}}}}
    template = {
        "board": {"$var": "$.b"},
        "tags": {
            "$iterate": {
                "source": {"$var": "$.tags"},
                "item": {"$lookup": {"query": {"label": {"$var": "$.item"}}}},
            }
        },
    }
    answers = Answers()
    [value] = mapped(with_collections(template, schema), {"b": 5, "tags": ["x"]}, answers=answers)
    assert value == {"board": 5, "tags": ["rec-x"]}
    assert answers.batches == [[RecordQuestion("options", '{"board": 5}', (("label", "x"),))]]


def test_elements_that_are_named_are_found() -> None:
    formula = {
        "a": app(dataLinkTable={"key": "people"}),
        "b": [
            {"$lookup": {"query": {"x": app(dataLinkTable="teams")}, "collection": {"key": "u"}}}
        ],
        "c": {"$dataSchemaRef": {"type": "data-collection", "key": "u"}},
        "d": {"$dataSchemaRef": {"type": "internal-data-schema", "key": "s"}},
        "e": {"$plain": app(dataLinkTable="not named")},
        "f": app(dataLinkTable={"key": {"$var": "$.t"}}),
    }
    assert sorted((kind, key) for _, kind, key in references(formula)) == [
        ("data_collection", "u"),
        ("data_collection", "u"),
        ("data_link_table", "people"),
        ("data_link_table", "teams"),
        ("data_schema", "s"),
    ]


def test_asking_survives_composition() -> None:
    composed = transform_variables({"x": app("boss")}, {"boss": {"$var": "$.manager.id"}})
    assert composed == {"x": app("$.manager.id")}
    assert is_asking(composed)
    assert not is_asking({"x": {"$plain": app()}, "y": [1, {"z": "$lookup"}]})


IDS = st.none() | st.integers(0, 5) | st.sampled_from(["", "a", "b"])
PARTS = st.recursive(
    st.sampled_from([app("$.a"), app("$.b[0]"), {"$var": "$.a"}, {"$var": "$.item"}, 1, None]),
    lambda inner: st.one_of(
        st.builds(lambda part: {"$findExternalRecordId": {"recordId": part}}, inner),
        st.builds(lambda parts: {"$concat": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"$firstNotEmpty": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"$iterate": {"source": {"$var": "$.b"}, "item": part}}, inner),
        st.builds(
            lambda test, part: {
                "$case": [{"filter": {"$eval": test, "isEmpty": 1}, "value": part}]
            },
            inner,
            inner,
        ),
        st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from("pqr"), PARTS, max_size=3),
    st.lists(st.fixed_dictionaries({"a": IDS, "b": st.lists(IDS, max_size=2)}), max_size=4),
)
def test_a_batch_gives_what_asking_one_by_one_does(template: Any, records: list[Any]) -> None:
    """Collecting questions first changes nothing about the answers."""

    def alone(record: Any) -> str:
        lookups = Lookups(Answers(known=["1", "a", "app-1"]))
        for _ in range(MOST_ROUNDS):
            lookups.collecting = True
            with held(lookups):
                outcome(template, record)
            lookups.settle()
            lookups.collecting = False
        with held(lookups):
            return outcome(template, record)

    together = Lookups(Answers(known=["1", "a", "app-1"]))
    prepare(template, [lambda r=r: r for r in records], together)
    with held(together):
        assert [outcome(template, r) for r in records] == [alone(r) for r in records]


def outcome(template: Any, record: Any) -> str:
    try:
        return repr(evaluate(template, record))
    except FormulaError as error:
        return str(error)
