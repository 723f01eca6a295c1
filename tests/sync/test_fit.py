"""Fit: what it gives, shape gives as well; and what fits plainly, it gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.formulas.frames import columns, text_column
from membrane_sync.project.shape import shaped
from membrane_sync.sync.fit import Fit, compile_fit
from tests.formulas.test_plan import DATES, SCALARS, VALUES
from tests.project.test_shape import CASES

SCALAR_TYPES = ("string", "integer", "number", "boolean")
NAMES = st.sampled_from(["a", "b", "c", "a b", "ä", "x/y~", 'q"', "Z", ""])
WRITTEN = (
    "2024-05-07", "2024-02-30", "2024-05-07T04:00:00Z", "2024-05-07T04:00:00.25+02:00",
    "2024-05-07T24:00", "2024-05-07t04:00", "04:00:00", "ada@example.org", "a b@c", "@", "a@b@c",
    "https://example.org/?q=1", "x:y", "https://exa mple", "127.0.0.1", "::1", "1.2.3", "aaa",
    "00000000-0000-4000-8000-00000000000A", "00000000-0000-4000-8000-00000000000", "\ud7ff",
    "aab", "😀😀",
)  # fmt: skip
TEXTS = st.sampled_from([*WRITTEN, *DATES]) | SCALARS


def dumped(value: Any, *, sort_keys: bool = True) -> str:
    return json.dumps(value, sort_keys=sort_keys, ensure_ascii=False, separators=(",", ":"))


def words(types: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of one value, without its parts."""
    small = st.integers(0, 3)
    bounds = st.sampled_from([-1, 0, 1, 2.5, 90, 2**53, 2**60])
    formats = ["date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6", "phone"]
    return st.fixed_dictionaries(
        {},
        optional={
            "type": types,
            "enum": st.lists(SCALARS, min_size=1, max_size=4),
            "allowCustom": st.booleans(),
            "format": st.sampled_from(formats),
            "pattern": st.sampled_from(["^a+$", r"^\w+@", "o"]),
            "minLength": small,
            "maxLength": small,
            "minItems": small,
            "maxItems": small,
            "minimum": bounds,
            "maximum": bounds,
            "readOnly": st.booleans(),
        },
    )


def schemas(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        words(st.sampled_from(["array", ["array", "null"]])).flatmap(
            lambda schema: inner.map(lambda items: {**schema, "items": items})
        ),
        st.fixed_dictionaries(
            {"properties": st.dictionaries(NAMES, inner, max_size=3)},
            optional={
                "type": st.just("object"),
                "additionalProperties": st.booleans(),
                "required": st.lists(NAMES, max_size=1),
            },
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda listed: {"anyOf": listed}),
        inner.map(lambda schema: {**schema, "default": 1}),
    )


LISTED = st.lists(st.sampled_from([*SCALAR_TYPES, "null", "object", "array"]), min_size=1)
ONE = st.sampled_from([*SCALAR_TYPES, "object", "array"])
SCHEMAS = st.recursive(
    words(st.none() | ONE | LISTED).map(
        lambda schema: {k: v for k, v in schema.items() if (k, v) != ("type", None)}
    ),
    schemas,
    max_leaves=6,
)
RECORDS = st.dictionaries(NAMES, TEXTS | VALUES | st.dictionaries(NAMES, TEXTS), max_size=4)


def fitted(fit: Fit, texts: list[str]) -> list[str | None]:
    found: list[str | None] = fit.run(text_column(texts), few=0).to_pylist()
    return found


def check_sound(schema: dict[str, Any], records: list[dict[str, Any]]) -> list[str | None]:
    """Hold records against the schema; what is given is as `shaped` and canonical JSON have it."""
    texts = [dumped(record, sort_keys=number % 2 == 0) for number, record in enumerate(records)]
    fit = compile_fit(schema)
    if fit.sql:
        columns(fit.sql, text_column(texts))
    fitting = fitted(fit, texts)
    for text, fits in zip(texts, fitting, strict=True):
        found = shaped(json.loads(text), schema)
        if fits is not None:
            assert not found.misfits and not found.dropped
            assert dumped(found.value) == fits
    return fitting


@settings(max_examples=1_000, deadline=None)
@given(
    st.dictionaries(NAMES, SCHEMAS, max_size=4).map(lambda known: {"properties": known}) | SCHEMAS,
    st.lists(RECORDS, min_size=1, max_size=8),
)
def test_what_fits_stays_as_it_is(schema: dict[str, Any], records: list[dict[str, Any]]) -> None:
    check_sound(schema, records)


@settings(max_examples=500, deadline=None)
@given(SCHEMAS, st.lists(TEXTS | VALUES, min_size=1, max_size=20))
def test_what_fits_of_one_field(schema: dict[str, Any], values: list[Any]) -> None:
    check_sound({"properties": {"x": schema}}, [{"x": value} for value in values])


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case["schema"]))
def test_case(case: dict[str, Any]) -> None:
    check_sound({"properties": {"x": case["schema"]}}, [{"x": case["value"]}])


@pytest.mark.parametrize(
    "text", ['{"x":NaN}', '{"x":[-Infinity]}', '{"b":1,"a":2}', "[]", "1", None]
)
def test_what_can_not_be_kept_as_it_is_does_not_fit(text: str | None) -> None:
    assert fitted(compile_fit({}), [text]) == [None]


