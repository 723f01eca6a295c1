"""Forms out of input schemas: what users see, and what becomes of what they type in."""

from __future__ import annotations

from typing import Any

import pytest

from membrane_sync.connections.forms import form_fields, read_form


def one(schema: dict[str, Any], *, required: bool = True, secret: bool = False) -> Any:
    whole = {"properties": {"it": schema}, "required": ["it"] if required else []}
    return form_fields(whole, secret=secret)


@pytest.mark.parametrize(
    ("schema", "control"),
    [
        ({"type": "string"}, "text"),
        ({}, "text"),
        ({"type": "string", "format": "password"}, "password"),
        ({"type": "string", "isSensitive": True}, "password"),
        ({"type": "string", "writeOnly": True}, "password"),
        ({"type": "string", "format": "url"}, "url"),
        ({"type": "string", "format": "uri"}, "url"),
        ({"type": "string", "format": "email"}, "email"),
        ({"type": "string", "format": "multiline"}, "textarea"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "checkbox"),
        ({"enum": ["eu", "us"]}, "select"),
        ({"oneOf": [{"const": 1, "title": "One"}]}, "select"),
        ({"type": "object"}, "textarea"),
    ],
)
def test_each_type_has_its_control(schema: dict[str, Any], control: str) -> None:
    assert one(schema)[0].control == control


def test_of_credentials_all_but_the_users_name_is_hidden() -> None:
    schema = {"properties": {"username": {}, "password": {}, "code": {"isSensitive": False}}}
    controls = [field.control for field in form_fields(schema, secret=True)]
    assert controls == ["text", "password", "text"]


def test_a_field_has_a_name_for_people() -> None:
    schema = {"properties": {"api_key": {}, "sub": {"title": "Your subdomain"}}}
    assert [field.title for field in form_fields(schema)] == ["Api key", "Your subdomain"]


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "string"}, "  ada ", "ada"),
        ({"type": "string", "format": "password"}, " p w ", " p w "),
        ({"type": "integer"}, "7", 7),
        ({"type": "number"}, "7.5", 7.5),
        ({"type": "boolean"}, "on", True),
        ({"type": "boolean"}, "", False),
        ({"enum": ["eu", "us"]}, "us", "us"),
        ({"enum": [1, 2]}, "2", 2),
        ({"oneOf": [{"const": 1, "title": "One"}]}, "1", 1),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": "string", "format": "url"}, "https://crm.example", "https://crm.example"),
        ({"type": "string", "pattern": "^[a-z]+$"}, "abc", "abc"),
    ],
)
def test_what_is_typed_in_gets_the_schemas_type(
    schema: dict[str, Any], typed: str, value: Any
) -> None:
    assert read_form(one(schema), {"it": typed}) == ({"it": value}, {})


@pytest.mark.parametrize(
    ("schema", "typed", "says"),
    [
        ({"type": "string"}, "   ", "fill in"),
        ({"type": "integer"}, "7.5", "whole number"),
        ({"type": "number"}, "nan", "number"),
        ({"type": "number"}, "1e999", "number"),
        ({"type": "integer", "minimum": 1}, "0", "1 or more"),
        ({"type": "integer", "maximum": 9}, "10", "9 or less"),
        ({"enum": ["eu", "us"]}, "asia", "choose one"),
        ({"type": "object"}, "[1]", "JSON object"),
        ({"type": "array"}, "{", "JSON"),
        ({"type": "string", "format": "url"}, "crm.example", "https://"),
        ({"type": "string", "format": "url"}, "javascript:alert(1)", "https://"),
        ({"type": "string", "format": "email"}, "ada", "email"),
        ({"type": "string", "minLength": 3}, "ab", "at least 3"),
        ({"type": "string", "maxLength": 3}, "abcd", "at most 3"),
        ({"type": "string", "pattern": "^[a-z]+$"}, "ABC", "expected form"),
        ({"type": "string"}, "x" * 20_001, "too long"),
    ],
)
def test_what_does_not_fit_is_said_and_not_repeated(
    schema: dict[str, Any], typed: str, says: str
) -> None:
    values, wrong = read_form(one(schema), {"it": typed})
    assert values == {} and says in wrong["it"]
    assert len(typed.strip()) < 2 or typed not in wrong["it"]


def test_an_optional_field_may_stay_empty() -> None:
    assert read_form(one({"type": "integer"}, required=False), {}) == ({}, {})
