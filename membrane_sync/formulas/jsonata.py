"""`$jsonata`: an expression of the JSONata language, evaluated in a process that can be ended."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from membrane_sync.formulas.evaluator import Call, lazy_formula, operator_of
from membrane_sync.formulas.values import MISSING, Value, is_absent, size_of

TOO_MUCH: Final = "took too long or too much memory"
_SCRIPT: Final = Path(__file__).with_name("jsonata_worker.py")
_IDLE: Final[list[_Worker]] = []
"""Processes that wait for work; a busy one is in nobody's list but its caller's hands."""


@lazy_formula("$jsonata")
def jsonata(call: Call) -> Value:
    """What the expression gives for the scope; of `{expression, input}`, for the input."""
    is_object = isinstance(call.args, dict) and operator_of(call.args) is None
    at = call.at("expression") if is_object else call.at()
    text = call.build(call.option("expression") if is_object else call.args, call.scope, at)
    if is_absent(text) or text == "":
        return MISSING
    if not isinstance(text, str):
        return call.unusable(text, "needs an expression, which is a text")
    source = call.scope
    if is_object and "input" in call.args:
        source = call.build(call.args["input"], call.scope, call.at("input"))
        call.spend(size_of(source))
    call.spend(1)
    found = _ask({"expression": text, "input": None if source is MISSING else source})
    if "error" in found:
        return call.unusable(text, found["error"])
    return found.get("value", MISSING)


def problem_of(expression: str) -> str | None:
    """What is wrong with how an expression is written; None if it can be read."""
    return _ask({"expression": expression}).get("error")


def _ask(request: dict[str, Value]) -> dict[str, Any]:
    try:
        line = json.dumps(request)
    except (TypeError, ValueError):
        return {"error": "reads a record that is not JSON"}
    worker = _idle_worker() or _Worker()
    try:
        answered = worker.ask(line)
    except BaseException:  # such as Ctrl-C: the answer that is due would go to the next request
        worker.end()
        raise
    if answered is None:
        worker.end()
        return {"error": TOO_MUCH}
    _IDLE.append(worker)
    return answered


def _idle_worker() -> _Worker | None:
    while _IDLE:
        worker = _IDLE.pop()
        if worker.is_usable():
            return worker
        worker.end()
    return None


class _Worker:
    """One process of jsonata_worker.py, and the pipes to it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
            encoding="ascii",
        )

    def ask(self, line: str) -> dict[str, Any] | None:
        """The answer to one request; None if the process ended over it."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None  # both are pipes
        try:
            stdin.write(line + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            return None
        return json.loads(answer) if answer.endswith("\n") else None

    def is_usable(self) -> bool:
        """False in a fork of the process that started it, and where it has ended."""
        return self.owner == os.getpid() and self.process.poll() is None

    def end(self) -> None:
        """End the process, unless it belongs to the process this one was forked from."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


def close() -> None:
    """End the processes that wait for work; the next expression starts another one."""
    while _IDLE:
        _IDLE.pop().end()


atexit.register(close)
