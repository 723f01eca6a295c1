"""Composing mappings: a formula over one vocabulary becomes a formula over another.

A universal mapping reads fields of a unified data model; a connector says how these fields come
from its own. Put together they are a mapping for that connector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from membrane_sync.formulas.check import variables
from membrane_sync.formulas.errors import FormulaError
from membrane_sync.formulas.evaluator import TOO_DEEP, operator_of
from membrane_sync.formulas.locators import parse, read, steps_of, text_of
from membrane_sync.formulas.shapes import list_option
from membrane_sync.formulas.values import MISSING, Step, Value, is_absent, is_array

Rule: TypeAlias = Callable[[dict[str, Value], Value], Value]
"""How one operator's formula is transformed with a mapping."""


def transform_variables(template: Value, mapping: Value) -> Value:
    """Replace each variable by what the mapping has in its place; MISSING where nothing is left.

    Parts whose variables the mapping does not know are removed, and so is a formula that can't do
    without them. Neither argument is changed, but the result may share parts with both.

    >>> transform_variables(
    ...     {"name": {"$concat": [{"$var": "first"}, {"$var": "middle"}]}, "id": {"$var": "code"}},
    ...     {"first": {"$var": "$.given"}},
    ... )
    {'name': {'$concat': [{'$var': '$.given'}]}}
    """
    try:
        return _transformed(template, MISSING if mapping is None else mapping)
    except RecursionError:
        raise FormulaError("", "", None, TOO_DEEP) from None


def fill_fields(mapping: Value, fallbacks: Mapping[str, list[Value]]) -> Value:
    """The mapping with the fields that it lacks and that others of its fields can give.

    The fallbacks of a field, which a locator names, are formulas over the mapping's own fields; the
    first one that reads a field which is there is taken.

    >>> fill_fields({"name": {"$var": "$.n"}}, {"first": [{"$firstName": {"$var": "name"}}]})
    {'name': {'$var': '$.n'}, 'first': {'$firstName': {'$var': '$.n'}}}
    """
    if not isinstance(mapping, dict) or operator_of(mapping) is not None:
        return mapping
    filled: Value = mapping
    for field, formulas in fallbacks.items():
        steps = parse(field)
        if _known(mapping, steps) is MISSING:
            value = next((f for f in formulas if _can_give(f, mapping)), MISSING)
            filled = _with_value(filled, steps, transform_variables(value, mapping))
    return filled


def _transformed(node: Value, mapping: Value) -> Value:
    if is_array(node):
        items = [_transformed(item, mapping) for item in node]
        left = [item for item in items if item is not MISSING]
        return left if left or not node else MISSING
    if not isinstance(node, dict):
        return node
    operator = operator_of(node)
    if operator is not None:
        return _RULES.get(operator.name, _argument)(node, mapping)
    fields = _fields(node, mapping)
    return fields if fields or not node else MISSING


def _fields(node: dict[str, Value], mapping: Value) -> dict[str, Value]:
    fields = {key: _transformed(item, mapping) for key, item in node.items()}
    return {key: item for key, item in fields.items() if item is not MISSING}


def _argument(node: dict[str, Value], mapping: Value) -> Value:
    name = next(iter(node))
    args = _transformed(node[name], mapping)
    return MISSING if args is MISSING else {name: args}


def _unchanged(node: dict[str, Value], _: Value) -> Value:
    return node


def _variable(node: dict[str, Value], mapping: Value) -> Value:
    """What the mapping has at the variable's place; past a variable of its own, the way goes on."""
    steps = steps_of(node["$var"])
    return MISSING if steps is None else _known(mapping, steps)


def _known(mapping: Value, steps: tuple[Step, ...]) -> Value:
    for i in range(len(steps) + 1):
        if isinstance(mapping, dict) and operator_of(mapping) is not None:
            return _beyond(mapping, steps[i:])
        if i < len(steps):
            mapping = read(mapping, steps[i : i + 1])
    return MISSING if mapping is MISSING else mapping


def _beyond(found: dict[str, Value], rest: tuple[Step, ...]) -> Value:
    if not rest:
        return found
    start = steps_of(found["$var"]) if "$var" in [*found][:1] else None
    return MISSING if start is None else {"$var": text_of((*start, *rest))}


