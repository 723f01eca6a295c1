"""Reading a formula without running it: what is wrong with it, and which variables it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from membrane_sync.formulas.errors import FormulaError
from membrane_sync.formulas.evaluator import MAX_DEPTH, TOO_DEEP, operator_of
from membrane_sync.formulas.locators import steps_of, text_of
from membrane_sync.formulas.lookups import SCHEMA_TYPES
from membrane_sync.formulas.shapes import (
    Path,
    cases_of,
    conditions_of,
    has,
    list_option,
    problems_of,
)
from membrane_sync.formulas.values import Value, is_array, path_text


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a formula: where, and what to do about it."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.message}" if self.path else self.message


class _Part(NamedTuple):
    """A place where a value is evaluated, how deep it is, and in how many `$iterate` items."""

    path: Path
    node: Value
    depth: int
    items: int


def check(formula: Value) -> list[Problem]:
    """List what is wrong with a formula, in the order it is written; empty means it can run.

    >>> [str(problem) for problem in check({"name": {"$firstname": {"$var": "$.name"}}})]
    ['name: $firstname is no operator; did you mean $firstName? $plain keeps it as it is']
    """
    problems: list[Problem] = []
    for part in _parts(formula):
        if part.depth > MAX_DEPTH:
            return [*problems, Problem(part.path, TOO_DEEP)]
        if isinstance(part.node, dict):
            found = problems_of(part.node)
            problems += [Problem((*part.path, *steps), message) for steps, message in found]
    return problems


def variables(formula: Value) -> set[str]:
    """The locators that a formula reads of its scope, each in its normal form `$.a.b`.

    What `$iterate` reads of an item counts as read of its source.

    >>> sorted(variables({"$concat": [{"$var": "first"}, {"$var": "$.last"}]}))
    ['$.first', '$.last']
    """
    read: set[str] = set()
    for part in _parts(formula):
        if part.depth > MAX_DEPTH:
            raise FormulaError(path_text(part.path), "", None, TOO_DEEP)
        for locator in _locators_of(part.node):
            steps = _outside(steps_of(locator), part.items)
            read |= set() if steps is None else {text_of(steps)}
    return read


def references(formula: Value) -> Iterator[tuple[Path, str, str]]:
    """Where a formula names an element by a fixed key, with the element's kind."""
    for part in _parts(formula):
        operator = operator_of(part.node) if isinstance(part.node, dict) else None
        if operator is not None and operator.name in _NAMING:
            args = part.node[operator.name]
            for steps, kind, key in _NAMING[operator.name](args):
                yield (*part.path, operator.name, *steps), kind, key


def creating(formula: Value) -> Iterator[Path]:
    """Where a `$lookup` wants a record created that it doesn't find, which none does yet."""
    for part in _parts(formula):
        operator = operator_of(part.node) if isinstance(part.node, dict) else None
        args: Value = part.node["$lookup"] if operator and operator.name == "$lookup" else None
        if has(args, "createIfNotFound") and args["createIfNotFound"] is not False:
            yield (*part.path, "$lookup", "createIfNotFound")


def _parts(formula: Value) -> Iterator[_Part]:
    """Every place that evaluation can reach, in the order it is written."""
    waiting = [_Part((), formula, 0, 0)]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(reversed([_inner(part, steps, node) for steps, node in _inside(part.node)]))


def _inner(part: _Part, steps: Path, node: Value) -> _Part:
    items = part.items + (steps == ("$iterate", "item"))
    return _Part((*part.path, *steps), node, part.depth + 1, items)


