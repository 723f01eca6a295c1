"""Turn a resolved block into an element, and pydantic's errors into words with file and line."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from membrane_sync.elements import KINDS, Element
from membrane_sync.elements.base import part_of, yaml_keys, yaml_name
from membrane_sync.errors import Problem
from membrane_sync.project.located import Block, mark_at

_INCOMPLETE = ("missing", "value_error")


class Invalid(Exception):
    """The block is no element of its kind; `problems` says why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def validated(kind: str, block: Block) -> Element:
    """The element that the block declares; raises Invalid with every problem found."""
    model = KINDS[kind]
    try:
        return model.model_validate(block)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise Invalid([_problem(model, kind, block, detail) for detail in details]) from None


def partial_problems(kind: str, block: Block) -> list[Problem]:
    """What's wrong with a layer by itself, leaving out what another layer may still complete."""
    model = KINDS[kind]
    try:
        model.model_validate(block)
    except ValidationError as error:
        details = error.errors(include_url=False)
        wrong = [detail for detail in details if detail["type"] not in _INCOMPLETE]
        return [_problem(model, kind, block, detail) for detail in wrong]
    return []


def _problem(model: type[BaseModel], kind: str, block: Block, detail: ErrorDetails) -> Problem:
    path = [yaml_name(step) if isinstance(step, str) else step for step in detail["loc"]]
    path = _without_alternatives(block, path, detail["type"])
    mark = mark_at(block, path) or block.mark
    return Problem(
        _message(model, path, detail),
        mark.file,
        mark.line,
        f"{kind} {block.get('key', '')}".strip(),
    )


def _without_alternatives(block: Any, path: Sequence[Any], error_type: str) -> list[Any]:
    """Pydantic names the alternative of a union in its path; the file knows no such key."""
    kept: list[Any] = []
    value: Any = block
    for index, step in enumerate(path):
        last = index == len(path) - 1
        if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            value = value[step]
            kept.append(step)
        elif last and error_type == "missing":
            kept.append(step)
    return kept


def _message(model: type[BaseModel], path: Sequence[Any], detail: ErrorDetails) -> str:
    where = ".".join(str(step) for step in path)
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if kind == "missing":
        return f"missing key {where!r}"
    if kind == "literal_error":
        return _not_one_of(where, detail)
    if kind == "string_pattern_mismatch":
        return f"{where}: {detail['input']!r} is no key; use letters, digits, - and _"
    if kind == "value_error":
        reason = str(detail["ctx"]["error"]) if "ctx" in detail else detail["msg"]
        return f"{where}: {reason}" if where else reason
    said = detail["msg"].replace("Input should be", "should be")
    return f"{where}: {said}, is {_shown(detail['input'])}"


def _unknown_key(model: type[BaseModel], path: Sequence[Any]) -> str:
    known = sorted(set(yaml_keys(_model_at(model, path[:-1]) or model).values()))
    near = get_close_matches(str(path[-1]), known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown key {'.'.join(str(step) for step in path)!r}; {hint}"


def _not_one_of(where: str, detail: ErrorDetails) -> str:
    expected = str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ")
    options = [option.strip() for option in expected.split(",")]
    near = get_close_matches(str(detail["input"]), options, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where}: {_shown(detail['input'])} is not one of {', '.join(options)}{hint}"


def _model_at(model: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    skip = False
    for step in path:
        if skip:
            skip = False
            continue
        if current is None:
            return None
        fields = {yaml_name(name): info for name, info in current.model_fields.items()}
        if step not in fields:
            return None
        current, held = part_of(fields[step].annotation)
        skip = held in ("list", "map")
    return current


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict | list) else typing.cast(str, _kind(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else "a list"
