"""The place where universal, integration and connection become one.

Objects merge by key. A formula is one value and is replaced whole. Lists are replaced whole unless
all their items carry `key`; then they merge by it. An absent key inherits, `null` overrides, and
`{$remove: true}` takes an inherited key away. Each resulting value keeps the mark of its layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from membrane_sync.project.located import Block, Items, is_formula

REMOVE = "$remove"


def resolve(layers: Iterable[Block]) -> Block:
    """One block out of layers, lowest (universal) first; the inputs stay as they are."""
    result: Block | None = None
    for layer in layers:
        result = _merged_blocks(result, layer) if result is not None else _without_removals(layer)
    if result is None:
        raise ValueError("resolve needs at least one layer")
    return result


def _merged(parent: Any, child: Any) -> Any:
    if isinstance(parent, Block) and isinstance(child, Block):
        if is_formula(parent) or is_formula(child):
            return child
        return _merged_blocks(parent, child)
    if isinstance(parent, Items) and isinstance(child, Items) and _keyed(parent) and _keyed(child):
        return _merged_by_key(parent, child)
    return _without_removals(child) if isinstance(child, Block) else child


def _merged_blocks(parent: Block, child: Block) -> Block:
    result = Block(child.mark)
    for key, value in parent.items():
        if key not in child:
            result.put(key, value, parent.marks[key])
        elif not _removes(child[key]):
            result.put(key, _merged(value, child[key]), child.marks[key])
    for key, value in child.items():
        if key not in parent and not _removes(value):
            clean = _without_removals(value) if isinstance(value, Block) else value
            result.put(key, clean, child.marks[key])
    return result


def _without_removals(block: Block) -> Block:
    if is_formula(block):
        return block
    return _merged_blocks(Block(block.mark), block) if block else block


def _merged_by_key(parent: Items, child: Items) -> Items:
    changed = {item["key"]: (item, mark) for item, mark in zip(child, child.marks, strict=True)}
    pairs = []
    for item, mark in zip(parent, parent.marks, strict=True):
        override = changed.pop(item["key"], None)
        if override is None:
            pairs.append((item, mark))
        elif not override[0].get(REMOVE):
            pairs.append((_merged(item, override[0]), override[1]))
    pairs.extend(pair for pair in changed.values() if not pair[0].get(REMOVE))
    return Items(child.mark, pairs)


def _keyed(items: Items) -> bool:
    return bool(items) and all(
        isinstance(item, Block) and "key" in item and not is_formula(item) for item in items
    )


def _removes(value: Any) -> bool:
    return isinstance(value, Block) and value.get(REMOVE) is True
