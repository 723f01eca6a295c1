"""Overrides of a connection's elements at run time: judge those there are, and make new ones.

A path that an override touches stays as it is, whatever the files say later; all others follow the
files. An override that the files no longer allow isn't applied, and says why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from membrane_sync.elements import KINDS, LAYERED_KINDS
from membrane_sync.elements.base import KEY_PATTERN
from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import NotFound, Problem, ProjectError
from membrane_sync.formulas.locators import parse
from membrane_sync.formulas.python import is_calling
from membrane_sync.ports import DEFAULT_INSTANCE, Override
from membrane_sync.project.customisation import LAYER, LEDGER, Customisation, Judged, path_text
from membrane_sync.project.frozen import FROZEN, thawed
from membrane_sync.project.keys import snake_keys
from membrane_sync.project.layers import (
    REMOVE,
    by_key,
    is_keyed,
    override_layer,
    removes,
    resolve,
    value_at,
    value_hash,
)
from membrane_sync.project.located import Block, Items, Mark, is_formula, marked, plain
from membrane_sync.project.project import Project
from membrane_sync.project.references import element_problems, errors
from membrane_sync.project.syncs import view_problems
from membrane_sync.project.views import View
from membrane_sync.project.yaml_file import YamlProblem

Path = tuple[str, ...]


class Refused(ProjectError):
    """The override can't be made; `problems` says why, in the words of `membrane check`."""

    code = "override_refused"

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        reasons = "; ".join(problem.message for problem in problems)
        self.message = f"{what} can't be overridden: {reasons}"


@dataclass(frozen=True)
class Target:
    """Whose element is overridden: the identity of anything at run time."""

    connection: str
    integration: str
    kind: str
    key: str
    instance_key: str = DEFAULT_INSTANCE


def customised(
    project: Project,
    connection: str,
    integration: str,
    overrides: Sequence[Override],
    instance_key: str = DEFAULT_INSTANCE,
) -> Project:
    """The project in which those of a connection's overrides count that today's files allow.

    Where the connection has none it is the project itself, with what it has resolved already.
    """
    mine = [
        (override, Mark(LEDGER, line, LAYER))
        for line, override in enumerate(overrides, 1)
        if override.instance_key == instance_key
    ]
    if not mine:
        return project.from_files
    view = View(project.from_files, integration, connection)
    custom = Customisation(connection, integration, tuple(_judged(view, *pair) for pair in mine))
    while unfit := _unfit(project, custom):
        judged = tuple(_unapplied(j, unfit.get(j.mark.line, "")) for j in custom.judged)
        custom = replace(custom, judged=judged)
    return project.customised(custom)


def new_overrides(
    project: Project, target: Target, existing: Sequence[Override], path: str, value: Any
) -> list[Override]:
    """What to keep so that `value` stands at `path` of an element from now on.

    A mapping merges with what is there, as in files, so it becomes an override for each of its
    values; a formula is one value. Raises NotFound, or Refused if it can't stand there.
    """
    where = f"{target.kind} {target.key}: {path}"
    view = View(project, target.integration, target.connection)
    parent = _parent(view, target)
    try:
        if not re.fullmatch(KEY_PATTERN, target.instance_key):
            raise _Unfit(f"{target.instance_key!r} is no key; use letters, digits, - and _")
        steps, value = _spelt(target.kind, _steps(parent, path), value)
        made = [_made(target, parent, *pair) for pair in _split(parent, steps, value)]
    except _Unfit as error:
        raise Refused(where, [Problem(str(error))]) from None
    kept = [o for o in existing if o.instance_key == target.instance_key]
    before = customised(project, target.connection, target.integration, kept, target.instance_key)
    after = _added(before, target, made)
    if problems := [*_structural(parent, after, made), *_problems(before, after, target)]:
        raise Refused(where, problems)
    return made


def override_path(project: Project, target: Target, path: str) -> Path:
    """The path of an override as the ledger keeps it, even if its element is gone.

    Raises NotFound or Refused.
    """
    _known_kind(target.kind)
    view = View(project, target.integration, target.connection)
    parent = view.block(target.kind, target.key) or Block(Mark(LEDGER, 0))
    try:
        return _spelt(target.kind, _steps(parent, path), None)[0]
    except _Unfit as error:
        raise Refused(f"{target.kind} {target.key}: {path}", [Problem(str(error))]) from None


class _Unfit(Exception):
    """The path or the value is none that an override can have."""


# --- judging --------------------------------------------------------------------------------------


def _judged(view: View, override: Override, mark: Mark) -> Judged:
    parent = view.block(override.kind, override.key)
    if parent is None:
        gone = f"not applied: there is no {override.kind} {override.key!r} any more"
        return Judged(override, mark, gone, applied=False)
    if reason := _blocked(view, parent, override, mark):
        return Judged(override, mark, f"not applied: {reason}", applied=False)
    return Judged(override, mark, _conflict(parent, override))


