"""Which collection a `$lookup` searches: the one that the schema of its field refers to.

A schema says so by `referenceCollection`, whose parameters may be formulas over the result that is
being made, as where the options of a field depend on another field. Lists on the way to such a
value are those of the list item that is being made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from membrane_sync.formulas.evaluator import operator_of
from membrane_sync.formulas.inference import schema_at
from membrane_sync.formulas.lookups import is_asking
from membrane_sync.formulas.transform import transform_variables
from membrane_sync.formulas.values import MISSING, Step, Value, is_array

Results: TypeAlias = Callable[[], Value]
"""The template of the whole result, as it is read from where a formula stands."""


def with_collections(template: Value, schema: Mapping[str, Any]) -> Value:
    """The template in which each `$lookup` names its collection; others are left as they are.

    >>> contact = {"properties": {"owner": {"referenceCollection": {"key": "users"}}}}
    >>> with_collections({"owner": {"$lookup": {"query": {"email": "a@b.co"}}}}, contact)
    {'owner': {'$lookup': {'query': {'email': 'a@b.co'}, 'collection': {'key': 'users'}}}}
    """
    if not is_asking(template):
        return template
    return _Targets().of(template, dict(schema), (), lambda: template)


class _Targets:
    def of(
        self, node: Value, schema: dict[str, Any], path: tuple[Step, ...], results: Results
    ) -> Value:
        if is_array(node):
            inner = schema_at(schema, (0,))
            return [self._item(item, inner, path, results, within=False) for item in node]
        if not isinstance(node, dict):
            return node
        operator = operator_of(node)
        if operator is not None:
            rule = _RULES.get(operator.name)
            return node if rule is None else rule(self, node, schema, path, results)
        return {
            key: self.of(value, schema_at(schema, (str(key),)), (*path, key), results)
            for key, value in node.items()
        }

    def _item(
        self,
        node: Value,
        schema: dict[str, Any],
        path: tuple[Step, ...],
        results: Results,
        *,
        within: bool,
    ) -> Value:
        """A part that makes the items of the list at the path; `within` the scope of an item."""

        def seen_from_here() -> Value:
            outside = results()
            if within:  # what the scope around the item reads, the item reads of its parent
                outside = transform_variables(outside, {"$var": "$.parent"})
            return _replaced({} if outside is MISSING else outside, path, node)

        return self.of(node, schema, path, seen_from_here)

    def lookup(
        self, node: Value, schema: dict[str, Any], _path: tuple[Step, ...], results: Results
    ) -> Value:
        args, reference = node["$lookup"], schema.get("referenceCollection")
        if not isinstance(args, dict) or "collection" in args or not isinstance(reference, dict):
            return node
        collection = transform_variables(reference, results()) if _varies(reference) else reference
        return {
            "$lookup": {**args, **({} if collection is MISSING else {"collection": collection})}
        }

    def iterate(
        self, node: Value, schema: dict[str, Any], path: tuple[Step, ...], results: Results
    ) -> Value:
        args = node["$iterate"]
        if not isinstance(args, dict) or "item" not in args:
            return node
        inner = schema_at(schema, (0,))
        item = self._item(args["item"], inner, path, results, within=True)
        return {"$iterate": {**args, "item": item}}

    def choices(
        self, node: Value, schema: dict[str, Any], path: tuple[Step, ...], results: Results
    ) -> Value:
        """Each of the listed values, any of which may be the field's."""
        name = next(iter(node))
        if not is_array(node[name]):
            return node
        return {name: [self.of(value, schema, path, results) for value in node[name]]}

    def options(
        self, node: Value, schema: dict[str, Any], path: tuple[Step, ...], results: Results
    ) -> Value:
        """The values among the arguments of `$case`, `$map` and `$default`."""
        name = next(iter(node))

        def chosen(part: Value) -> Value:
            if is_array(part):
                return [chosen(item) for item in part]
            if not isinstance(part, dict) or operator_of(part) is not None:
                return part
            return {
                key: self.of(value, schema, path, results)
                if key in _VALUES[name]
                else chosen(value)
                if key in ("cases", "mapping")
                else value
                for key, value in part.items()
            }

        return {name: chosen(node[name])}


_VALUES: Final = {
    "$case": ("value", "default"),
    "$map": ("to", "default"),
    "$default": ("value", "default"),
}
"""The arguments that may become the field's value."""

_RULES: Final[dict[str, Any]] = {
    "$lookup": _Targets.lookup,
    "$iterate": _Targets.iterate,
    "$firstNotEmpty": _Targets.choices,
    "$mergeObjects": _Targets.choices,
    **dict.fromkeys(_VALUES, _Targets.options),
}
"""The operators whose result has the schema of the field they stand in."""


def _varies(node: Value) -> bool:
    if isinstance(node, dict):
        return operator_of(node) is not None or any(map(_varies, node.values()))
    return is_array(node) and any(map(_varies, node))


def _replaced(template: Value, path: tuple[Step, ...], item: Value) -> Value:
    """The template with one item in place of the list at the path."""
    if not path:
        return item
    if not isinstance(template, dict) or operator_of(template) is not None:
        return template
    return {**template, path[0]: _replaced(template.get(path[0]), path[1:], item)}
