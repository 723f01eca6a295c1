"""Read one YAML file into values with marks, and say precisely what's wrong with it.

YAML 1.2's scalars: only true and false are booleans, so `on`, `yes` and `no` stay text, and dates
stay text. A key that stands twice in one mapping is an error, where PyYAML would keep the last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from membrane_sync.errors import Problem
from membrane_sync.project.located import Block, Items, Mark

_TAG = "tag:yaml.org,2002:"
MAX_DEPTH = 500


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """The C loader (ten times faster), with fewer guesses about plain text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "yYnNoO":
    _Loader.yaml_implicit_resolvers[_first] = [
        resolver
        for resolver in _Loader.yaml_implicit_resolvers.get(_first, [])
        if resolver[0] != f"{_TAG}bool"
    ]


class YamlProblem(Exception):
    """The file can't be read; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_yaml(path: Path, shown: str, layer: str = "") -> Block:
    """The file's mapping with marks; an empty file is an empty mapping.

    Raises YamlProblem for text that isn't YAML, isn't a mapping, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlProblem(_syntax_problem(error, shown)) from None
    except UnicodeDecodeError as error:
        raise YamlProblem(Problem(f"not UTF-8 text: {error}", shown, 1)) from None
    if node is None:
        return Block(Mark(shown, 1, layer))
    value = _Builder(shown, layer).build(node, 0)
    if not isinstance(value, Block):
        raise YamlProblem(Problem("the file must hold a mapping (key: value)", shown, 1))
    return value


def _syntax_problem(error: yaml.YAMLError, shown: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    reason = getattr(error, "problem", None) or str(error)
    return Problem(f"not YAML: {reason}", shown, line)


class _Builder:
    """Turns composed nodes into values, each with its mark."""

    def __init__(self, shown: str, layer: str) -> None:
        self._shown = shown
        self._layer = layer
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise YamlProblem(self._problem("nested too deeply, or an alias of itself", node))
        if isinstance(node, yaml.MappingNode):
            return self._block(node, depth)
        if isinstance(node, yaml.SequenceNode):
            pairs = ((self.build(item, depth + 1), self._mark(item)) for item in node.value)
            return Items(self._mark(node), pairs)
        try:
            return self._scalars.construct_object(node)
        except yaml.YAMLError:
            raise YamlProblem(self._problem(f"unknown tag {node.tag}", node)) from None

    def _block(self, node: yaml.MappingNode, depth: int) -> Block:
        block = Block(self._mark(node))
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlProblem(self._problem("a key must be plain text", key_node))
            if key_node.tag == f"{_TAG}merge":
                raise YamlProblem(self._problem("merge keys (<<) are not supported", key_node))
            key = self.build(key_node, depth + 1)
            if key in block:
                first = block.marks[key].line
                message = f"duplicate key {key!r}; it's already in line {first}"
                raise YamlProblem(self._problem(message, key_node))
            block.put(key, self.build(value_node, depth + 1), self._mark(key_node))
        return block

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self._shown, node.start_mark.line + 1, self._layer)

    def _problem(self, message: str, node: yaml.Node) -> Problem:
        return Problem(message, self._shown, node.start_mark.line + 1)
