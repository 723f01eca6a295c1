"""What all elements share: strict, frozen, snake_case keys, camelCase accepted on input.

Markers in a field's annotation tell the project what a value is, so that one walker can check all
formulas, locators, schemas and references of all kinds.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

KEY_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$"


@dataclass(frozen=True)
class IsFormula:
    """The value is a template of the formula language."""


@dataclass(frozen=True)
class IsLocator:
    """The value is a locator, such as `$.body.items`."""


@dataclass(frozen=True)
class IsSchema:
    """The value is a data schema (the JSON Schema dialect)."""


@dataclass(frozen=True)
class RefersTo:
    """The value is the key of an element of this kind, or the name of a `database`."""

    kind: str


class Unfit(ValueError):
    """What a model's validator finds wrong, each with the path below the model it's about."""

    def __init__(self, *found: tuple[tuple[str | int, ...], str]) -> None:
        super().__init__("; ".join(message for _, message in found))
        self.found = found


Formula = Annotated[Any, IsFormula()]
Template = Annotated[dict[str, Any], IsFormula()]
Locator = Annotated[str, IsLocator()]
Schema = Annotated[dict[str, Any], IsSchema()]


class Spec(BaseModel):
    """A part of an element: unknown keys are refused, values are not coerced, nothing changes."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        loc_by_alias=False,
        protected_namespaces=(),
    )


class Element(Spec):
    """What every kind of element has: a key unique in its kind, and words for people."""

    key: str = Field(pattern=KEY_PATTERN, description="Identity; by default the file's name")
    name: str | None = Field(default=None, description="What people see")
    description: str | None = Field(default=None, description="One or two sentences, Markdown")
    meta: dict[str, Any] = Field(default_factory=dict, description="Free for your own use")
    uuid: str | None = Field(default=None, description="Stable across export and import")

    @property
    def title(self) -> str:
        """The name people see; the key where there is none."""
        return self.name or self.key.replace("_", " ").capitalize()


def yaml_keys(model: type[BaseModel]) -> dict[str, str]:
    """Every spelling a YAML file may use for a field of `model`, to the one it is stored under."""
    spellings: dict[str, str] = {}
    for name, info in model.model_fields.items():
        written = yaml_name(name)
        spellings[written] = written
        spellings[to_camel(written)] = written
        if isinstance(info.alias, str):
            spellings[info.alias] = written
    return spellings


def yaml_name(field: str) -> str:
    """The key in YAML for a field: a trailing underscore only dodges a Python name."""
    return field.rstrip("_")


def part_of(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model inside an annotation, and how it's held: `one`, `list`, `map` or `none`."""
    for candidate in _alternatives(annotation):
        origin = typing.get_origin(candidate)
        arguments = typing.get_args(candidate)
        if _is_model(candidate):
            return candidate, "one"
        if origin is list and arguments and _is_model(_bare(arguments[0])):
            return _bare(arguments[0]), "list"
        if origin is dict and len(arguments) == 2 and _is_model(_bare(arguments[1])):
            return _bare(arguments[1]), "map"
    return None, "none"


def _alternatives(annotation: Any) -> list[Any]:
    bare = _bare(annotation)
    if typing.get_origin(bare) in (typing.Union, types.UnionType):
        return [_bare(option) for option in typing.get_args(bare)]
    return [bare]


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
