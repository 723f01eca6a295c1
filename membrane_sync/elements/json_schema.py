"""JSON Schema (draft 2020-12) of every kind, so that editors complete and check YAML files.

It knows what one file may say; whether files fit together is what `membrane check` finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from membrane_sync.elements import KINDS, LAYERED_KINDS, Authentication, folder_of
from membrane_sync.elements.base import Spec, yaml_name

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_BY_PLACE = {"Integration": ("key", "connector")}
"""Keys that need not be written, since the file's place says them; of all others it's `key`."""


def json_schema(kind: str, *, partial: bool = False) -> dict[str, Any]:
    """The schema of a kind, or of `authentication`; keys are in snake_case, `key` may be left out.

    `partial` is for files of the integration and connection layers: they require nothing, as they
    may inherit all of it.
    """
    model: type[Spec] = Authentication if kind == "authentication" else KINDS[kind]
    inline = LAYERED_KINDS if kind == "package" else ()
    models: list[type[Spec]] = [model, *(KINDS[inner] for inner in inline)]
    definitions = _definitions(models)
    if inline:
        _refer(definitions["Package"]["properties"])
    if partial:
        definitions = {name: {**inner, "required": []} for name, inner in definitions.items()}
    return {
        "$schema": DIALECT,
        "title": kind.replace("_", " ").capitalize(),
        "$ref": f"#/$defs/{model.__name__}",
        "$defs": definitions,
    }


def _definitions(models: list[type[Spec]]) -> dict[str, Any]:
    _, schema = models_json_schema([(m, "validation") for m in models], by_alias=False)
    elements = {model.__name__ for model in KINDS.values()}
    return {
        name: _as_written(definition, _BY_PLACE.get(name, ("key",)) if name in elements else ())
        for name, definition in schema["$defs"].items()
    }


def _as_written(definition: Mapping[str, Any], by_place: tuple[str, ...]) -> dict[str, Any]:
    """The definition with the keys that YAML uses, and without those a file need not say."""
    fields = definition.get("properties", {})
    required = [yaml_name(name) for name in definition.get("required", []) if name not in by_place]
    return {
        **definition,
        "properties": {yaml_name(name): field for name, field in fields.items()},
        "required": required,
    }


def _refer(properties: dict[str, Any]) -> None:
    """A package's elements are those of their kinds; an empty one may be left empty."""
    for kind in LAYERED_KINDS:
        name = folder_of(kind)
        options = [{"$ref": f"#/$defs/{KINDS[kind].__name__}"}, {"type": "null"}]
        properties[name] = {**properties[name], "additionalProperties": {"anyOf": options}}