def _reserved(path: Path, value: Any, kind: str) -> str:
    """Why only files may say this: which functions run, and where rows go; empty if anyone may."""
    if is_calling(value) or "$python" in path:
        return "$python is for files of the project alone; no override may call a function"
    if kind == "data_schema" and path[:1] == ("function",):
        return "function is for files of the project alone"
    if kind == "data_schema" and path[:1] == ("table",):
        return "table is for files of the project alone; no override may say where rows go"
    return ""


def _conflict(parent: Block, override: Override) -> str:
    """Did both sides change what stands at the path, and not to the same?"""
    if value_hash(parent, override.path) == override.parent:
        return ""
    now = value_at(parent, override.path)
    if (now == (override.value,) and not override.removed) or (not now and override.removed):
        return ""
    what = json.dumps(plain(now[0]), ensure_ascii=False) if now else "nothing"
    return f"the files have changed here too, to {what}; set it again to keep it, or reset it"


def _blocked(view: View, parent: Block, override: Override, mark: Mark) -> str:
    """What keeps the override from being applied at all, as far as its path says."""
    if reason := _reserved(override.path, override.value, override.kind):
        return reason
    if reason := _dead_end(parent, override.path):
        return reason
    above = replace(view, connection="").block(override.kind, override.key)
    # A connection's file may freeze more; it can't give free what the layers above it freeze.
    freezing = [block for block in (above, parent) if block is not None]
    if not any(name in block for name in FROZEN for block in freezing):
        return ""
    refined = resolve([parent, override_layer(parent, [(override, mark)])])
    return next((message for _, message in thawed(parent, refined, LAYER, freezing)), "")


def _dead_end(parent: Block, path: Path) -> str:
    """A formula, or a list without keys, is one value: no path leads into it."""
    for length in range(1, len(path)):
        found = value_at(parent, path[:length])
        if not found:
            return ""
        value, here = found[0], path_text(path[:length])
        if is_formula(value):
            return f"{here} is a formula, which is one value; override it whole"
        if isinstance(value, Items) and not is_keyed(value):
            return f"{here} is a list whose items have no keys, which is one value"
    return ""


def _unfit(project: Project, custom: Customisation) -> dict[int, str]:
    """Applied overrides that make their element wrong, by line, and why."""
    found: dict[int, str] = {}
    base = View(project, custom.integration, custom.connection)
    view = replace(base, project=project.customised(custom))
    applied = [judged for judged in custom.judged if judged.applied]
    for kind, key in sorted({(j.override.kind, j.override.key) for j in applied}):
        problems = element_problems(view, kind, key)
        own = {problem.line: problem.message for problem in problems if problem.file == LEDGER}
        lines = [j.mark.line for j in custom.of(kind, key) if j.applied]
        others = element_problems(base, kind, key)
        new = [problem.message for problem in problems if problem not in others]
        if new and not own:
            own = dict.fromkeys(lines, "; ".join(new))  # it lacks what an override removes
        found |= {line: own[line] for line in lines if line in own}
    return found


def _unapplied(judged: Judged, reason: str) -> Judged:
    if not reason:
        return judged
    return replace(judged, conflict=f"not applied: {reason}", applied=False)


# --- making ---------------------------------------------------------------------------------------


def _parent(view: View, target: Target) -> Block:
    """The element as the files have it."""
    _known_kind(target.kind)
    block = view.block(target.kind, target.key)
    if block is None:
        hint = nearest(target.key, view.keys(target.kind), "declared are")
        message = f"there is no {target.kind} {target.key!r} for {target.connection}"
        raise NotFound(message, hint=hint)
    return block


def _known_kind(kind: str) -> None:
    if kind not in LAYERED_KINDS:
        hint = nearest(kind, LAYERED_KINDS, "kinds are")
        raise NotFound(f"there is no kind {kind!r} that can be overridden", hint=hint)


def _steps(parent: Block, path: str) -> Path:
    """The path's keys; an index of a keyed list becomes the item's key."""
    try:
        parsed = parse(path)
    except ValueError as error:
        raise _Unfit(f"the path can't be read: {error}") from None
    steps: Path = ()
    for step in parsed:
        if isinstance(step, int):
            found = value_at(parent, steps)
            items = found[0] if found else None
            if not is_keyed(items) or step >= len(items):
                raise _Unfit(f"{path_text(steps)} has no item [{step}] that has a key")
            steps = (*steps, items[step]["key"])
        else:
            steps = (*steps, step)
    if not steps or not all(steps):
        raise _Unfit("name a path, such as import_value.email")
    return steps


