"""Ends functions of a project's hooks that run too long.

They run in the thread that calls them, with all that belongs to it. A second thread raises an
exception in it when their time is over. It's delivered between two steps of Python: a call that
waits in C, such as one over the network without a time limit, ends when it comes back. Meanwhile
the log says where it waits.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec

from membrane_sync.errors import Problem, TakesTooLong

HOOK_SECONDS: Final = 60.0
"""How long a function of hooks.py may run; a generator, from one call to the next."""

POLL_SECONDS: Final = 0.25
IDLE_ROUNDS: Final = 40

P = ParamSpec("P")
log = logging.getLogger(__name__)


class _Stop(BaseException):
    """Raised in the function from outside; no `except Exception` of its own keeps it."""


@dataclass(eq=False)
class _Watch:
    """A function that runs; `firing` and `decided` let its end and its being stopped not meet."""

    thread: int
    ends: float
    name: str
    file: str
    done: bool = False
    firing: bool = False
    decided: bool = False


_WATCHES: Final[set[_Watch]] = set()
_LOCK: Final = threading.Lock()
_WATCHERS: Final[list[threading.Thread]] = []


def limited(function: Callable[P, Any], file: Path) -> Callable[P, Any]:
    """The function, which raises TakesTooLong where it, or one step of its generator, does."""
    name = getattr(function, "__name__", "a function")

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> Any:
        made = within(name, file, function, *arguments, **named)
        return _stepwise(name, file, made) if isinstance(made, Generator) else made

    return call


def _stepwise(name: str, file: Path, made: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The generator, of which each step has the time; what its caller does meanwhile is free."""
    step: Callable[[Any], Any] = made.send
    given: Any = None
    while True:
        try:
            asked = within(name, file, step, given)
        except StopIteration as end:
            return end.value
        try:
            step, given = made.send, (yield asked)
        except GeneratorExit:
            made.close()
            raise
        except BaseException as error:  # what the caller tells it of, an answer too
            step, given = made.throw, error


def within(name: str, file: Path, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What a function of the file gives; TakesTooLong where it takes more than HOOK_SECONDS."""
    ends = time.monotonic() + HOOK_SECONDS
    watch = _Watch(threading.get_ident(), ends, name, str(file))
    _begin(watch)
    try:
        try:
            return function(*args, **named)
        finally:
            _finish(watch)
    except _Stop as stop:
        watch.done = True
        _WATCHES.discard(watch)
        message = f"{name} takes longer than {HOOK_SECONDS:g} seconds, and was stopped"
        line = _line(watch.file, traceback.extract_tb(stop.__traceback__))
    raise TakesTooLong([Problem(message, shown(file), line)])


def _begin(watch: _Watch) -> None:
    with _LOCK:
        _WATCHES.add(watch)
        if not (_WATCHERS and _WATCHERS[0].is_alive()):  # there's none in a fork
            _WATCHERS[:] = [threading.Thread(target=_watch, name="hooks", daemon=True)]
            _WATCHERS[0].start()


def _finish(watch: _Watch) -> None:
    """From here on nothing is raised any more; what was on its way is taken back."""
    watch.done = True
    while watch.firing and not watch.decided:
        time.sleep(0)
    if watch.firing:
        _raise_in(watch.thread, None)
    _WATCHES.discard(watch)


def _watch() -> None:
    idle = 0
    while True:
        time.sleep(POLL_SECONDS)
        now = time.monotonic()
        for watch in [*_WATCHES]:
            if watch.ends <= now:
                _stop(watch)
        with _LOCK:
            idle = 0 if _WATCHES else idle + 1
            if idle > IDLE_ROUNDS:
                _WATCHERS.clear()
                return


def _stop(watch: _Watch) -> None:
    first = not watch.firing
    watch.decided, watch.firing = False, True
    if not watch.done:
        if first:
            log.warning("%s takes too long, and is stopped: %s", watch.name, _place(watch))
        if not _raise_in(watch.thread, _Stop):
            _WATCHES.discard(watch)  # its thread is gone
    watch.ends = time.monotonic() + 1  # once more, if the function has caught it
    watch.decided = True


def _raise_in(thread: int, error: type[BaseException] | None) -> bool:
    given = ctypes.py_object(error) if error is not None else None
    found: int = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)
    return found > 0


def _place(watch: _Watch) -> str:
    """Where the function is now."""
    frame = sys._current_frames().get(watch.thread)
    frames = traceback.extract_stack(frame) if frame is not None else []
    return f"{shown(Path(watch.file))}:{_line(watch.file, frames)}"


def _line(file: str, frames: Iterable[traceback.FrameSummary]) -> int:
    """The innermost line of the file among these."""
    return next((f.lineno or 1 for f in reversed([*frames]) if f.filename == file), 1)


def shown(file: Path) -> str:
    """The path from connectors/ or mappings/ on, as problems name files."""
    parts = file.parts
    starts = [i for i, part in enumerate(parts) if part in ("connectors", "mappings")]
    return Path(*parts[starts[-1] :]).as_posix() if starts else file.name
