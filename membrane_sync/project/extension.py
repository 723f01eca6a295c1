"""Data collections that extend another one of their connector, and what of a list doesn't fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from membrane_sync.elements.data_collection import DataCollection, Listing, ListMethod
from membrane_sync.formulas import variables
from membrane_sync.project.events_check import CHANGES, REQUESTS
from membrane_sync.project.families import asks_of_parents, drill_down
from membrane_sync.project.layers import resolve
from membrane_sync.project.loader import CONNECTOR, Address
from membrane_sync.project.located import Block, Steps

WAYS = ("path", "graphql", "function", "not_supported")
"""What makes a request; one of them takes the place of those that are inherited."""

_REQUESTS_BELOW: dict[object, Sequence[Sequence[str]]] = {
    "deletes": [("endpoint",)],
    "events": [CHANGES, REQUESTS],
}
"""By which names parts of a collection lead to requests."""

_OWN = ("key", "name", "description", "uuid", "extends")
"""What says who the collection is, and isn't inherited."""


def extended(blocks: Mapping[Address, Block], address: Address, own: Block) -> Block:
    """The collection's block over that of the one it extends, and so on; marks are kept.

    Around a circle, which `circle` finds, it ends where it began.
    """
    chain = [own, *(block for _, block in _bases(blocks, address, own))]
    result = chain.pop()
    while chain:
        child = chain.pop()
        result = resolve([_heritable(result, child), child])
    return result


def circle(blocks: Mapping[Address, Block], address: Address, own: Block) -> list[str]:
    """The keys along which the collection extends itself; none if it doesn't."""
    keys = [address.key, *(at.key for at, _ in _bases(blocks, address, own))]
    last = blocks.get(replace(address, key=keys[-1]))
    following = _base_key(own if last is None or len(keys) == 1 else last)
    return [*keys, following] if following in keys else []


def is_extended(blocks: Mapping[Address, Block], address: Address) -> bool:
    """Is it what another collection of its connector completes?"""
    return any(
        (at.layer, at.scope, at.kind) == (address.layer, address.scope, address.kind)
        and _base_key(block) == address.key
        for at, block in blocks.items()
    )


def list_problems(collection: DataCollection) -> Iterator[tuple[Steps, str]]:
    """Where and what: requests that don't send what their cursor or pagination relies on."""
    if collection.list_ is not None:
        for path, message in (*_unsent(collection.list_), *_childless(collection.list_)):
            yield ("list", *path), message
    if collection.deletes.endpoint is not None:
        for path, message in _unsent(collection.deletes.endpoint):
            yield ("deletes", "endpoint", *path), message
    yield from _untold(collection)
    yield from _deletions_astray(collection)


def _unsent(method: Listing) -> Iterator[tuple[Steps, str]]:
    if method.function is not None or method.not_supported:
        return
    read = _read(method.query, method.body, method.headers, method.variables)
    read |= _read(method.path_parameters)
    cursor, pagination = method.cursor, method.pagination
    if cursor is not None and cursor.slices is not None and cursor.is_time:
        for bound in ("$.window.from", "$.window.to"):
            if not read & {bound, "$.window", "$"}:
                yield ("cursor",), f"the request doesn't use {bound}, so it can't be sliced"
    if pagination.result_cap and not read & {"$.cursor", "$.window.from", "$.window", "$"}:
        yield ("pagination", "result_cap"), "the request doesn't use $.cursor to read beyond it"
    tie = pagination.tie_break
    if tie is not None:
        used = _read(tie.query, tie.body, tie.variables)
        for name in ("$.tie.value", "$.tie.after"):
            if not used & {name, "$.tie", "$"}:
                yield ("pagination", "tie_break"), f"tie_break doesn't use {name}"


def _untold(collection: DataCollection) -> Iterator[tuple[Steps, str]]:
    """A total that a scan is to agree with, where none is told of the whole list."""
    method, deletes = collection.list_, collection.deletes
    if not deletes.exact_total or method is None or method.not_supported:
        return
    place = ("deletes", "exact_total")
    if not deletes.full_scan:
        yield place, "exact_total is what a full scan must agree with; declare full_scan too"
    if method.pagination.total_records is None:
        yield place, "exact_total needs list.pagination.total_records, which says the total"
    if method.cursor is not None and method.cursor.slices is not None:
        yield place, "exact_total can't be told where each window has a total of its own"


def _deletions_astray(collection: DataCollection) -> Iterator[tuple[Steps, str]]:
    """A list of deleted records of which nobody can tell whose they are."""
    endpoint, drill = collection.deletes.endpoint, drill_down(collection)
    if endpoint is None or endpoint.not_supported:
        return
    below = asks_of_parents(endpoint)
    if below and drill is None:
        message = "it reads a parent, which the list of those that exist doesn't have"
        yield ("deletes", "endpoint"), message
    if not below and drill is not None and not drill.unique_ids:
        message = "ids are unique below a parent alone, so the request must be below one: $.parent"
        yield ("deletes", "endpoint"), message


def _childless(method: ListMethod) -> Iterator[tuple[Steps, str]]:
    """A list below a parent that doesn't ask for that parent's children."""
    if method.parent is None or method.function is not None or method.not_supported:
        return
    read = _read(method.query, method.body, method.headers, method.variables)
    read |= _read(method.path_parameters)
    if not any(name == "$" or name.startswith(("$.parent", "$.ancestors")) for name in read):
        yield ("parent",), "the request doesn't use $.parent: it would be the same for each parent"


def _read(*formulas: object) -> set[str]:
    return {name for formula in formulas for name in variables(formula)}


def _bases(
    blocks: Mapping[Address, Block], address: Address, own: Block
) -> Iterator[tuple[Address, Block]]:
    seen, block = {address.key}, own
    while (key := _base_key(block)) and key not in seen:
        seen.add(key)
        base = Address(CONNECTOR, address.scope, address.kind, key)
        if base not in blocks:
            return
        block = blocks[base]
        yield base, block


def _base_key(block: Block) -> str:
    extends = block.get("extends")
    key = extends.get("collection") if isinstance(extends, Block) else None
    return key if isinstance(key, str) else ""


def _heritable(base: Block, child: Block) -> Block:
    """The base without who it is, and without requests that the child makes in another way."""
    result = Block(base.mark)
    for key, value in base.items():
        if key == "extends" and isinstance(value, Block) and isinstance(child.get(key), Block):
            result.put(key, value, base.marks[key])
        elif key not in _OWN:
            below = _REQUESTS_BELOW.get(key, ())
            result.put(key, _without_ways(value, child.get(key), below), base.marks[key])
    return result


def _without_ways(inherited: object, own: object, below: Sequence[Sequence[str]] = ()) -> object:
    """The inherited request; or, of what has its requests `below` these names, all of it."""
    if not isinstance(inherited, Block) or not isinstance(own, Block):
        return inherited
    if below:
        result = Block(inherited.mark)
        for key, value in inherited.items():
            mine = own.get(key) if key in below[0] else None
            result.put(key, _without_ways(value, mine, below[1:]), inherited.marks[key])
        return result
    if own.get("not_supported") is True:
        return Block(inherited.mark)
    if not any(way in own for way in WAYS):
        return inherited
    result = Block(inherited.mark)
    for key, value in inherited.items():
        if key not in WAYS:
            result.put(key, value, inherited.marks[key])
    return result