def _spelt(kind: str, steps: Path, value: Any) -> tuple[Path, Any]:
    """Path and value with the element's own keys in snake_case."""
    mark = Mark(LEDGER, 0, LAYER)
    nested = marked(plain(value), mark)
    for step in reversed(steps):
        outer = Block(mark)
        outer.put(step, nested, mark)
        nested = outer
    try:
        nested = snake_keys(KINDS[kind], nested)
    except YamlProblem as error:
        raise _Unfit("; ".join(problem.message for problem in error.problems)) from None
    spelt: Path = ()
    for _ in steps:
        (step, nested), *_ = nested.items()
        spelt = (*spelt, step)
    if spelt[0] == "key":
        raise _Unfit("an element's key is its identity")
    if spelt[0] in FROZEN:
        raise _Unfit("what is frozen is said in files alone")
    return spelt, nested


def _split(parent: Block, path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """The paths that a value says something at; each holds a value that is replaced whole."""
    found = value_at(parent, path)
    if isinstance(value, Block) and value and not is_formula(value):
        is_item = is_keyed(_list_of(parent, path))
        for key, inner in value.items():
            if not (is_item and key == "key"):
                yield from _split(parent, (*path, key), inner)
    elif found and is_keyed(found[0]) and is_keyed(value):
        for key, (item, _) in by_key(value).items():
            own = Block(item.mark)
            for name, inner in item.items():
                if name != "key":
                    own.put(name, inner, item.marks[name])
            yield from _split(parent, (*path, key), own)
    else:
        yield path, value


def _list_of(parent: Block, path: Path) -> Any:
    found = value_at(parent, path[:-1])
    return found[0] if found else None


def _made(target: Target, parent: Block, path: Path, value: Any) -> Override:
    if any(isinstance(n, float) and not math.isfinite(n) for n in _scalars(value)):
        raise _Unfit("a number must be finite")
    is_item = is_keyed(_list_of(parent, path))
    if is_item and not (isinstance(value, Block) and (not value or removes(value))):
        raise _Unfit(f"{path_text(path)} is an item of a list: give a mapping of its keys")
    if is_formula(value) and next(iter(value)) == REMOVE and not removes(value):
        raise _Unfit("$remove must be true")
    return Override(
        connection=target.connection,
        kind=target.kind,
        key=target.key,
        path=path,
        value=None if removes(value) else plain(value),
        removed=removes(value),
        parent=value_hash(parent, path),
        instance_key=target.instance_key,
    )


def _scalars(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict | list):
        for item in inner:
            yield from _scalars(item)
    else:
        yield value


def _added(before: Project, target: Target, made: Sequence[Override]) -> Project:
    """With the new overrides, whether they fit or not."""
    custom = before.customisation or Customisation(target.connection, target.integration)
    first = 1 + max((judged.mark.line for judged in custom.judged), default=0)
    kept = [j for j in custom.judged if not any(_replaces(new, j.override) for new in made)]
    new = [Judged(o, Mark(LEDGER, line, LAYER)) for line, o in enumerate(made, first)]
    return before.customised(replace(custom, judged=(*kept, *new)))


def _replaces(new: Override, old: Override) -> bool:
    same = (new.kind, new.key) == (old.kind, old.key)
    return same and old.path[: len(new.path)] == new.path


def _structural(parent: Block, after: Project, made: Sequence[Override]) -> Iterator[Problem]:
    """What is wrong with new overrides by their paths."""
    custom = after.customisation
    assert custom is not None
    view = View(after.from_files, custom.integration, custom.connection)
    places = {(j.override.kind, j.override.key, j.override.path) for j in custom.judged}
    for override in made:
        for length in range(1, len(override.path)):
            path = override.path[:length]
            if (override.kind, override.key, path) in places:
                yield Problem(f"{path_text(path)} is overridden already; change or reset that")
        if reason := _blocked(view, parent, override, Mark(LEDGER, 0, LAYER)):
            yield Problem(reason)


def _problems(before: Project, after: Project, target: Target) -> Iterator[Problem]:
    """What the new overrides make wrong, in this element or in those that fit together with it."""
    known = {_identity(problem) for problem in _all_problems(before, target)}
    custom = after.customisation
    assert custom is not None
    paths = {judged.mark.line: path_text(judged.override.path) for judged in custom.judged}
    seen: set[tuple[str, int, str]] = set()
    for problem in errors(_all_problems(after, target)):
        if _identity(problem) in known or _identity(problem) in seen:
            continue
        seen.add(_identity(problem))
        if problem.file == LEDGER:
            path = f"{paths[problem.line]}: "
            message = path + problem.message.removeprefix(path)
            problem = replace(problem, message=message, file="", line=0)
        yield problem


def _all_problems(project: Project, target: Target) -> Iterable[Problem]:
    view = View(project, target.integration, target.connection)
    return [*element_problems(view, target.kind, target.key), *view_problems(view)]


def _identity(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line, problem.message