def _needing(*needed: str) -> Rule:
    """The rule of an operator whose arguments have names, and that needs some of these."""

    def rule(node: dict[str, Value], mapping: Value) -> Value:
        name = next(iter(node))
        args = node[name]
        if not isinstance(args, dict) or operator_of(args) is not None:
            return _argument(node, mapping)
        left = _fields(args, mapping)
        lacks = any(option in args and option not in left for option in needed)
        return MISSING if lacks else {name: left}

    return rule


def _comparison(node: dict[str, Value], mapping: Value) -> Value:
    parts = {key: _transformed(node[key], mapping) for key in [*node][:2]}
    return MISSING if MISSING in parts.values() else parts


def _template(node: dict[str, Value], mapping: Value) -> Value:
    """Values that are gone become null, so that their names don't stay in the text."""
    args = node["$tpl"]
    values = args.get("values") if isinstance(args, dict) else None
    if not isinstance(values, dict) or not values:
        return node
    found = {name: _transformed(value, mapping) for name, value in values.items()}
    if all(value is MISSING for value in found.values()):
        return MISSING
    blank = {name: None if value is MISSING else value for name, value in found.items()}
    return {"$tpl": {**args, "values": blank}}


def _pairs(node: dict[str, Value], mapping: Value) -> Value:
    """A value that is gone is absent: what stands for null then, or else the default."""
    args = node["$map"]
    if not isinstance(args, dict) or operator_of(args) is not None:
        return _argument(node, mapping)
    pairs = list(list_option(args, "mapping"))
    if _transformed(args.get("value", MISSING), mapping) is MISSING:
        for_null = (p.get("to", MISSING) for p in pairs if isinstance(p, dict) and _is_null(p))
        return _transformed(next(for_null, args.get("default", MISSING)), mapping)
    kept = [found for pair in pairs for found in _pair(pair, mapping)]
    return {"$map": {**_fields(args, mapping), "mapping": kept}}


def _is_null(pair: dict[str, Value]) -> bool:
    return "from" in pair and pair["from"] is None


def _pair(pair: Value, mapping: Value) -> list[Value]:
    if not isinstance(pair, dict):
        return [pair]
    found = _fields(pair, mapping)
    return [found] if "from" in found or "from" not in pair else []


def _cases(node: dict[str, Value], mapping: Value) -> Value:
    """Cases whose filter is gone are gone; where none is left, the default stands for itself."""
    args = node["$case"]
    options = {"cases": args} if is_array(args) else args
    if not isinstance(options, dict) or not is_array(options.get("cases")):
        return _argument(node, mapping)
    cases = [case for item in options["cases"] for case in _case(item, mapping)]
    default = _transformed(options.get("default", MISSING), mapping)
    if not cases:
        return default
    if is_array(args):
        return {"$case": cases}
    return {"$case": {"cases": cases, **({} if default is MISSING else {"default": default})}}


def _case(item: Value, mapping: Value) -> list[Value]:
    if not isinstance(item, dict):
        return [item]
    condition = item.get("filter")
    if is_array(condition):
        left = _conditions(condition, mapping)
        parts: dict[str, Value] | None = {"filter": left} if left is not None else None
    elif is_absent(condition):
        parts = {}
    else:
        found = _transformed(condition, mapping)
        parts = None if found is MISSING else {"filter": found}
    if parts is None:
        return []
    value = _transformed(item.get("value", MISSING), mapping)
    return [{**parts, **({} if value is MISSING else {"value": value})}]


def _conditions(conditions: Value, mapping: Value) -> list[Value] | None:
    """The older filter over the new fields; None where one of them is not a plain field there."""
    found = []
    for condition in conditions:
        field = condition.get("field") if isinstance(condition, dict) else None
        formula = _variable({"$var": field}, mapping)
        if not isinstance(formula, dict) or [*formula] != ["$var"]:
            return None
        found.append({**condition, "field": formula["$var"]})
    return found


