"""The place where universal, integration and connection become one.

Objects merge by key. A formula is one value and is replaced whole. Lists are replaced whole unless
all their items carry a `key` of their own; then they merge by it. An absent key inherits, `null`
overrides, and `{$remove: true}`, or `$remove: true` beside an item's key, takes away what's
inherited. Each value keeps the mark of the layer it came from; what a merged object lacks, it lacks
where it was declared first.

Below the connection's files lie its overrides of the ledger, each the value of one path: as one
more block (`override_layer`) they follow the same rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from membrane_sync.ports import Override
from membrane_sync.project.located import Block, Items, Mark, is_formula, marked

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
    if is_keyed(child):
        return _merged_items(parent if is_keyed(parent) else Items(child.mark), child)
    if isinstance(child, Items):
        pairs = zip(child, child.marks, strict=True)
        return Items(child.mark, [(_merged(None, item), mark) for item, mark in pairs])
    return child


def _merged_blocks(parent: Block, child: Block) -> Block:
    result = Block(parent.mark)
    for key, value in parent.items():
        if key not in child:
            result.put(key, value, parent.marks[key])
        elif not removes(child[key]):
            result.put(key, _merged(value, child[key]), child.marks[key])
    for key, value in child.items():
        if key not in parent and not removes(value):
            result.put(key, _merged(None, value), child.marks[key])
    return result


def _merged_items(parent: Items, child: Items) -> Items:
    changed = by_key(child)
    pairs: list[tuple[Any, Mark]] = []
    for key, (item, mark) in by_key(parent).items():
        override, place = changed.pop(key, (None, mark))
        if override is None:
            pairs.append((item, mark))
        elif not removes(override):
            pairs.append((_merged_blocks(item, override), place))
    pairs += [(_merged(None, i), mark) for i, mark in changed.values() if not removes(i)]
    return Items(child.mark, pairs)


def by_key(items: Items) -> dict[str, tuple[Block, Mark]]:
    """The items of a keyed list with their marks."""
    pairs = zip(items, items.marks, strict=True)
    return {item["key"]: (item, mark) for item, mark in pairs}


def is_keyed(items: Any) -> TypeGuard[Items]:
    """Is it a list whose items have a key, each its own? Then an item is known by it."""
    if not isinstance(items, Items) or not items:
        return False
    keys = [item.get("key") if isinstance(item, Block) else None for item in items]
    return all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys)


def removes(value: Any) -> bool:
    """Does it take away what is inherited?"""
    return isinstance(value, Block) and value.get(REMOVE) is True


def override_layer(parent: Block, overrides: Iterable[tuple[Override, Mark]]) -> Block:
    """Overrides of an element as a layer; `parent` tells where paths lead into keyed lists."""
    layer = Block(parent.mark)
    for override, mark in overrides:
        value = {REMOVE: True} if override.removed else override.value
        _put(layer, parent, override.path, marked(value, mark), mark)
    return layer


def _put(layer: Block, parent: Any, path: Sequence[str], value: Any, mark: Mark) -> None:
    step, *rest = path
    if not rest:
        layer.put(step, value, mark)
        return
    below = parent.get(step) if isinstance(parent, Block) else None
    if is_keyed(below):
        if not isinstance(layer.get(step), Items):
            layer.put(step, Items(mark), mark)
        _put_item(layer[step], by_key(below), rest, value, mark)
        return
    if not isinstance(layer.get(step), Block):
        layer.put(step, Block(mark), mark)
    _put(layer[step], below, rest, value, mark)


def _put_item(
    items: Items,
    parents: dict[str, tuple[Block, Mark]],
    path: Sequence[str],
    value: Any,
    mark: Mark,
) -> None:
    key, *rest = path
    item = by_key(items)[key][0] if key in by_key(items) else Block(mark)
    if not item:
        item.put("key", key, parents[key][0].marks["key"] if key in parents else mark)
        items.append(item)
        items.marks.append(mark)
    if rest:
        _put(item, parents.get(key, (None, mark))[0], rest, value, mark)
    elif isinstance(value, Block):
        for name, inner in value.items():
            item.put(name, inner, mark)


def value_at(block: Block, path: Iterable[str]) -> tuple[Any, ...]:
    """The one value at a path of keys, empty where there is none."""
    value: Any = block
    for step in path:
        if isinstance(value, Block) and not is_formula(value) and step in value:
            value = value[step]
        elif is_keyed(value) and step in by_key(value):
            value = by_key(value)[step][0]
        else:
            return ()
    return (value,)


def value_hash(block: Block, path: Iterable[str]) -> str:
    """What stands at the path, as a hash by which to tell whether it has changed."""
    return hashlib.sha256(json.dumps(value_at(block, path)).encode()).hexdigest()
