"""Where columns are kept: the sheet of a plan's records, and the items within them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from membrane_sync.formulas.columns import (
    MAX_PARTS,
    UNKNOWN,
    Column,
    Scope,
    Unplannable,
    derived,
    given,
    is_name,
    literal,
    within,
)
from membrane_sync.formulas.values import MISSING, Step

MAX_DEPTH: Final = 40
MAX_ITEM_DEPTH: Final = 6
"""In an item nothing can be bound, so that some levels double the SQL."""

_QUICK: Final = re.compile(r"/(?!length$)[A-Za-z_]\w*", re.ASCII)
"""A place in an item that DuckDB can read together with others, without a list of them."""


@dataclass(slots=True)
class Sheet:
    """The columns that a plan needs, in layers: each layer sees those below it.

    It is itself the scope of a record.
    """

    leaves: dict[str, int] = field(default_factory=dict)
    layers: list[dict[str, str]] = field(default_factory=list)
    deepest: int = MAX_DEPTH

    def read(self, steps: tuple[Step, ...]) -> Column:
        return _read(self._leaf, steps)

    def bind(self, column: Column) -> Column:
        if is_name(column.sql) or column.known is not UNKNOWN or not column.level:
            return column
        while len(self.layers) < column.level:
            self.layers.append({})
        layer = self.layers[column.level - 1]
        name = layer.setdefault(column.sql, f"c{column.level}_{len(layer)}")
        within(len(layer), 4 * MAX_PARTS)
        return Column(name, column.level + 1, column.slow, test=column.test, certain=column.certain)

    def again(self, column: Column) -> Column:
        return self.bind(column)

    def copy(self) -> Sheet:
        """The same sheet, to try a formula on."""
        return Sheet(dict(self.leaves), [dict(layer) for layer in self.layers])

    def select(self, *sql: str) -> str:
        """The query for these columns over all columns of the sheet."""
        source = "input"
        if self.leaves:
            paths = ", ".join(map(literal, self.leaves))
            leaves = ", ".join(f"l[{i}] AS v{i}" for i in self.leaves.values())
            source = f"(SELECT j, leaves(j, [{paths}]) AS l FROM input)"
            source = f"(SELECT j, {leaves} FROM {source})"
        for layer in self.layers:
            columns = "".join(f", {column} AS {name}" for column, name in layer.items())
            source = f"(SELECT *{columns} FROM {source})"
        return f"SELECT {', '.join(sql)} FROM {source}"

    def _leaf(self, path: str) -> Column:
        number = self.leaves.setdefault(path, len(self.leaves) + 1)
        within(number)
        return Column(f"v{number}", 1, (_odd(f"v{number}"),))


@dataclass(slots=True)
class Item:
    """The scope of an `$iterate`'s item formula, inside of a lambda."""

    parent: Scope
    name: str
    deepest: int
    leaves: dict[str, str] = field(default_factory=dict)
    """The places that are read, and what they are called in a structure."""
    around: dict[str, Column] = field(default_factory=dict)
    """What is read of what is around the items, by its SQL."""

    def rows(self, items: str) -> str:
        """SQL for what is read of each item of a list, as structures."""
        leaves, e = self.leaves or {"$": "0"}, self.name
        parts = (f'"{name}" := {e}_l[{i}]' for i, name in enumerate(leaves.values(), start=1))
        read = f"leaves({e}_j, [{', '.join(map(literal, leaves))}])"
        listed = f"list_transform(items({items}), lambda {e}_j: {read})"
        rows = f"list_transform({listed}, lambda {e}_l: struct_pack({', '.join(parts)}))"
        if any(name.isdigit() for name in leaves.values()):
            return rows
        # In half the time; but it reads null as nothing.
        form = literal(json.dumps([dict.fromkeys(leaves.values(), "JSON")]))
        types = ", ".join(f'"{name}" VARCHAR' for name in leaves.values())
        quick = f"from_json({items}, {form})::STRUCT({types})[]"
        return f"CASE WHEN contains({items}, ':null') THEN {rows} ELSE {quick} END"

    def odd(self) -> dict[str, str]:
        """The conditions that what is read of the item is odd, with what they are for an `o`."""
        names = self.leaves.values()
        return {_odd(f'{self.name}."{name}"'): _odd(f'o."{name}"') for name in names}

    def read(self, steps: tuple[Step, ...]) -> Column:
        if not steps:
            raise Unplannable
        first, rest = steps[0], steps[1:]
        if first == "item":
            return _read(self._leaf, rest)
        if first == "parent":
            found = self.parent.read(rest)
            return self.around.setdefault(found.sql, found)
        return Column(f"({self.name}_i - 1)::VARCHAR") if steps == ("index",) else given(MISSING)

    def bind(self, column: Column) -> Column:
        # A lambda can't name what it computes, and the macros would multiply it.
        if column.known is UNKNOWN and not is_name(column.sql):
            raise Unplannable
        return column

    def again(self, column: Column) -> Column:
        return column

    def _leaf(self, path: str) -> Column:
        if path not in self.leaves:
            known = {name.lower() for name in self.leaves.values()}  # DuckDB takes `A` for `a`
            quick = _QUICK.fullmatch(path) and path[1:].lower() not in known
            self.leaves[path] = path[1:] if quick else str(len(self.leaves))
        name = f'{self.name}."{self.leaves[path]}"'
        return Column(name, slow=(_odd(name),))


def _odd(name: str) -> str:
    return f"odd({name})"


def _read(leaf: Callable[[str], Column], steps: tuple[Step, ...]) -> Column:
    found = leaf(_path(steps))
    if not steps or steps[-1] != "length":
        return found
    whole = leaf(_path(steps[:-1]))
    length = f"CASE WHEN is_list({whole.sql}) THEN json_array_length({whole.sql})::VARCHAR END"
    return derived(f"coalesce({found.sql}, {length})", found, whole)


def _path(steps: tuple[Step, ...]) -> str:
    """A JSON pointer, in which numbers also are names; or, with an index, a JSON path."""
    names = [step for step in steps if isinstance(step, str)]
    if not steps:
        return "$"
    if len(names) == len(steps):
        return "".join(map(pointer, names))
    if any(not name or name.isdigit() or set(name) & set('"\\*') for name in names):
        raise Unplannable
    if any(step >= 2**31 for step in steps if isinstance(step, int)):
        raise Unplannable
    return "$" + "".join(f"[{s}]" if isinstance(s, int) else f'."{s}"' for s in steps)


def pointer(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
