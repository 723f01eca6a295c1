"""Data schemas: what they refer to stands in its place, and what can't be is said."""

from __future__ import annotations

from typing import Any

import pytest

from membrane_sync.errors import ProjectError
from membrane_sync.project.schema_check import problems
from membrane_sync.project.schemas import expanded, is_sensitive, references

ADDRESS = {"type": "object", "properties": {"zip": {"type": "integer"}, "at": {"$ref": "country"}}}
KNOWN: dict[str, Any] = {
    "address": ADDRESS,
    "country": {"type": "string", "title": "Country", "maxLength": 2},
    "named": {"required": ["name"]},
    "me": {"properties": {"a": {"$ref": "you"}}},
    "you": {"items": {"$ref": "me"}},
    "data_collection/users": {"properties": {"mail": {"$ref": "country"}}},
}
COUNTRY = KNOWN["country"]
WHOLE = {"type": "object", "properties": {"zip": {"type": "integer"}, "at": COUNTRY}}


@pytest.mark.parametrize(
    ("schema", "gives"),
    [
        ({"$ref": "country"}, COUNTRY),
        ({"$ref": "schemas/country"}, COUNTRY),
        ({"$ref": "country", "title": "Land"}, {**COUNTRY, "title": "Land"}),
        ({"$ref": "address"}, WHOLE),
        (
            {"properties": {"a": {"$ref": "address"}, "b": {}}},
            {"properties": {"a": WHOLE, "b": {}}},
        ),
        ({"items": {"$ref": "country"}}, {"items": COUNTRY}),
        ({"additionalProperties": {"$ref": "country"}}, {"additionalProperties": COUNTRY}),
        ({"additionalProperties": False}, {"additionalProperties": False}),
        ({"anyOf": [{"$ref": "country"}, {}]}, {"anyOf": [COUNTRY, {}]}),
        ({"$ref": "nobody", "type": "string"}, {"type": "string"}),
        (
            {"$ref": "address", "properties": {"zip": {}, "b": {}}, "required": ["b"]},
            {**WHOLE, "properties": {"zip": {}, "at": COUNTRY, "b": {}}, "required": ["b"]},
        ),
        ({"$ref": "named", "required": ["b", "name"]}, {"required": ["name", "b"]}),
        ({"$dataSchemaRef": "country"}, COUNTRY),
        ({"$dataSchemaRef": {"type": "internal-data-schema", "key": "country"}}, COUNTRY),
        (
            {"items": {"$dataSchemaRef": {"type": "data-collection", "key": "users"}}},
            {"items": {"properties": {"mail": COUNTRY}}},
        ),
    ],
)
def test_references_are_put_in_their_place(schema: Any, gives: Any) -> None:
    assert expanded(schema, KNOWN.get) == gives
    assert "$ref" in str(ADDRESS), "what is referred to stays as it is"


def test_a_circle_is_no_endless_loop() -> None:
    """`membrane check` refuses it, with file and line."""
    assert expanded({"$ref": "me"}, KNOWN.get) == {"properties": {"a": {"items": {}}}}


def test_schemas_that_double_at_each_step_are_refused() -> None:
    bomb = {f"s{n}": {"anyOf": [{"$ref": f"s{n + 1}"}] * 2} for n in range(60)}
    with pytest.raises(ProjectError, match=r"data_schema s\d+ has more than 100,000 fields"):
        expanded({"$ref": "s0"}, {**bomb, "s60": {}}.get)


def test_schemas_that_are_too_deep_are_refused() -> None:
    chain = {f"s{n}": {"items": {"$ref": f"s{n + 1}"}} for n in range(150)}
    with pytest.raises(ProjectError, match="100 levels"):
        expanded({"$ref": "s0"}, {**chain, "s150": {}}.get)


def test_ten_thousand_fields_are_not_too_many() -> None:
    wide = {"properties": {f"f{n}": {"$ref": "country"} for n in range(10_000)}}
    assert expanded(wide, KNOWN.get)["properties"]["f9999"] == COUNTRY


