"""What a mapping gives, without running it: its schema, and which fields it takes from where."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from membrane_sync.formulas.check import variables
from membrane_sync.formulas.errors import FormulaError
from membrane_sync.formulas.evaluator import TOO_DEEP, operator_of
from membrane_sync.formulas.locators import steps_of, text_of
from membrane_sync.formulas.values import Step, Value, is_array

Schema: TypeAlias = dict[str, Any]
"""A schema of the data schema dialect; `{}` is that of any value."""

Rule: TypeAlias = Callable[[Value, Schema], Schema]

ANY: Final[Schema] = {}


def infer_schema(
    template: Value, schema: Schema, lookup: Callable[[str], Any] = lambda _: None
) -> Schema:
    """The schema of what a template gives for values of a schema; `{}` where it can't be known.

    A variable's schema is taken over as it is, with its title and its format. Any field of the
    result may be missing, so none is required. What the schema names by `$ref` is found by
    `lookup`, by its key; what it doesn't know may be anything, and so may a circle.

    >>> infer_schema(
    ...     {"mail": {"$lower": {"$var": "$.email"}}, "age": {"$var": "$.age"}},
    ...     {"type": "object", "properties": {"age": {"type": "integer"}}},
    ... )
    {'type': 'object', 'properties': {'mail': {'type': 'string'}, 'age': {'type': 'integer'}}}
    """
    try:
        found = _schema(template, _followed(schema, lookup, {}))
        return _with_copies(found, found, set())
    except RecursionError:
        raise FormulaError("", "", None, TOO_DEEP) from None


def _followed(schema: Schema, lookup: Callable[[str], Any], known: dict[str, Schema]) -> Schema:
    """The schema with what it names in its place; words beside a `$ref` win."""
    own = {word: part for word, part in schema.items() if word != "$ref"}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        key = reference.removeprefix("schemas/")
        if key not in known:
            known[key] = ANY  # what names itself within itself may be anything there
            known[key] = _followed(lookup(key) or ANY, lookup, known)
        own = {**known[key], **own}
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            own[word] = _followed(schema[word], lookup, known)
    if isinstance(schema.get("properties"), dict):
        fields = schema["properties"].items()
        own["properties"] = {
            name: _followed(part, lookup, known) if isinstance(part, dict) else part
            for name, part in fields
        }
    if isinstance(schema.get("anyOf"), list):
        options = [option for option in schema["anyOf"] if isinstance(option, dict)]
        own["anyOf"] = [_followed(option, lookup, known) for option in options]
    return own


def schema_at(schema: Schema, steps: Iterable[Step]) -> Schema:
    """The schema of what stands at these steps within a value of the schema."""
    for step in steps:
        schema = _inner(schema, step)
    return schema


def merged(schemas: Iterable[Schema]) -> Schema:
    """A schema that allows what any of these does; integers are numbers beside numbers."""
    options: list[Schema] = []
    for schema in schemas:
        if not schema:
            return ANY
        for option in schema.get("anyOf", [schema]):
            options = _with_option(options, option)
    return options[0] if len(options) == 1 else {"anyOf": options} if options else ANY


def lineage(template: Value) -> dict[str, set[str]]:
    """Each field of the result, by its path, with the locators it is made from.

    Paths are locators without the leading `$.`; a template that is itself a formula is `$`. A field
    that is copied from others is made from what they are made from, and a `$jsonata` expression
    from all of its scope.

    >>> lineage({"name": {"$concat": [{"$var": "first"}, {"$var": "last"}]}, "source": "crm"}) == {
    ...     "name": {"$.first", "$.last"},
    ...     "source": set(),
    ... }
    True
    """
    leaves = dict(_leaves(template))
    return {_path(steps): _sources(formula, leaves, {steps}) for steps, formula in leaves.items()}


def _path(steps: tuple[Step, ...]) -> str:
    text = text_of(steps)
    return text.removeprefix("$").removeprefix(".") or "$"


def _leaves(template: Value) -> Iterable[tuple[tuple[Step, ...], Value]]:
    waiting: list[tuple[tuple[Step, ...], Value]] = [((), template)]
    while waiting:
        steps, node = waiting.pop()
        if isinstance(node, dict) and node and operator_of(node) is None:
            inner = [((*steps, key), item) for key, item in node.items()]
        elif is_array(node) and node:
            inner = [((*steps, i), item) for i, item in enumerate(node)]
        else:
            yield steps, node
            continue
        waiting.extend(reversed(inner))


def _sources(
    formula: Value, leaves: dict[tuple[Step, ...], Value], seen: set[tuple[Step, ...]]
) -> set[str]:
    found = variables(formula)
    for wanted in _copied(formula):
        for steps, leaf in leaves.items():
            shared = min(len(steps), len(wanted))
            if steps[:shared] == wanted[:shared] and steps not in seen:
                found |= _sources(leaf, leaves, seen | {steps})
    return found


def _copied(formula: Value) -> list[tuple[Step, ...]]:
    """The places that `$copy` within the formula names, where they are written out."""
    found, waiting = [], [formula]
    while waiting:
        node = waiting.pop()
        if is_array(node):
            waiting.extend(node)
        elif isinstance(node, dict):
            operator = operator_of(node)
            name = operator.name if operator else ""
            steps = steps_of(node["$copy"]) if name == "$copy" else None
            found += [] if steps is None else [steps]
            waiting.extend(() if name == "$plain" else node.values())
    return found


def _schema(node: Value, scope: Schema) -> Schema:
    if isinstance(node, dict):
        operator = operator_of(node)
        if operator is not None:
            return _RULES.get(operator.name, _any)(node[operator.name], scope)
        fields = {str(key): _schema(item, scope) for key, item in node.items()}
        return {"type": "object", "properties": fields}
    if is_array(node):
        items = merged(_schema(item, scope) for item in node)
        return {"type": "array", "items": items} if node else {"type": "array"}
    return {"type": _type_of(node)}


def _type_of(value: Value) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "string")


def _literal(value: Value) -> Schema:
    """The schema of a value in which nothing is a formula."""
    if isinstance(value, dict):
        properties = {str(key): _literal(item) for key, item in value.items()}
        return {"type": "object", "properties": properties}
    if is_array(value):
        return {"type": "array", "items": merged(map(_literal, value))} if value else ARRAY
    return {"type": _type_of(value)}


def _inner(schema: Schema, step: Step) -> Schema:
    if "anyOf" in schema:
        found = [_inner(option, step) for option in schema["anyOf"]]
        return merged(option for option in found if option)
    if isinstance(step, int):
        return _child(schema, "items")
    if schema.get("type") == "array":
        return {"type": "integer"} if step == "length" else ANY
    properties = schema.get("properties")
    if isinstance(properties, dict) and isinstance(properties.get(step), dict):
        return properties[step]  # type: ignore[no-any-return]
    return _child(schema, "additionalProperties")


def _child(schema: Schema, key: str) -> Schema:
    child = schema.get(key)
    return child if isinstance(child, dict) else ANY


def _with_option(options: list[Schema], option: Schema) -> list[Schema]:
    """The options with one more, which an option of the same kind takes in."""
    for i, other in enumerate(options):
        joined = _joined(other, option)
        if joined is not None:
            return [*options[:i], joined, *options[i + 1 :]]
    return [*options, option]


def _joined(one: Schema, other: Schema) -> Schema | None:
    kinds = one.get("type"), other.get("type")
    if one == other:
        return one
    if set(map(str, kinds)) == {"integer", "number"}:
        return {"type": "number"}
    if kinds[0] != kinds[1] or not isinstance(kinds[0], str):
        return None
    shared: Schema = {key: item for key, item in one.items() if other.get(key) == item}
    if kinds[0] == "object":
        return {**shared, "properties": _joined_properties(one, other)}
    if kinds[0] == "array":
        items = merged(_child(s, "items") for s in (one, other) if "items" in s)
        return {**shared, "items": items}
    return shared


def _joined_properties(one: Schema, other: Schema) -> Schema:
    first, second = _child(one, "properties"), _child(other, "properties")
    both = {key: merged([first[key], second[key]]) for key in first if key in second}
    return {**first, **second, **both}


COPY: Final = "$copy"
"""The key of a place holder for the schema of another field."""


def _with_copies(schema: Schema, whole: Schema, seen: set[str]) -> Schema:
    """The schema with that of the copied field in the place of each copy."""
    if COPY in schema:
        steps = steps_of(schema[COPY])
        if steps is None or schema[COPY] in seen:
            return ANY
        return _with_copies(schema_at(whole, steps), whole, seen | {schema[COPY]})
    found = dict(schema)
    if isinstance(found.get("properties"), dict):
        properties = found["properties"].items()
        found["properties"] = {key: _with_copies(s, whole, seen) for key, s in properties}
    if isinstance(found.get("items"), dict):
        found["items"] = _with_copies(found["items"], whole, seen)
    if isinstance(found.get("anyOf"), list):
        found["anyOf"] = [_with_copies(option, whole, seen) for option in found["anyOf"]]
    return found


def _always(schema: Schema) -> Rule:
    return lambda _args, _scope: schema


def _any(_args: Value, _scope: Schema) -> Schema:
    return ANY


def _option(args: Value, name: str) -> Value:
    return args.get(name) if isinstance(args, dict) else None


def _var(args: Value, scope: Schema) -> Schema:
    steps = steps_of(args)
    return {"type": "null"} if steps is None else schema_at(scope, steps)


def _copy(args: Value, _: Schema) -> Schema:
    return {COPY: args} if isinstance(args, str) else ANY


def _of_all(args: Value, scope: Schema) -> Schema:
    if is_array(args):
        return _without_null(merged(_schema(item, scope) for item in args))
    return _child(_schema(args, scope), "items")


def _without_null(schema: Schema) -> Schema:
    options = [o for o in schema.get("anyOf", [schema]) if o.get("type") != "null"]
    return merged(options) if schema else ANY


def _pairs(args: Value, scope: Schema) -> Schema:
    pairs = _option(args, "mapping")
    found = [pair["to"] for pair in pairs if "to" in pair] if _are_objects(pairs) else []
    return merged(_schema(value, scope) for value in [*found, *_default(args)])


def _cases(args: Value, scope: Schema) -> Schema:
    cases = args if is_array(args) else _option(args, "cases")
    found = [case["value"] for case in cases if "value" in case] if _are_objects(cases) else []
    return merged(_schema(value, scope) for value in [*found, *_default(args)])


def _are_objects(items: Value) -> bool:
    return is_array(items) and all(isinstance(item, dict) for item in items)


def _default(args: Value) -> list[Value]:
    return [args["default"]] if isinstance(args, dict) and "default" in args else []


def _items(args: Value, scope: Schema) -> Schema:
    source = _schema(_option(args, "source"), scope)
    properties = {"item": _child(source, "items"), "parent": scope, "index": {"type": "integer"}}
    item = _schema(_option(args, "item"), {"type": "object", "properties": properties})
    return {"type": "array", "items": item}


def _objects(args: Value, scope: Schema) -> Schema:
    schemas = [_schema(item, scope) for item in args] if is_array(args) else []
    if not schemas or any(schema.get("type") != "object" for schema in schemas):
        return {"type": "object"}
    properties = [_child(schema, "properties") for schema in schemas]
    return {"type": "object", "properties": dict(ChainMap(*reversed(properties)))}


def _with_default(args: Value, scope: Schema) -> Schema:
    return merged(_schema(_option(args, name), scope) for name in ("value", "default"))


def _record(args: Value, _: Schema) -> Schema:
    return _literal(_option(args, "id"))


def _template(args: Value, _: Schema) -> Schema:
    """A text; what is none is given as it is."""
    template = _option(args, "template")
    return {"type": "string"} if isinstance(template, str) else _literal(template)


def _plain(args: Value, _: Schema) -> Schema:
    return _literal(args)


ARRAY: Final[Schema] = {"type": "array"}
_STRING, _BOOLEAN = _always({"type": "string"}), _always({"type": "boolean"})

_RULES: Final[dict[str, Rule]] = {
    "$var": _var,
    "$copy": _copy,
    "$plain": _plain,
    "$record": _record,
    "$tpl": _template,
    "$map": _pairs,
    "$case": _cases,
    "$firstNotEmpty": _of_all,
    "$mergeObjects": _objects,
    "$iterate": _items,
    "$default": _with_default,
    "$number": _always({"type": "number"}),
    "$extractDate": _always({"type": "string", "format": "date"}),
    "$extractTime": _always({"type": "string", "format": "time"}),
    "$date": _always({"type": "string", "format": "date-time"}),
    "$now": _always({"type": "string", "format": "date-time"}),
    "$split": _always({"type": "array", "items": {"type": "string"}}),
    "$dataSchemaRef": _always({"type": "object"}),
    **dict.fromkeys(("$eval", "$and", "$or", "$boolean"), _BOOLEAN),
    **dict.fromkeys(("$concat", "$join", "$regex"), _STRING),
    **dict.fromkeys(("$lower", "$upper", "$trim"), _STRING),
    **dict.fromkeys(("$firstName", "$lastName", "$domainFromEmail"), _STRING),
    **dict.fromkeys(("$lookup", "$findExternalRecordId", "$findAppRecordId"), _STRING),
}
"""What an operator gives, by its arguments and the scope's schema; any value where not listed."""
