"""What a connection needs, as options give it, or asked for by the connector's input schema."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import typer

from membrane_sync.connections.forms import is_hidden
from membrane_sync.errors import Fatal


def gather(
    schema: Mapping[str, Any],
    given: Mapping[str, str],
    *,
    secret: bool = False,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The given values in the schema's types, and the missing required ones asked for.

    What is `known` isn't asked for. Raises Fatal for a value the schema doesn't know, and for one
    that's missing where nobody can be asked.
    """
    fields = schema.get("properties", {})
    for name in given:
        if name not in fields:
            near = get_close_matches(name, fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(fields)}"
            raise Fatal(f"{name!r} is not asked for by the connector", hint=hint)
    values = dict(given)
    for name in schema.get("required", []):
        if name not in values and name not in (known or {}):
            values[name] = _ask(name, fields.get(name, {}), secret=secret)
    return {name: _typed(name, value, fields.get(name, {})) for name, value in values.items()}


def _ask(name: str, field: Mapping[str, Any], *, secret: bool) -> str:
    if not sys.stdin.isatty():
        option = "--credential" if secret else "--set"
        raise Fatal(f"{name!r} is missing", hint=f"give it as {option} {name}=…")
    text = field.get("title") or field.get("description") or name
    return str(typer.prompt(text, hide_input=is_hidden(name, field, secret=secret)))


def _typed(name: str, value: str, field: Mapping[str, Any]) -> Any:
    try:
        if field.get("type") == "integer":
            return int(value)
        if field.get("type") == "number":
            return float(value)
    except ValueError:
        raise Fatal(f"{name!r} should be of type {field['type']}, and isn't") from None
    if field.get("type") == "boolean":
        if value.lower() not in ("true", "false"):
            raise Fatal(f"{name!r} should be true or false, and is neither")
        return value.lower() == "true"
    return value


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Values by name; a text that isn't name=value is not repeated, as it may be a secret."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Fatal(f"a value of {option} is not name=value", hint=f"write {option} name=value")
        pairs[name] = value
    return pairs


def secrets_of(texts: Sequence[str]) -> Mapping[str, str]:
    """Credentials by name; `env:NAME` and `-` keep them out of the shell's history."""
    return {name: _secret(name, value) for name, value in pairs(texts, "--credential").items()}


def _secret(name: str, value: str) -> str:
    if value == "-":
        return sys.stdin.readline().rstrip("\n")
    if value.startswith("env:"):
        found = os.environ.get(value[4:])
        if found is None:
            raise Fatal(f"credential {name!r}: {value[4:]} is not set in the environment")
        return found
    return value
