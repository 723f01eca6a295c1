"""Spell an element's own keys in snake_case, whichever of the two spellings a file uses.

Keys inside formulas, data schemas and free maps are the user's and stay as they are.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from membrane_sync.elements.base import part_of, yaml_keys, yaml_name
from membrane_sync.project.located import Block, Items


def snake_keys(model: type[BaseModel], block: Block) -> Block:
    """A copy of the block with snake_case keys and the same marks."""
    spellings = yaml_keys(model)
    annotations = {yaml_name(n): info.annotation for n, info in model.model_fields.items()}
    result = Block(block.mark)
    for key, value in block.items():
        name = spellings.get(key, key)
        part, held = part_of(annotations[name]) if name in annotations else (None, "none")
        result.put(name, _part(part, held, value), block.marks[key])
    return result


def _part(part: type[BaseModel] | None, held: str, value: Any) -> Any:
    if part is None:
        return value
    if held == "one" and isinstance(value, Block):
        return snake_keys(part, value)
    if held == "list" and isinstance(value, Items):
        renamed = [snake_keys(part, v) if isinstance(v, Block) else v for v in value]
        return Items(value.mark, zip(renamed, value.marks, strict=True))
    if held == "map" and isinstance(value, Block):
        result = Block(value.mark)
        for key, item in value.items():
            renamed_item = snake_keys(part, item) if isinstance(item, Block) else item
            result.put(key, renamed_item, value.marks[key])
        return result
    return value
