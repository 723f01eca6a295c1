"""Read one YAML file into values with marks, and say precisely what's wrong with it.

The scalars are those of YAML 1.2: only true and false are booleans, so `on`, `yes` and `no` stay
text; so do dates and `12:30`; and 010 is ten. A key that stands twice in one mapping is an error,
where PyYAML would keep the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from membrane_sync.errors import Problem
from membrane_sync.project.located import Block, Items, Mark

_TAG = "tag:yaml.org,2002:"
MAX_DEPTH = 250
"""Levels of mappings and lists; an operator and the list of its arguments are one."""

_TOO_DEEP = f"nested too deeply; at most {MAX_DEPTH} levels are read"


def _integer(text: str) -> int:
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda _: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
        _number,
    ),
    "merge": (r"<<", "<", str),
    "str": (r"(?!)", "", str),
}
"""Of each type: how its plain scalars look, what they begin with, and how they are read."""


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """The C loader (ten times faster), with fewer guesses about plain text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _name, (_pattern, _first, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})\\Z"), [*_first])
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"\Z"), [""])


class _Dumper(yaml.SafeDumper):
    """Quotes what either set of rules would take for something else than text."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        """Double quotes around the line ends that only YAML knows; plain, they'd become spaces."""
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar(f"{_TAG}str", text, style=style)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML calls it so
        return True


_Dumper.add_representer(str, _Dumper.represent_str)
for _name, (_pattern, _first, _) in _SCALARS.items():
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})\\Z"), [*_first])


class YamlProblem(Exception):
    """The file can't be read; `problems` say where and why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def read_yaml(path: Path, shown: str, layer: str = "") -> Block:
    """The file's mapping with marks; an empty file is an empty mapping.

    Raises YamlProblem for text that isn't YAML, isn't a mapping, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise YamlProblem(_encoding_problem(error, shown)) from None
    except OSError as error:
        raise YamlProblem(Problem(f"can't be read: {error.strerror}", shown, 1)) from None
    node = _composed(text, shown)
    if node is None:
        return Block(Mark(shown, 1, layer))
    value = _built(node, shown, layer)
    if not isinstance(value, Block):
        message = "the file must hold a mapping (key: value)"
        raise YamlProblem(Problem(message, shown, node.start_mark.line + 1))
    return value


def read_value(text: str, shown: str = "", layer: str = "") -> Any:
    """Any value written as YAML, by the same rules; nothing at all is null."""
    node = _composed(text, shown)
    return None if node is None else _built(node, shown, layer)


def write_yaml(value: Any) -> str:
    """The value as YAML that reads back the same, here and by the rules of YAML 1.1.

    What is nested deeper than PyYAML can write is written as JSON, which is YAML as well.
    """
    try:
        return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))
    except RecursionError:
        return json.dumps(value) + "\n"


def _composed(text: str, shown: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlProblem(_syntax_problem(error, shown)) from None
    except RecursionError:
        raise YamlProblem(Problem(_TOO_DEEP, shown, 1)) from None
    return node


def _built(node: yaml.Node, shown: str, layer: str) -> Any:
    builder = _Builder(shown, layer)
    value = builder.build(node)
    if builder.problems:
        raise YamlProblem(*builder.problems)
    return value


def _syntax_problem(error: yaml.YAMLError, shown: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    reason = getattr(error, "problem", None) or str(error)
    return Problem(f"not YAML: {reason}", shown, line)


def _encoding_problem(error: UnicodeDecodeError, shown: str) -> Problem:
    line = error.object[: error.start].count(b"\n") + 1
    return Problem(f"not UTF-8 text: {error.reason}", shown, line)


def _is_argument_list(key: yaml.ScalarNode, value: yaml.Node) -> bool:
    return key.value.startswith("$") and isinstance(value, yaml.SequenceNode)


class _Builder:
    """Turns composed nodes into values, each with its mark, and collects what's wrong with them."""

    def __init__(self, shown: str, layer: str) -> None:
        self._shown = shown
        self._layer = layer
        self._within: list[yaml.Node] = []
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, depth: int = 1) -> Any:
        # One function for all kinds of nodes: each level of the file costs one of Python's calls,
        # whose number is limited.
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if any(node is outer for outer in self._within):
            return self._wrong("an alias that stands inside of what it repeats", node)
        if depth > MAX_DEPTH:
            return self._wrong(_TOO_DEEP, node)
        self._within.append(node)
        value: Block | Items
        if isinstance(node, yaml.MappingNode):
            value = Block(self._mark(node))
            for key_node, value_node in node.value:
                if self._is_key(key_node, value):
                    inner = depth + (not _is_argument_list(key_node, value_node))
                    value.put(key_node.value, self.build(value_node, inner), self._mark(key_node))
        else:
            value = Items(self._mark(node))
            for item in node.value:
                value.append(self.build(item, depth + 1))
                value.marks.append(self._mark(item))
        self._within.pop()
        return value

    def _is_key(self, node: yaml.Node, block: Block) -> bool:
        """Whether it can be a key of the block; if not, that's said."""
        if not isinstance(node, yaml.ScalarNode):
            self._wrong("a key must be plain text", node)
        elif node.tag == f"{_TAG}merge":
            self._wrong("merge keys (<<) are not supported", node)
        elif node.value in block:
            first = block.marks[node.value].line
            self._wrong(f"duplicate key {node.value!r}; it's already in line {first}", node)
        else:
            return True
        return False

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        name = node.tag.removeprefix(_TAG)
        if name not in _SCALARS:
            return self._wrong(f"unknown tag {node.tag}", node)
        try:
            return _SCALARS[name][2](node.value)
        except ValueError:
            return self._wrong(f"{node.value[:40]!r} is no {name}", node)

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self._shown, node.start_mark.line + 1, self._layer)

    def _wrong(self, message: str, node: yaml.Node) -> None:
        self.problems.append(Problem(message, self._shown, node.start_mark.line + 1))
