"""The place where universal, integration and connection become one.

Objects merge by key. A formula is one value and is replaced whole. Lists are replaced whole unless
all their items carry a `key` of their own; then they merge by it. An absent key inherits, `null`
overrides, and `{$remove: true}`, or `$remove: true` beside an item's key, takes away what's
inherited. Each value keeps the mark of the layer it came from; what a merged object lacks, it lacks
where it was declared first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

from membrane_sync.project.located import Block, Items, Mark, is_formula

REMOVE = "$remove"


def resolve(layers: Iterable[Block]) -> Block:
    """One block out of layers, lowest (universal) first; the inputs stay as they are."""
    result: Block | None = None
    for layer in layers:
        result = _merged_blocks(Block(layer.mark) if result is None else result, layer)
    if result is None:
        raise ValueError("resolve needs at least one layer")
    return result


def _merged(parent: Any, child: Any) -> Any:
    """What stands where both layers say something; `parent` None is where only the child does."""
    if is_formula(child):
        return child
    if isinstance(child, Block):
        mergeable = isinstance(parent, Block) and not is_formula(parent)
        return _merged_blocks(parent if mergeable else Block(child.mark), child)
    if _keyed(child):
        return _merged_items(parent if _keyed(parent) else Items(child.mark), child)
    if isinstance(child, Items):
        pairs = zip(child, child.marks, strict=True)
        return Items(child.mark, [(_merged(None, item), mark) for item, mark in pairs])
    return child


def _merged_blocks(parent: Block, child: Block) -> Block:
    result = Block(parent.mark)
    for key, value in parent.items():
        if key not in child:
            result.put(key, value, parent.marks[key])
        elif not _removes(child[key]):
            result.put(key, _merged(value, child[key]), child.marks[key])
    for key, value in child.items():
        if key not in parent and not _removes(value):
            result.put(key, _merged(None, value), child.marks[key])
    return result


def _merged_items(parent: Items, child: Items) -> Items:
    changed = _by_key(child)
    pairs: list[tuple[Any, Mark]] = []
    for key, (item, mark) in _by_key(parent).items():
        override, place = changed.pop(key, (None, mark))
        if override is None:
            pairs.append((item, mark))
        elif not _removes(override):
            pairs.append((_merged_blocks(item, override), place))
    pairs += [(_merged(None, i), mark) for i, mark in changed.values() if not _removes(i)]
    return Items(child.mark, pairs)


def _by_key(items: Items) -> dict[str, tuple[Block, Mark]]:
    pairs = zip(items, items.marks, strict=True)
    return {item["key"]: (item, mark) for item, mark in pairs}


def _keyed(items: Any) -> TypeGuard[Items]:
    """Do all the items have a key, each its own?"""
    if not isinstance(items, Items) or not items:
        return False
    keys = [item.get("key") if isinstance(item, Block) else None for item in items]
    return all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys)


def _removes(value: Any) -> bool:
    return isinstance(value, Block) and value.get(REMOVE) is True
