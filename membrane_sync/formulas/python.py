"""`$python`: a function of the project's hooks, for what formulas can't say.

Only files of the project may name one; a tenant's override at run time is refused if it does
(`project/overrides.py`).
"""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeAlias

from membrane_sync.errors import TakesTooLong
from membrane_sync.formulas.evaluator import Call, lazy_formula
from membrane_sync.formulas.values import MISSING, Value, is_array

Functions: TypeAlias = Callable[[str], Callable[..., Any]]
"""The function of a name; raises LookupError, whose text says what to do, if there's none."""

_CALLER: Final = "patience.py"
"""The module that calls the functions, which is none of theirs."""

_HELD: Final[ContextVar[Functions | None]] = ContextVar("functions", default=None)


@contextmanager
def calling(functions: Functions | None) -> Iterator[None]:
    """Let formulas within the block call these; with None they fail as they do outside of it."""
    token = _HELD.set(functions)
    try:
        yield
    finally:
        _HELD.reset(token)


@lazy_formula("$python")
def python(call: Call) -> Value:
    """What the function gives for the arguments; absent ones are None to it, and None is null."""
    name = call.option("function")
    functions = _HELD.get()
    if functions is None or not isinstance(name, str):
        raise call.error(MISSING, "calls a function of a project's hooks, and there are none here")
    arguments, named = _arguments(call)
    try:
        function = functions(name)
    except LookupError as error:
        raise call.error(MISSING, str(error.args[0])) from None
    call.spend(1)
    try:
        value = function(*arguments, **named)
    except TakesTooLong as error:
        raise call.error([*arguments, *named.values()], str(error.problems[0])) from None
    except (Exception, SystemExit) as error:
        # Not its message, which may hold values of the record.
        reason = f"{name} raised {type(error).__name__}{_place(error)}"
        raise call.error([*arguments, *named.values()], reason) from None
    if wrong := _no_json(value):
        raise call.error(MISSING, f"{name} gave {wrong}, which is no JSON value")
    return value


def is_calling(template: Value) -> bool:
    """Does any part of the template call a function, be it one that is only written there?"""
    waiting = [template]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "$python" in node:
                return True
            waiting.extend(node.values())
        elif is_array(node):
            waiting.extend(node)
    return False


def _arguments(call: Call) -> tuple[list[Value], dict[str, Value]]:
    """Arguments by place and by name, of which the function may do with what it likes."""
    given = call.option("arguments")
    if isinstance(given, dict):
        named = {
            str(name): _own(call.build(part, call.scope, call.at("arguments", name)))
            for name, part in given.items()
        }
        return [], named
    listed = given if is_array(given) else ()
    places = (call.at("arguments", number) for number in range(len(listed)))
    return [_own(call.build(p, call.scope, at)) for p, at in zip(listed, places, strict=True)], {}


def _own(value: Value) -> Value:
    return None if value is MISSING else copy.deepcopy(value)


def _place(error: BaseException) -> str:
    found = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in found if Path(frame.filename).name != _CALLER]
    last = frames[-1] if len(frames) > 1 else None
    return f" at {Path(last.filename).name}:{last.lineno}" if last else ""


def _no_json(value: Any) -> str:
    """The type of what isn't JSON in the value; empty if all of it is."""
    try:
        json.dumps(value, default=str, skipkeys=True)
    except ValueError:
        return "a value that holds itself"
    except RecursionError:
        return "a value nested too deeply"
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and all(isinstance(key, str) for key in node):
            waiting.extend(node.values())
        elif is_array(node):
            waiting.extend(node)
        elif node is not None and not isinstance(node, (bool, int, float, str)):
            return f"a {type(node).__name__}"
    return ""
