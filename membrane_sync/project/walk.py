"""Visit every value that its model marks: formulas, locators, schemas, references.

It reads what the file says, so that one wrong key doesn't hide what's wrong beside it.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel

from membrane_sync.elements.base import (
    IsFormula,
    IsLocator,
    IsSchema,
    RefersTo,
    part_of,
    yaml_name,
)
from membrane_sync.project.located import Steps

Marker = IsFormula | IsLocator | IsSchema | RefersTo


@dataclass(frozen=True)
class Marked:
    """A value with what its model says it is; `path` is where it stands in the element."""

    path: Steps
    value: Any
    marker: Marker


def marked_values(
    model: type[BaseModel], block: Mapping[str, Any], path: Steps = ()
) -> Iterator[Marked]:
    """Every marked value that is set, in the order of the model's fields."""
    for name, info in model.model_fields.items():
        key = yaml_name(name)
        value = block.get(key)
        if value is None:
            continue
        part, held = part_of(info.annotation)
        if part is not None:
            for steps, inner in _parts(held, value):
                yield from marked_values(part, inner, (*path, key, *steps))
        inner_markers = [m for m in _markers(info.annotation) if isinstance(m, Marker)]
        each = typing.get_origin(info.annotation) is dict and isinstance(value, dict)
        for marker in inner_markers:
            for steps, item in _items(value) if each else [((), value)]:
                yield from _values(item, (*path, key, *steps), marker)
        for marker in info.metadata:
            if isinstance(marker, Marker):
                yield from _values(value, (*path, key), marker)


def _parts(held: str, value: Any) -> Iterator[tuple[Steps, Mapping[str, Any]]]:
    found: list[tuple[Steps, Any]] = []
    if held == "one":
        found = [((), value)]
    elif held == "list" and isinstance(value, list):
        found = [((index,), item) for index, item in enumerate(value)]
    elif held == "map" and isinstance(value, dict):
        found = [((key,), item) for key, item in value.items()]
    yield from ((steps, item) for steps, item in found if isinstance(item, dict))


def _items(value: Mapping[str, Any]) -> list[tuple[Steps, Any]]:
    """The values of a mapping whose keys are anybody's, each with the step to it."""
    return [((name,), item) for name, item in value.items()]


def _values(value: Any, path: Steps, marker: Marker) -> Iterator[Marked]:
    """Values of another type than their marker's are left to the model, which refuses them."""
    if isinstance(marker, RefersTo) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, (*path, index), marker)
    elif isinstance(value, _TYPES[type(marker)]):
        yield Marked(path, value, marker)


_TYPES: dict[type[Any], type[Any]] = {
    IsFormula: object,
    IsLocator: str,
    IsSchema: dict,
    RefersTo: str,
}


def _markers(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for argument in typing.get_args(annotation):
        if not isinstance(argument, str):
            yield from _markers(argument)
