"""Spell an element's own keys in snake_case, whichever of the two spellings a file uses.

Keys inside formulas, data schemas and free maps are the user's and stay as they are.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from membrane_sync.elements.base import part_of, yaml_keys, yaml_name
from membrane_sync.errors import Problem
from membrane_sync.project.located import Block, Items, Mark
from membrane_sync.project.yaml_file import YamlProblem


def snake_keys(model: type[BaseModel], block: Block) -> Block:
    """A copy of the block with snake_case keys and the same marks.

    Raises YamlProblem where a key stands in both spellings.
    """
    spellings = yaml_keys(model)
    annotations = {yaml_name(n): info.annotation for n, info in model.model_fields.items()}
    result = Block(block.mark)
    for key, value in block.items():
        name = spellings.get(key, key)
        mark = block.marks[key]
        if name in result:
            raise YamlProblem(_twice(name, key, mark, result.marks[name]))
        part, held = part_of(annotations.get(name))
        result.put(name, value if part is None else _renamed(part, held, value), mark)
    return result


def _renamed(part: type[BaseModel], held: str, value: Any) -> Any:
    if held == "one" and isinstance(value, Block):
        return snake_keys(part, value)
    if held == "list" and isinstance(value, Items):
        items = [_renamed(part, "one", item) for item in value]
        return Items(value.mark, zip(items, value.marks, strict=True))
    if held == "map" and isinstance(value, Block):
        result = Block(value.mark)
        for key, item in value.items():
            result.put(key, _renamed(part, "one", item), value.marks[key])
        return result
    return value


def _twice(name: str, key: str, mark: Mark, first: Mark) -> Problem:
    message = f"{key!r} is another spelling of {name!r}, which is already in line {first.line}"
    return Problem(message, mark.file, mark.line)
