"""What the arguments of each operator have to look like, and what to say where they don't."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Final, TypeAlias

from membrane_sync.formulas.evaluator import OPERATORS, operator_of
from membrane_sync.formulas.filters import COMPARISONS, FILTERS
from membrane_sync.formulas.jsonata import problem_of
from membrane_sync.formulas.locators import parse
from membrane_sync.formulas.lookups import SCHEMA_TYPES
from membrane_sync.formulas.patterns import compiled
from membrane_sync.formulas.texts import UNITS
from membrane_sync.formulas.values import Step, Value, is_array

Path: TypeAlias = tuple[Step, ...]
Found: TypeAlias = Iterator[tuple[Path, str]]
"""Problems of one formula, each by its place within that formula."""

Shape: TypeAlias = Callable[[Value], Found]


def problems_of(node: dict[str, Value]) -> Found:
    """What is wrong with one formula, leaving aside the formulas within it."""
    operator, first = operator_of(node), next(iter(node), None)
    if operator is None:
        if isinstance(first, str) and first.startswith("$"):
            yield (), f"{first} is no operator{_nearest(first, OPERATORS)} $plain keeps it as it is"
    elif operator.name == "$eval":
        yield from _eval_problems(node)
    elif operator.name in SHAPES:
        args = node[operator.name]
        for steps, message in SHAPES[operator.name](args):
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
    if not has(args, "id"):
        yield (), "$record needs an id"


def _tpl_problems(args: Value) -> Found:
    if not (has(args, "template") and isinstance(args["template"], str)):
        yield (), "$tpl needs a template, which is a text"
    elif has(args, "values") and not isinstance(args["values"], (dict, list, tuple)):
        yield ("values",), "$tpl needs values by name"


def _concat_problems(args: Value) -> Found:
    if not is_array(args) and not _is_list(args.get("values") if isinstance(args, dict) else None):
        yield (), "$concat needs a list of values, or values: with such a list"


def _map_problems(args: Value) -> Found:
    if not has(args, "value"):
        yield (), "$map needs a value"
    if not (has(args, "mapping") and is_array(args["mapping"])):
        hint = " (it says mappings)" if has(args, "mappings") else ""
        yield (), f"$map needs a mapping, a list of from and to{hint}"
    for i, pair in enumerate(list_option(args, "mapping")):
        if not (has(pair, "from") and has(pair, "to")):
            yield ("mapping", i), "a mapping needs from and to"


def _case_problems(args: Value) -> Found:
    if not is_array(args) and not (has(args, "cases") and is_array(args["cases"])):
        yield (), "$case needs a list of cases, or cases: with such a list"
    within, cases = cases_of(args)
    for i, item in enumerate(cases):
        if not has(item, "value"):
            yield (*within, i), "a case needs a value, and a filter unless it always applies"
    for steps, condition in conditions_of(args):
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
    missing = [name for name in ("source", "item") if not has(args, name)]
    if missing:
        yield (), f"$iterate needs a {' and an '.join(missing)}"
    elif not _is_list(args["source"]):
        yield ("source",), "$iterate needs a source that is a list"


def _list_problems(name: str) -> Shape:
    def problems(args: Value) -> Found:
        if not _is_list(args):
            yield (), f"{name} needs a list"

    return problems


def _option_problems(name: str, needed: Iterable[str], others: Iterable[str] = ()) -> Shape:
    """What is wrong with arguments that have to be an object of these options."""

    def problems(args: Value) -> Found:
        if not isinstance(args, dict) or operator_of(args):
            yield (), f"{name} needs an object with {' and '.join(needed)}"
            return
        for option in needed:
            if option not in args:
                yield (), f"{name} needs a {option}"
        for option in args.keys() - {*needed, *others}:
            hint = _nearest(str(option), [*needed, *others]).rstrip(";")
            yield (option,), f"{name} knows no {option}{hint}"

    return problems


def _split_problems(args: Value) -> Found:
    yield from _option_problems("$split", ("value", "delimiter"))(args)
    if has(args, "delimiter") and args["delimiter"] == "":
        yield ("delimiter",), "$split needs a delimiter that is not blank"


def _regex_problems(args: Value) -> Found:
    others = ("group", "replace", "ignoreCase")
    yield from _option_problems("$regex", ("value", "pattern"), others)(args)
    pattern = args.get("pattern") if isinstance(args, dict) else None
    if pattern is None or isinstance(pattern, dict):
        return
    try:
        compiled(pattern)
    except ValueError as error:
        yield ("pattern",), f"$regex {error}"


def _date_problems(args: Value) -> Found:
    if not isinstance(args, dict) or operator_of(args):
        return
    yield from _option_problems("$date", ("value",), ("unit",))(args)
    unit = args.get("unit", "seconds")
    if not isinstance(unit, dict) and unit not in [*UNITS]:
        yield ("unit",), f"$date needs a unit that is {' or '.join(UNITS)}"


def _link_problems(name: str) -> Shape:
    def problems(args: Value) -> Found:
        yield from _option_problems(name, ("recordId",), ("dataLinkTable",))(args)
        table = args.get("dataLinkTable") if isinstance(args, dict) else None
        if table is not None and not isinstance(table, (str, dict)):
            yield ("dataLinkTable",), f"{name} needs a dataLinkTable with a key"

    return problems


def _lookup_problems(args: Value) -> Found:
    others = ("createIfNotFound", "create", "collection")
    yield from _option_problems("$lookup", ("query",), others)(args)
    if has(args, "query") and not (isinstance(args["query"], dict) and args["query"]):
        yield ("query",), "$lookup needs a query, an object of fields and values"


def _schema_problems(args: Value) -> Found:
    if isinstance(args, str) or (isinstance(args, dict) and operator_of(args)):
        return
    yield from _option_problems("$dataSchemaRef", ("type", "key"), ("parameters",))(args)
    kind = args.get("type") if isinstance(args, dict) else None
    if isinstance(kind, str) and kind not in SCHEMA_TYPES:
        yield ("type",), f"$dataSchemaRef needs a type that is {' or '.join(SCHEMA_TYPES)}"


def _python_problems(args: Value) -> Found:
    yield from _option_problems("$python", ("function",), ("arguments",))(args)
    if not isinstance(args, dict) or operator_of(args):
        return
    if not isinstance(args.get("function", ""), str):
        yield ("function",), "$python needs the name of a function, as it is"
    arguments = args.get("arguments", {})
    if not isinstance(arguments, (dict, list, tuple)) or (
        isinstance(arguments, dict) and operator_of(arguments)
    ):
        yield ("arguments",), "$python needs arguments by name, or a list of them"


def _now_problems(args: Value) -> Found:
    if args not in (None, {}):
        yield (), "$now takes no arguments; write $now: {}"


def _jsonata_problems(args: Value) -> Found:
    within: Path = ("expression",) if has(args, "expression") else ()
    text = args["expression"] if within else args
    if isinstance(text, dict) and operator_of(text):
        return
    if not isinstance(text, str):
        yield within, "$jsonata needs an expression, or expression: and input: with a value"
    elif text and (problem := problem_of(text)):
        yield within, f"$jsonata {problem}"


SHAPES: Final[dict[str, Shape]] = {
    "$var": _var_problems,
    "$copy": _copy_problems,
    "$record": _record_problems,
    "$tpl": _tpl_problems,
    "$concat": _concat_problems,
    "$map": _map_problems,
    "$case": _case_problems,
    "$iterate": _iterate_problems,
    "$jsonata": _jsonata_problems,
    "$split": _split_problems,
    "$join": _option_problems("$join", ("values", "delimiter")),
    "$regex": _regex_problems,
    "$date": _date_problems,
    "$now": _now_problems,
    "$default": _option_problems("$default", ("value", "default")),
    "$findAppRecordId": _link_problems("$findAppRecordId"),
    "$findExternalRecordId": _link_problems("$findExternalRecordId"),
    "$lookup": _lookup_problems,
    "$python": _python_problems,
    "$dataSchemaRef": _schema_problems,
    **{n: _list_problems(n) for n in ("$and", "$or", "$firstNotEmpty", "$mergeObjects")},
}
"""What the arguments of an operator have to look like, where that matters."""


def has(args: Value, name: str) -> bool:
    """True for arguments by name among which this one is."""
    return isinstance(args, dict) and name in args


def _is_list(node: Value) -> bool:
    """True for a list, and for a formula, which may give one."""
    return is_array(node) or (isinstance(node, dict) and operator_of(node) is not None)


def list_option(args: Value, name: str) -> Iterable[Value]:
    """The items of the argument of this name; none where it is no list."""
    return args[name] if has(args, name) and is_array(args[name]) else ()


def cases_of(args: Value) -> tuple[Path, Iterable[Value]]:
    """The cases of `$case`, and where in its arguments they stand."""
    return ((), args) if is_array(args) else (("cases",), list_option(args, "cases"))


def conditions_of(args: Value) -> Iterator[tuple[Path, dict[str, Value]]]:
    """The conditions of those filters that are written as lists."""
    within, cases = cases_of(args)
    for i, item in enumerate(cases):
        for j, condition in enumerate(list_option(item, "filter")):
            yield (*within, i, "filter", j), condition if isinstance(condition, dict) else {}


def _nearest(name: str, names: Iterable[str]) -> str:
    found = get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]}?" if found else ";"
