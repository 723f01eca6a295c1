"""Visit every value of an element that its model marks: formulas, locators, schemas, references."""

from __future__ import annotations

import typing
from collections.abc import Iterator
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

Marker = IsFormula | IsLocator | IsSchema | RefersTo


@dataclass(frozen=True)
class Marked:
    """A value with what its model says it is; `path` is where it stands in the element."""

    path: tuple[Any, ...]
    value: Any
    marker: Marker


def marked_values(element: BaseModel, path: tuple[Any, ...] = ()) -> Iterator[Marked]:
    """Every marked value that is set, in the order of the model's fields."""
    for name, info in type(element).model_fields.items():
        value = getattr(element, name)
        if value is None:
            continue
        here = (*path, yaml_name(name))
        part, _ = part_of(info.annotation)
        if part is not None:
            yield from _parts(value, here)
        for marker in (*info.metadata, *_markers(info.annotation)):
            if isinstance(marker, Marker):
                yield from _values(value, here, marker)


def _parts(value: Any, path: tuple[Any, ...]) -> Iterator[Marked]:
    if isinstance(value, BaseModel):
        yield from marked_values(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _parts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _parts(item, (*path, index))


def _values(value: Any, path: tuple[Any, ...], marker: Marker) -> Iterator[Marked]:
    if isinstance(value, list) and isinstance(marker, RefersTo):
        for index, item in enumerate(value):
            yield Marked((*path, index), item, marker)
    elif isinstance(value, dict) and isinstance(marker, IsFormula) and _is_formula_map(value):
        for key, item in value.items():
            yield Marked((*path, key), item, marker)
    else:
        yield Marked(path, value, marker)


def _is_formula_map(value: dict[Any, Any]) -> bool:
    first = next(iter(value), None)
    return not (isinstance(first, str) and first.startswith("$"))


def _markers(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for argument in typing.get_args(annotation):
        if not isinstance(argument, str):
            yield from _markers(argument)
