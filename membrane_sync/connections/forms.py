"""An input schema as the fields of a form, and what was typed in as values of the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal
from urllib.parse import urlsplit

from membrane_sync.formulas.patterns import matches

Control = Literal[
    "text", "password", "email", "url", "integer", "number", "checkbox", "select", "textarea"
]

_FORMATS: dict[str, Control] = {
    "email": "email",
    "url": "url",
    "uri": "url",
    "multiline": "textarea",
    "textarea": "textarea",
}
_NAMES_OF_USERS = ("username", "user", "email", "login")
LONGEST_VALUE = 20_000
"""Characters that may be typed into one field; a private key has a few thousand."""


@dataclass(frozen=True)
class FormField:
    """One field of a form; `name` is the key in the schema."""

    name: str
    title: str
    control: Control
    description: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[tuple[str, str], ...] = ()
    """Of a select: each value as text, and its label."""
    schema: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def default_text(self) -> str:
        """The default as it stands in the form."""
        return "" if self.default is None else _text(self.default)


def form_fields(schema: Mapping[str, Any], *, secret: bool = False) -> list[FormField]:
    """The fields of a schema in its order; of a `secret` one, all but a user's name are hidden."""
    required = schema.get("required", [])
    return [
        _field(name, inner, required=name in required, secret=secret)
        for name, inner in schema.get("properties", {}).items()
    ]


def is_hidden(name: str, schema: Mapping[str, Any], *, secret: bool) -> bool:
    """Whether what is typed in must not be seen: as the schema says, or by its name."""
    if schema.get("format") == "password" or schema.get("writeOnly"):
        return True
    hidden = schema.get("isSensitive", secret and name.lower() not in _NAMES_OF_USERS)
    return bool(hidden)


def read_form(
    fields: list[FormField], typed: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values in the schema's types, and by field what is wrong, in words for the user.

    A field that is left empty has no value.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for each in fields:
        text = typed.get(each.name, "")
        text = text if each.control == "password" else text.strip()
        try:
            if each.control == "checkbox":
                values[each.name] = text != ""
            elif text:
                values[each.name] = _value(each, text)
            elif each.required:
                raise ValueError("Please fill in this field.")
        except ValueError as error:
            wrong[each.name] = str(error)
    return values, wrong


def _field(name: str, schema: Mapping[str, Any], *, required: bool, secret: bool) -> FormField:
    control = _control(name, schema, secret=secret)
    return FormField(
        name=name,
        title=str(schema.get("title") or name.replace("_", " ").capitalize()),
        control=control,
        description=str(schema.get("description") or ""),
        required=required and control != "checkbox",
        default=None if control == "password" else schema.get("default"),
        choices=tuple(_choices(schema)),
        schema=schema,
    )


def _control(name: str, schema: Mapping[str, Any], *, secret: bool) -> Control:
    kind = schema.get("type")
    if _choices(schema):
        return "select"
    if kind == "boolean":
        return "checkbox"
    if kind in ("object", "array"):
        return "textarea"
    long = _FORMATS.get(str(schema.get("format")))
    if is_hidden(name, schema, secret=secret):
        return "textarea" if long == "textarea" else "password"
    if kind == "integer":
        return "integer"
    return "number" if kind == "number" else long or "text"


def _choices(schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values that may be chosen, by `enum`, or by `oneOf` with `const` and `title`."""
    named = [one for one in schema.get("oneOf", []) if isinstance(one, Mapping) and "const" in one]
    if named:
        return [(_text(one["const"]), str(one.get("title", one["const"]))) for one in named]
    return [(_text(value), _text(value)) for value in schema.get("enum", []) if value is not None]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _value(field: FormField, text: str) -> Any:
    schema = field.schema
    if len(text) > LONGEST_VALUE:
        raise ValueError("This is too long.")
    if field.choices:
        allowed = [one["const"] for one in schema.get("oneOf", [])] or schema.get("enum", [])
        chosen = [value for value in allowed if _text(value) == text]
        if not chosen:
            raise ValueError("Please choose one of the values in the list.")
        return chosen[0]
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _number(schema, text, whole=kind == "integer")
    if kind in ("object", "array"):
        return _json(text, dict if kind == "object" else list)
    return _checked(schema, text)


def _number(schema: Mapping[str, Any], text: str, *, whole: bool) -> int | float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise ValueError(f"Please enter a {'whole ' if whole else ''}number.") from None
    if not isfinite(value):
        raise ValueError("Please enter a number.")
    if value < schema.get("minimum", value):
        raise ValueError(f"Please enter {schema['minimum']} or more.")
    if value > schema.get("maximum", value):
        raise ValueError(f"Please enter {schema['maximum']} or less.")
    return value


def _json(text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("Please enter JSON.") from None
    if not isinstance(value, kind):
        raise ValueError(f"Please enter a JSON {'object' if kind is dict else 'list'}.")
    return value


def _checked(schema: Mapping[str, Any], text: str) -> str:
    if "\0" in text:
        raise ValueError("Please enter plain text.")
    if len(text) < schema.get("minLength", 0):
        raise ValueError(f"Please enter at least {schema['minLength']} characters.")
    if len(text) > schema.get("maxLength", LONGEST_VALUE):
        raise ValueError(f"Please enter at most {schema['maxLength']} characters.")
    if schema.get("format") in ("url", "uri") and not _is_url(text):
        raise ValueError("Please enter a full address that begins with https://")
    if schema.get("format") == "email" and ("@" not in text[1:-1] or " " in text):
        raise ValueError("Please enter an email address.")
    if "pattern" in schema and not matches(schema["pattern"], text):
        raise ValueError("This doesn't have the expected form; compare it with the description.")
    return text


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and " " not in text