def test_a_pattern_that_can_not_be_searched_in_bounded_time_is_a_problem() -> None:
    assert list(problems({"pattern": "^[a-z]+$"})) == []
    for pattern in ("(?=a)b", r"(a)\1", "("):
        ((path, message),) = problems({"properties": {"x": {"pattern": pattern}}})
        assert path == ("properties", "x", "pattern")
        assert "can't be read" in message


@pytest.mark.parametrize(
    ("schema", "path", "says"),
    [
        ({"type": "integer", "default": "5"}, ("default",), "is of another type"),
        ({"type": "integer", "default": "five"}, ("default",), "should be integer, is text"),
        (
            {"type": "object", "default": {}, "properties": {"a": {}}, "required": ["a"]},
            ("default",),
            "a: the field is required",
        ),
        ({"type": "string", "enum": ["a", 1]}, ("enum", 1), "is of another type"),
        ({"type": "number", "enum": [1, None, "x"]}, ("enum", 2), "should be number, is text"),
        ({"type": "string", "enum": ["a"], "default": "b"}, ("default",), "is not one of a"),
        ({"items": {"maxLength": 1, "default": "ab"}}, ("items", "default"), "is longer than 1"),
        ({"$ref": "#/definitions/x"}, ("$ref",), "names another data schema"),
        ({"maxLength": "1", "default": "ab"}, ("maxLength",), "must be a whole number"),
    ],
)
def test_values_that_can_not_be(schema: Any, path: Any, says: str) -> None:
    ((where, message),) = problems({"properties": {"x": schema}})
    assert (where, says in message) == (("properties", "x", *path), True), message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["integer", "string"], "enum": [1, "a", None], "default": 1},
        {"type": "number", "enum": [1, 2.5], "default": 1.0},
        {"type": "string", "enum": ["a"], "allowCustom": True, "default": "b"},
        {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": "b"},
        {"default": None, "type": "string"},
        {"$ref": "people", "properties": {"a": {}}, "required": ["a", "inherited"]},
    ],
)
def test_values_that_can_be(schema: Any) -> None:
    assert list(problems(schema)) == []


def test_what_a_reference_names_is_told_by_kind() -> None:
    schema = {
        "properties": {
            "a": {"$ref": "schemas/people"},
            "b": {"items": {"$dataSchemaRef": {"type": "data-collection", "key": "users"}}},
            "c": {"$dataSchemaRef": {"type": "internal-data-schema", "key": "teams"}},
        }
    }
    assert [(kind, key) for _, kind, key in references(schema)] == [
        ("data_schema", "people"),
        ("data_collection", "users"),
        ("data_schema", "teams"),
    ]


@pytest.mark.parametrize(
    ("schema", "path", "says"),
    [
        ({"$dataSchemaRef": 5}, ("$dataSchemaRef",), "a key, or a mapping"),
        ({"$dataSchemaRef": {"type": "x", "key": "k"}}, ("$dataSchemaRef", "type"), "needs a type"),
        ({"referenceCollection": "users"}, ("referenceCollection",), "must be a mapping"),
        ({"referenceCollection": {"parameters": {}}}, ("referenceCollection",), "needs a key"),
        (
            {"referenceCollection": {"key": "u", "parameters": {"a": {"$vra": "$.x"}}}},
            ("referenceCollection", "parameters", "a"),
            "did you mean $var?",
        ),
    ],
)
def test_what_is_wrong_with_a_reference(schema: Any, path: Any, says: str) -> None:
    found = list(problems({"properties": {"x": schema}}))
    assert any(p == ("properties", "x", *path) and says in message for p, message in found), found


def test_what_is_sensitive_in_part_is_sensitive() -> None:
    secret = {"isSensitive": True}
    assert is_sensitive({"properties": {"a": {"items": {"anyOf": [secret]}}}})
    assert not is_sensitive({"properties": {"a": {"isSensitive": False}}, "required": ["a"]})