FITTING = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "name": {"type": ["string", "null"], "maxLength": 20},
        "score": {"type": "number"},
        "ok": {"type": "boolean"},
        "stage": {"type": "string", "enum": ["lead", "won"]},
        "email": {"type": "string", "format": "email"},
        "ip": {"type": "string", "format": "ipv4"},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
        "at": {"type": "string", "format": "date-time"},
        "on": {"type": "string", "format": "date"},
        "owner": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "address": {"type": "object", "properties": {"city": {"type": "string"}}},
        "phones": {
            "type": "array",
            "items": {"properties": {"n": {"type": "string"}}, "required": ["n"]},
        },
        "any": {},
    },
    "required": ["id"],
}
RECORD: dict[str, Any] = {
    "id": 7, "name": "Zoë", "score": 1.5, "ok": True, "stage": "won", "email": "a@b.org",
    "ip": "127.0.0.1", "code": "ABC", "at": "2024-05-07T04:00:00.5Z", "on": "2024-05-07",
    "owner": "x", "tags": ["a", "b"], "address": {"city": "李"}, "phones": [{"n": "1"}, {"n": "2"}],
    "any": ["x", 1],
}  # fmt: skip


def test_what_fits_plainly_is_said_to_fit() -> None:
    fit = compile_fit(FITTING)
    partial = [{"id": 1, name: value} for name, value in RECORD.items()]
    empty = [{"id": 1, name: None} for name in RECORD if name != "id"]
    texts = [dumped(record) for record in (RECORD, *partial, *empty)]
    assert fitted(fit, texts) == texts


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None}, {"id": -1}, {"id": "07"}, {"name": "x" * 21}, {"score": "x"}, {"ok": 1},
        {"stage": "no"}, {"email": "no"}, {"ip": "1"}, {"code": "abc"}, {"at": "soon"},
        {"on": "2024-02-30"}, {"owner": 1.5}, {"tags": [1]}, {"tags": ["a", "b", "c"]},
        {"address": {"zip": 1}}, {"id": "-1"}, {"stage": 5}, {"name": 10**21}, {"other": 1},
        {"phones": [{}]}, {"phones": [{"n": 1}]},
        {"any": {"b": 1, "a": 2}},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_not_to(wrong: dict[str, Any]) -> None:
    text = dumped({**RECORD, **wrong}, sort_keys="any" not in wrong)
    assert fitted(compile_fit(FITTING), [text]) == [None]


LISTS = {
    "l": {
        "type": "array",
        "items": {
            "type": ["object", "null"],
            "properties": {
                "n": {"type": "number"},
                "t": {"type": ["string", "integer"]},
                "o": {"properties": {'q"': {"type": "boolean"}}, "required": ['q"']},
                "d.e": {"type": "integer"},
            },
            "required": ["d.e"],
        },
    }
}


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"d.e": st.integers() | st.sampled_from([None, 1.5, "1"])},
            optional={
                "n": SCALARS,
                "t": SCALARS,
                "o": st.fixed_dictionaries({'q"': st.booleans()}) | RECORDS,
                "dxe": st.just(1),
            },
        )
        | st.none()
        | SCALARS,
        max_size=3,
    )
)
def test_lists_of_objects(items: list[Any]) -> None:
    schema = {"properties": LISTS}
    check_sound(schema, [{"l": items}, {"l": [item for item in items if item]}, {}])
    good = {"d.e": -1, "n": 1e22, "o": {'q"': True}, "t": 'a"b\\,}'}
    assert None not in check_sound(schema, [{"l": [good, None, {"d.e": 0, "n": None}]}])


def test_plain_casts() -> None:
    wild = {"id": "7", "name": 5, "score": "2.5", "ok": "true", "address": {"city": 1.0}}
    cast = {"id": 7, "name": "5", "score": 2.5, "ok": True, "address": {"city": "1"}}
    (found,) = fitted(compile_fit(FITTING), [dumped({**RECORD, **wild})])
    assert found == dumped({**RECORD, **cast})
    check_sound(FITTING, [{**RECORD, name: value} for name, value in wild.items()])


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"f{n}": {"type": "string"} for n in range(10_000)}},
        {"properties": {"a": {"anyOf": [{"pattern": "a"}, {}]}}},
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
    ],
)
def test_a_schema_that_can_not_be_planned_fits_nothing(schema: dict[str, Any]) -> None:
    assert compile_fit(schema) == Fit("", ())
    assert fitted(compile_fit(schema), ["{}"]) == [None]


def test_a_field_that_may_not_be_written_does_not_fit_though_others_may_come() -> None:
    known = {"a": {"readOnly": True}}
    schema = {"properties": known, "additionalProperties": True}
    assert check_sound(schema, [{"a": 1}, {"a": None}, {"b": 1}]) == [None, None, '{"b":1}']


def test_many_values_stay_in_their_order() -> None:
    known = {"id": {"type": "integer"}, "kind": {"enum": [f"kind {i}" for i in range(40)]}}
    texts = [dumped({"id": i, "kind": f"kind {i % 60}"}) for i in range(30_000)]
    expected = [text if i % 60 < 40 else None for i, text in enumerate(texts)]
    assert fitted(compile_fit({"properties": known}), texts) == expected


@pytest.mark.parametrize("number", [1e-05, -1.5e-05, 1e-07, 1e16, 1.5e300, 0.0001, 0.5, 10, -3])
def test_a_number_becomes_the_text_that_python_writes(number: float) -> None:
    fitting = check_sound({"properties": {"x": {"type": "string"}}}, [{"x": number}])
    is_plain = abs(number) >= 0.0001 and number < 1e16
    assert (fitting == [f'{{"x":"{number}"}}']) == is_plain
