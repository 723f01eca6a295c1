"""Reading a formula without running it: what is wrong with it, and which variables it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NamedTuple, TypeAlias

from membrane_sync.formulas.errors import FormulaError
from membrane_sync.formulas.evaluator import MAX_DEPTH, OPERATORS, TOO_DEEP, operator_of
from membrane_sync.formulas.filters import COMPARISONS, FILTERS
from membrane_sync.formulas.locators import parse, steps_of, text_of
from membrane_sync.formulas.values import Step, Value, is_array, path_text

Path: TypeAlias = tuple[Step, ...]
Found: TypeAlias = Iterator[tuple[Path, str]]
"""Problems of one formula, each by its place within that formula."""


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
            found = _problems_of(part.node)
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
    return lambda args: [((name,), args[name]) for name in names if _has(args, name)]


def _concat_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    return [((), args)] if is_array(args) else _options("values", "delimiter")(args)


def _tpl_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    values: Value = args["values"] if _has(args, "values") else None
    if isinstance(values, dict):
        return [(("values", name), value) for name, value in values.items()]
    return [(("values", i), v) for i, v in enumerate(values)] if is_array(values) else []


def _map_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    yield from _options("value")(args)
    for i, pair in enumerate(_list_option(args, "mapping")):
        for steps, value in _options("from", "to")(pair):
            yield ("mapping", i, *steps), value
    yield from _options("default")(args)


def _case_parts(args: Value) -> Iterable[tuple[Path, Value]]:
    within, cases = _cases(args)
    for i, item in enumerate(cases):
        for steps, value in _options("filter", "value")(item):
            if steps != ("filter",) or not is_array(value):
                yield (*within, i, *steps), value
    yield from _options("default")(args)


_EVALUATED: Final[dict[str, Callable[[Value], Iterable[tuple[Path, Value]]]]] = {
    "$var": _nothing,
    "$plain": _nothing,
    "$record": _nothing,
    "$tpl": _tpl_parts,
    "$concat": _concat_parts,
    "$map": _map_parts,
    "$case": _case_parts,
    "$iterate": _options("source", "item"),
}
"""Which of its arguments an operator evaluates, where that is not simply all of them."""


def _locators_of(node: Value) -> list[Value]:
    if not isinstance(node, dict):
        return []
    operator = operator_of(node)
    if operator is None or operator.name not in ("$var", "$case"):
        return []
    if operator.name == "$var":
        return [node["$var"]]
    return [condition.get("field") for _, condition in _conditions(node["$case"])]


def _outside(steps: Path | None, items: int) -> Path | None:
    """The same steps seen from outside of the items; None for what is not read there."""
    for _ in range(items):
        if not steps:
            return steps
        if steps[0] != "parent":
            return None
        steps = steps[1:]
    return steps


def _problems_of(node: dict[str, Value]) -> Found:
    operator, first = operator_of(node), next(iter(node), None)
    if operator is None:
        if isinstance(first, str) and first.startswith("$"):
            yield (), f"{first} is no operator{_nearest(first, OPERATORS)} $plain keeps it as it is"
    elif not operator.runnable:
        yield (), f"{operator.name} is not supported by this version"
    elif operator.name == "$eval":
        yield from _eval_problems(node)
    elif operator.name in _SHAPES:
        args = node[operator.name]
        for steps, message in _SHAPES[operator.name](args):
            yield (operator.name, *steps), message


def _var_problems(args: Value) -> Found:
    if not isinstance(args, str):
        yield (), "$var needs a locator such as $.a.b[0]"
        return
    try:
        parse(args)
    except ValueError as error:
        yield (), str(error)


def _copy_problems(args: Value) -> Found:
    if not (isinstance(args, dict) and operator_of(args)):
        yield from (((), text.replace("$var", "$copy")) for _, text in _var_problems(args))


def _record_problems(args: Value) -> Found:
    if not _has(args, "id"):
        yield (), "$record needs an id"


def _tpl_problems(args: Value) -> Found:
    if not (_has(args, "template") and isinstance(args["template"], str)):
        yield (), "$tpl needs a template, which is a text"
    elif _has(args, "values") and not isinstance(args["values"], (dict, list, tuple)):
        yield ("values",), "$tpl needs values by name"


def _concat_problems(args: Value) -> Found:
    if not is_array(args) and not _is_list(args.get("values") if isinstance(args, dict) else None):
        yield (), "$concat needs a list of values, or values: with such a list"


def _map_problems(args: Value) -> Found:
    if not _has(args, "value"):
        yield (), "$map needs a value"
    if not (_has(args, "mapping") and is_array(args["mapping"])):
        hint = " (it says mappings)" if _has(args, "mappings") else ""
        yield (), f"$map needs a mapping, a list of from and to{hint}"
    for i, pair in enumerate(_list_option(args, "mapping")):
        if not (_has(pair, "from") and _has(pair, "to")):
            yield ("mapping", i), "a mapping needs from and to"


def _case_problems(args: Value) -> Found:
    if not is_array(args) and not (_has(args, "cases") and is_array(args["cases"])):
        yield (), "$case needs a list of cases, or cases: with such a list"
    within, cases = _cases(args)
    for i, item in enumerate(cases):
        if not _has(item, "value"):
            yield (*within, i), "a case needs a value, and a filter unless it always applies"
    for steps, condition in _conditions(args):
        yield from ((steps, message) for message in _condition_problems(condition))


def _condition_problems(condition: dict[str, Value]) -> Iterator[str]:
    for _, message in _var_problems(condition.get("field")):
        yield message.replace("$var", "a condition's field")
    name = condition.get("operator")
    if name not in FILTERS:
        yield f"{name!r} is no filter operator{_nearest(str(name), FILTERS)}".rstrip(";")


def _eval_problems(node: dict[str, Value]) -> Found:
    name = next(iter([*node][1:]), None)
    if name is None:
        yield (), f"$eval needs a comparison beside it: {', '.join(COMPARISONS)}"
    elif name not in COMPARISONS:
        text = f"{name!r} is no comparison{_nearest(str(name), COMPARISONS)}".rstrip(";")
        yield (name,), text
    elif name in ("oneOf", "noneOf") and not _is_list(node[name]):
        yield (name,), f"{name} needs a list"


def _iterate_problems(args: Value) -> Found:
    missing = [name for name in ("source", "item") if not _has(args, name)]
    if missing:
        yield (), f"$iterate needs a {' and an '.join(missing)}"
    elif not _is_list(args["source"]):
        yield ("source",), "$iterate needs a source that is a list"


def _list_problems(name: str) -> Callable[[Value], Found]:
    def problems(args: Value) -> Found:
        if not _is_list(args):
            yield (), f"{name} needs a list"

    return problems


_SHAPES: Final[dict[str, Callable[[Value], Found]]] = {
    "$var": _var_problems,
    "$copy": _copy_problems,
    "$record": _record_problems,
    "$tpl": _tpl_problems,
    "$concat": _concat_problems,
    "$map": _map_problems,
    "$case": _case_problems,
    "$iterate": _iterate_problems,
    **{n: _list_problems(n) for n in ("$and", "$or", "$firstNotEmpty", "$mergeObjects")},
}
"""What the arguments of an operator have to look like, where that matters."""


def _has(args: Value, name: str) -> bool:
    return isinstance(args, dict) and name in args


def _is_list(node: Value) -> bool:
    """True for a list, and for a formula, which may give one."""
    return is_array(node) or (isinstance(node, dict) and operator_of(node) is not None)


def _list_option(args: Value, name: str) -> Iterable[Value]:
    return args[name] if _has(args, name) and is_array(args[name]) else ()


def _cases(args: Value) -> tuple[Path, Iterable[Value]]:
    return ((), args) if is_array(args) else (("cases",), _list_option(args, "cases"))


def _conditions(args: Value) -> Iterator[tuple[Path, dict[str, Value]]]:
    """The conditions of those filters that are written as lists."""
    within, cases = _cases(args)
    for i, item in enumerate(cases):
        for j, condition in enumerate(_list_option(item, "filter")):
            yield (*within, i, "filter", j), condition if isinstance(condition, dict) else {}


def _nearest(name: str, names: Iterable[str]) -> str:
    found = get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]}?" if found else ";"