def _inside(node: Value) -> Iterable[tuple[Path, Value]]:
    if is_array(node):
        return [((i,), item) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return []
    operator = operator_of(node)
    if operator is None:
        return [((key,), item) for key, item in node.items()]
    name = operator.name
    args = node[name]
    if name in _EVALUATED:
        return [((name, *steps), part) for steps, part in _EVALUATED[name](args)]
    beside = [((key,), node[key]) for key in [*node][1:2] if name == "$eval"]
    return [((name,), args), *beside]


def _nothing(_: Value) -> Iterable[tuple[Path, Value]]:
    return []


def _options(*names: str) -> Callable[[Value], Iterable[tuple[Path, Value]]]:
    return lambda args: [((name,), args[name]) for name in names if has(args, name)]


def _concat_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    return [((), args)] if is_array(args) else _options("values", "delimiter")(args)


def _tpl_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    values: Value = args["values"] if has(args, "values") else None
    if isinstance(values, dict):
        return [(("values", name), value) for name, value in values.items()]
    return [(("values", i), v) for i, v in enumerate(values)] if is_array(values) else []


def _map_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    yield from _options("value")(args)
    for i, pair in enumerate(list_option(args, "mapping")):
        for steps, value in _options("from", "to")(pair):
            yield ("mapping", i, *steps), value
    yield from _options("default")(args)


def _case_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    within, cases = cases_of(args)
    for i, item in enumerate(cases):
        for steps, value in _options("filter", "value")(item):
            if steps != ("filter",) or not is_array(value):
                yield (*within, i, *steps), value
    yield from _options("default")(args)


def _lookup_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    query: Value = args["query"] if has(args, "query") else None
    if isinstance(query, dict):
        yield from ((("query", name), value) for name, value in query.items())
    yield from _options("collection")(args)


def _python_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    given: Value = args["arguments"] if has(args, "arguments") else None
    if isinstance(given, dict):
        return [(("arguments", name), value) for name, value in given.items()]
    return [(("arguments", i), v) for i, v in enumerate(given)] if is_array(given) else []


_EVALUATED: Final[dict[str, Callable[[Value], Iterable[tuple[Path, Value]]]]] = {
    "$var": _nothing,
    "$plain": _nothing,
    "$record": _nothing,
    "$tpl": _tpl_parts,
    "$concat": _concat_parts,
    "$map": _map_parts,
    "$case": _case_parts,
    "$iterate": _options("source", "item"),
    "$lookup": _lookup_parts,
    "$python": _python_parts,
    "$findAppRecordId": _options("recordId", "dataLinkTable"),
    "$findExternalRecordId": _options("recordId", "dataLinkTable"),
}
"""Which of its arguments an operator evaluates, where that is not simply all of them."""


def _named_table(args: Value) -> Iterator[tuple[Path, str, str]]:
    table: Value = args.get("dataLinkTable") if isinstance(args, dict) else None
    if isinstance(table, str):
        yield ("dataLinkTable",), "data_link_table", table
    elif has(table, "key") and isinstance(table["key"], str):
        yield ("dataLinkTable", "key"), "data_link_table", table["key"]


def _named_collection(args: Value) -> Iterator[tuple[Path, str, str]]:
    collection: Value = args.get("collection") if isinstance(args, dict) else None
    if has(collection, "key") and isinstance(collection["key"], str):
        yield ("collection", "key"), "data_collection", collection["key"]


def _named_schema(args: Value) -> Iterator[tuple[Path, str, str]]:
    if isinstance(args, str):
        yield (), "data_schema", args
    elif has(args, "key") and isinstance(args["key"], str):
        kinds = dict(zip(SCHEMA_TYPES, ("data_collection", "data_schema"), strict=True))
        if args.get("type") in [*kinds]:
            yield ("key",), kinds[args["type"]], args["key"]


def _named_function(args: Value) -> Iterator[tuple[Path, str, str]]:
    if has(args, "function") and isinstance(args["function"], str):
        yield ("function",), "hook", args["function"]


_NAMING: Final[dict[str, Callable[[Value], Iterator[tuple[Path, str, str]]]]] = {
    "$findAppRecordId": _named_table,
    "$findExternalRecordId": _named_table,
    "$lookup": _named_collection,
    "$dataSchemaRef": _named_schema,
    "$python": _named_function,
}
"""The operators that name elements of the project."""


def _locators_of(node: Value) -> list[Value]:
    if not isinstance(node, dict):
        return []
    operator = operator_of(node)
    if operator is None or operator.name not in ("$var", "$case", "$jsonata", "$formula"):
        return []
    if operator.name == "$var":
        return [node["$var"]]
    if operator.name == "$formula":
        return [*_filled_locators(node["$formula"])]
    if operator.name == "$jsonata":  # which names it reads isn't known: perhaps all
        return [] if has(node["$jsonata"], "input") else ["$"]
    return [condition.get("field") for _, condition in conditions_of(node["$case"])]


def _filled_locators(formula: Value) -> Iterator[Value]:
    """What `$formula` fills in: its variables wherever they stand, but for those of items."""
    waiting = [formula]
    while waiting:
        node = waiting.pop()
        if is_array(node):
            waiting.extend(node)
        elif isinstance(node, dict):
            operator = operator_of(node)
            args = node.values() if operator is None else [node[operator.name]]
            if operator is not None and operator.name == "$var":
                yield from args
            elif operator is not None and operator.name == "$iterate":
                waiting.extend(arg["source"] for arg in args if has(arg, "source"))
            else:
                waiting.extend(args)


def _outside(steps: Path | None, items: int) -> Path | None:
    """The same steps seen from outside of the items; None for what is not read there."""
    for _ in range(items):
        if not steps:
            return steps
        if steps[0] != "parent":
            return None
        steps = steps[1:]
    return steps
