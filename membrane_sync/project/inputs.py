"""What a person typed in, or set as parameters, against the schema that asks for it.

One function for the command line, the HTTP API and the connect page, so that they take the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import InvalidInput
from membrane_sync.project.schemas import fields
from membrane_sync.project.shape import shaped


def checked_input(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the schema's types, with its defaults; what's left empty is left out.

    Raises InvalidInput, which names every field that's wrong, and shows no value.
    """
    typed, wrong = fit(schema, values)
    if wrong:
        known = ", ".join(fields(schema))
        raise InvalidInput(wrong, hint=f"asked for: {known}" if known else "nothing is asked for")
    return typed


def fit(
    schema: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values as they fit, and what's wrong by name of the field.

    Text becomes a number or a boolean where it's written as one. Without a schema, nothing fits.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    known = fields(schema)
    others = schema.get("additionalProperties", False)
    optional = {**schema, "required": [], "additionalProperties": others}
    found = shaped(given, optional)
    wrong = {error.field: error.reason for error in found.misfits}
    for name in given:
        if name not in known and not others:
            wrong[name] = f"is not asked for; {nearest(name, known, 'asked for are')}"
    for name in schema.get("required", ()):
        if found.value.get(name) is None and name not in wrong:
            wrong[name] = "is required"
    return found.value, wrong
