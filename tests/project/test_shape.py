"""Shape: each word of the schema dialect, as cases; and the same verdict as a JSON Schema package.

A case without `gives` or `reason` is a value that fits and stays as it is.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from membrane_sync.formulas import MISSING
from membrane_sync.project.schema_check import problems
from membrane_sync.project.shape import shaped

CASES: list[dict[str, Any]] = [
    {"schema": group["schema"], **case}
    for group in yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text("utf-8"))
    for case in group["cases"]
]


def name(case: dict[str, Any]) -> str:
    return f"{json.dumps(case['schema'])} {json.dumps(case['value'])}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_case(case: dict[str, Any]) -> None:
    found = shaped({"x": case["value"]}, {"properties": {"x": case["schema"]}})
    assert list(problems(case["schema"])) == []
    if "reason" in case:
        (misfit,) = found.misfits
        assert misfit.field == "x" and "x" not in found.value
        assert case["reason"] in misfit.reason
    else:
        assert not found.misfits
        expected = case.get("gives", case["value"])
        given = found.value.get("x", "nothing") if expected == "nothing" else found.value["x"]
        assert json.dumps(given) == json.dumps(expected)
    assert found.dropped == set(case.get("dropped", ()))


@pytest.mark.parametrize("case", CASES, ids=name)
def test_what_fits_is_valid_by_json_schema(case: dict[str, Any]) -> None:
    """What we take as it is, is valid; what we refuse isn't, but for nulls that are required."""
    relaxed = {"enum"} if case["schema"].get("allowCustom") else set()
    schema = {key: word for key, word in case["schema"].items() if key not in relaxed}
    valid = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.FormatChecker(["date", "email", "ipv4", "ipv6"])
    ).is_valid
    if "reason" in case:
        ours = "format" in case["schema"] or re.search("is required|infinite", case["reason"])
        assert ours or not valid(case["value"])
    elif "gives" not in case and case["value"] is not None:
        assert valid(case["value"])


def test_every_keyword_has_a_case() -> None:
    from membrane_sync.project.schema_check import _KEYWORDS

    used = {key for case in CASES for key in words(case["schema"])}
    resolved = {"$ref", "$dataSchemaRef"}  # before, see test_schemas.py
    assert set(_KEYWORDS) - used == resolved


def words(schema: Any) -> set[str]:
    """All keywords of a schema and its parts."""
    if not isinstance(schema, dict):
        return set()
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    parts += [schema.get("items"), schema.get("additionalProperties")]
    return set(schema).union(*map(words, parts))


def test_all_fields_that_do_not_fit_are_told() -> None:
    schema = {"properties": {n: {"type": "integer"} for n in "abc"}, "required": ["a", "d"]}
    found = shaped({"a": "x", "b": 1, "c": "y"}, schema)
    assert found.value == {"b": 1}
    assert [(misfit.field, misfit.value) for misfit in found.misfits] == [
        ("a", "x"),
        ("c", "y"),
        ("d", None),
    ]


def test_a_choice_of_whole_records() -> None:
    person = {"properties": {"name": {"type": "string"}}, "required": ["name"]}
    company = {"properties": {"vat": {"type": "string"}}, "required": ["vat"]}
    either = {"anyOf": [person, company]}
    assert shaped({"vat": 5}, either).value == {"vat": "5"}
    assert shaped({"name": "A", "other": 1}, either).dropped == {"other"}
    assert len(shaped({}, either).misfits) == 1


def test_no_value_is_in_the_words_and_sensitive_ones_are_not_kept_at_all() -> None:
    secret = {"type": "integer", "isSensitive": True}
    schema = {"properties": {"a": {"items": {"properties": {"pin": secret}}}, "b": {"enum": [1]}}}
    found = shaped({"a": [{"pin": "planted"}], "b": "planted"}, schema)
    assert [misfit.value for misfit in found.misfits] == [MISSING, "planted"]
    assert found.misfits[0].reason == "[0].pin: should be integer, is text"
    assert "planted" not in "".join(map(str, found.misfits))


def test_a_list_of_options_is_cut_short() -> None:
    (misfit,) = shaped({"x": "no"}, {"properties": {"x": {"enum": [*range(1_000)]}}}).misfits
    assert len(misfit.reason) < 200 and misfit.reason.endswith("…")


@pytest.mark.parametrize("text", ["a" * 40 + "!", "a" * 90_000 + "!", "a" * 200_000])
def test_patterns_are_bounded_in_time(text: str) -> None:
    started = time.monotonic()
    (misfit,) = shaped({"x": text}, {"properties": {"x": {"pattern": "^(a+)+$"}}}).misfits
    assert "pattern" in misfit.reason
    assert time.monotonic() - started < 5


def test_choices_within_choices_take_the_time_of_their_number() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(10):
        schema = {"anyOf": [schema, schema]}
    started = time.monotonic()
    (misfit,) = shaped({"x": "no"}, {"properties": {"x": schema}}).misfits
    assert misfit.reason == "fits none of anyOf: should be integer, is text"
    assert time.monotonic() - started < 5
