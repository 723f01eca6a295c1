"""Turn a resolved block into an element, and pydantic's errors into words with file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from membrane_sync.elements import KINDS, Element
from membrane_sync.elements.base import Unfit, part_of, yaml_keys, yaml_name
from membrane_sync.elements.nearest import guess, nearest
from membrane_sync.errors import Problem, ProjectError
from membrane_sync.project.located import Block, Steps, leads, problem_at

M = TypeVar("M", bound=BaseModel)


class Invalid(ProjectError):
    """The block is no element of its kind; `problems` says why.

    `wrong` are those of its values that no other layer can mend, `incomplete` is the rest; `places`
    are the paths of all of them.
    """

    def __init__(
        self,
        wrong: Sequence[Problem],
        incomplete: Sequence[Problem],
        places: Sequence[tuple[Steps, Problem]] = (),
    ) -> None:
        super().__init__([*wrong, *incomplete])
        self.wrong = list(wrong)
        self.incomplete = list(incomplete)
        self.places = list(places)


def validated(kind: str, block: Block) -> Element:
    """The element that the block declares; raises Invalid with every problem found."""
    return validated_as(KINDS[kind], block, f"{kind} {block.get('key', '')}".strip())


def validated_as(model: type[M], block: Block, name: str) -> M:
    """The block as this model; `name` is what the problems in Invalid call it."""
    try:
        return model.model_validate(block)
    except ValidationError as error:
        wrong: list[Problem] = []
        incomplete: list[Problem] = []
        placed: list[tuple[Steps, Problem]] = []
        places = dict(_by_place(block, error.errors(include_url=False)))
        for path in _misspelt(model, places):
            places.pop(path, None)
        for path, details in places.items():
            completable = details[0]["type"] in ("missing", "value_error")
            found = incomplete if completable else wrong
            for place, message in _described(model, path, details):
                found.append(problem_at(block, place, message, name))
                placed.append((place, found[-1]))
        raise Invalid(wrong, incomplete, placed) from None


def _by_place(
    block: Block, details: Iterable[ErrorDetails]
) -> Iterator[tuple[Steps, list[ErrorDetails]]]:
    """Errors by the place in the file; a union's alternatives complain each, of one value."""
    placed = ((_path_in(block, detail), detail) for detail in details)
    for path, group in groupby(placed, key=lambda pair: pair[0]):
        yield path, [detail for _, detail in group]


def _misspelt(model: type[BaseModel], places: Mapping[Steps, list[ErrorDetails]]) -> list[Steps]:
    """Keys that are missing because they stand there misspelt, which is said already."""
    unknown = [path for path, found in places.items() if found[0]["type"] == "extra_forbidden"]
    return [(*path[:-1], guess(path[-1], _keys_at(model, path))) for path in unknown]


def _path_in(block: Block, detail: ErrorDetails) -> Steps:
    """Pydantic names the alternative of a union in its path; the file knows no such key."""
    kept: list[Any] = []
    value: Any = block
    *_, last = detail["loc"] or ("",)
    for step in (yaml_name(step) if isinstance(step, str) else step for step in detail["loc"]):
        if leads(value, step):
            value = value[step]
            kept.append(step)
    if detail["type"] == "missing":
        kept.append(yaml_name(str(last)))
    return tuple(kept)


def _described(
    model: type[BaseModel], path: Steps, details: list[ErrorDetails]
) -> Iterator[tuple[Steps, str]]:
    """Where a person should look, and what to say there."""
    where = ".".join(map(str, path))
    first = details[0]
    said = first.get("ctx", {}).get("error")
    if isinstance(said, Unfit):
        yield from (((*path, *below), _prefixed(where, message)) for below, message in said.found)
    elif first["type"] == "value_error":
        yield path, _prefixed(where, str(said))
    elif first["type"] == "extra_forbidden":
        yield path, _unknown_key(model, path)
    elif first["type"] == "missing":
        yield path, f"missing key {where!r}"
    elif first["type"] == "literal_error":
        yield path, f"{where}: {_not_one_of(first)}"
    elif first["type"] == "string_pattern_mismatch":
        yield path, f"{where}: {first['input']!r} is no key; use letters, digits, - and _"
    else:
        wanted = " or ".join(dict.fromkeys(_wanted(detail) for detail in details))
        yield path, f"{where}: should be {wanted}, is {_shown(first['input'])}"


def _prefixed(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def _unknown_key(model: type[BaseModel], path: Steps) -> str:
    hint = nearest(path[-1], _keys_at(model, path))
    return f"unknown key {'.'.join(map(str, path))!r}; {hint}"


def _keys_at(model: type[BaseModel], path: Steps) -> set[str]:
    return set(yaml_keys(_model_at(model, path[:-1])).values())


def _not_one_of(detail: ErrorDetails) -> str:
    expected = str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
    options = [option.strip("' ") for option in expected.split(",")]
    near = guess(detail["input"], options)
    hint = f"did you mean {near!r}? " if near else ""
    return f"{_shown(detail['input'])} is unknown; {hint}known are: {', '.join(options)}"


_WANTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "string_type": "a text",
    "string_too_short": "a text that's not empty",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}


def _wanted(detail: ErrorDetails) -> str:
    said = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return _WANTED.get(detail["type"], said)


def _model_at(model: type[BaseModel], path: Steps) -> type[BaseModel]:
    """The innermost model on the way along the path."""
    current, rest = model, list(path)
    while rest:
        fields = {yaml_name(name): info for name, info in current.model_fields.items()}
        part, held = part_of(fields[rest[0]].annotation) if rest[0] in fields else (None, "")
        if part is None:
            break
        current, rest = part, rest[2 if held in ("list", "map") else 1 :]
    return current


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