def _items(node: dict[str, Value], mapping: Value) -> Value:
    """In the item formula, what is read of the item stays, and the scope around it is new."""
    args = node["$iterate"]
    if not isinstance(args, dict) or "source" not in args:
        return _argument(node, mapping)
    source = _transformed(args["source"], mapping)
    if source is MISSING:
        return MISSING
    item = _transformed(args.get("item", MISSING), _within_item(mapping))
    return {"$iterate": {"source": source, **({} if item is MISSING else {"item": item})}}


def _within_item(mapping: Value) -> Value:
    """The mapping as it has to be where an item is the scope, and the old scope its parent."""
    outside = transform_variables(mapping, {"$var": "$.parent"})
    here = {"item": {"$var": "$.item"}, "index": {"$var": "$.index"}}
    return here if outside is MISSING else {**here, "parent": outside}


def _expression(node: dict[str, Value], mapping: Value) -> Value:
    """An expression can't be rewritten, so it is given the scope that it was written for."""
    args = node["$jsonata"]
    if isinstance(args, dict) and operator_of(args) is None and "input" in args:
        return _needing("expression", "input")(node, mapping)
    is_named = isinstance(args, dict) and operator_of(args) is None
    text = _transformed(args.get("expression", MISSING) if is_named else args, mapping)
    if text is MISSING or mapping is MISSING:
        return MISSING
    if mapping == {"$var": "$"}:
        return {"$jsonata": text}
    return {"$jsonata": {"expression": text, "input": mapping}}


def _deferred(node: dict[str, Value], mapping: Value) -> Value:
    """A variable that is the whole formula belongs to the later scope."""
    inner = node["$formula"]
    is_variable = isinstance(inner, dict) and [*inner][:1] == ["$var"]
    return node if is_variable else _argument(node, mapping)


def _function(node: dict[str, Value], mapping: Value) -> Value:
    """Arguments that are gone become null, as absent ones are to the function."""
    args = node["$python"]
    given = args.get("arguments") if isinstance(args, dict) else None
    if not given or not isinstance(given, (dict, list, tuple)):
        return node
    names: Value = given if isinstance(given, dict) else range(len(given))
    found = {name: _transformed(given[name], mapping) for name in names}
    if all(value is MISSING for value in found.values()):
        return MISSING
    filled = {name: None if value is MISSING else value for name, value in found.items()}
    arguments: Value = filled if isinstance(given, dict) else [*filled.values()]
    return {"$python": {**args, "arguments": arguments}}


def _with_default(node: dict[str, Value], mapping: Value) -> Value:
    args = node["$default"]
    if not isinstance(args, dict) or operator_of(args) is not None:
        return _argument(node, mapping)
    left = _fields(args, mapping)
    if "value" not in left:
        return left.get("default", MISSING)
    return {"$default": left} if "default" in left else left["value"]


_RULES: Final[dict[str, Rule]] = {
    "$var": _variable,
    "$plain": _unchanged,
    "$record": _unchanged,
    "$now": _unchanged,
    "$tpl": _template,
    "$concat": _needing("values"),
    "$map": _pairs,
    "$case": _cases,
    "$eval": _comparison,
    "$iterate": _items,
    "$jsonata": _expression,
    "$formula": _deferred,
    "$default": _with_default,
    "$split": _needing("value"),
    "$join": _needing("values"),
    "$date": _needing("value"),
    "$regex": _needing("value", "pattern"),
    "$findExternalRecordId": _needing("recordId"),
    "$findAppRecordId": _needing("recordId"),
    "$lookup": _needing("query"),
    "$python": _function,
}
"""The operators whose formulas are not simply their transformed argument."""


def _can_give(formula: Value, mapping: Value) -> bool:
    return any(_known(mapping, parse(locator)) is not MISSING for locator in variables(formula))


def _with_value(mapping: Value, steps: tuple[Step, ...], value: Value) -> Any:
    """A copy of the mapping with the value at these steps, if there can be one."""
    if value is MISSING or (isinstance(mapping, dict) and operator_of(mapping) is not None):
        return mapping
    if not steps:
        return value
    inner = mapping if isinstance(mapping, dict) else {}
    return {**inner, steps[0]: _with_value(inner.get(steps[0], {}), steps[1:], value)}
