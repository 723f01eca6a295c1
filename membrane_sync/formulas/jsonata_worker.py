"""Evaluates JSONata in a process of its own, so that no expression can hang or fill its caller.

A script: it reads one request a line and writes one answer a line, both JSON. It imports nothing
of this package, and what it must not do to others it can't: it is ended when a request takes too
long, from a thread that even a builtin at work in C can't hold up.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import re
import sys
from functools import lru_cache
from typing import Any, Final, TextIO

import re2  # type: ignore[import-untyped,import-not-found,unused-ignore]
from jsonata import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    JException,
    Jsonata,
    Utils,
)

SOFT_MILLISECONDS: Final = 1_000
"""After so long the evaluator stops itself, between two steps."""

HARD_SECONDS: Final = 3
"""After so long the process ends, whatever it is doing."""

MAX_DEPTH: Final = 300
MAX_MEMORY: Final = 512 * 2**20
MAX_ANSWER: Final = 10_000_000
"""Characters of JSON that an expression may give."""

_PLACE_HOLDER: Final = re.compile(r"\$?\{\{\{?(\w+)\}?\}\}")
_SAID_HERE: Final = {
    "D1011": "calls functions too deep within one another",
    "D1012": "takes too long",
    "D3137": "stopped with an error of its own",
    "D3141": "stopped with an error of its own",
}
"""What to say instead of the library's sentence: the last two could hold what the record said."""


class _GivesFunction(Exception):
    """The expression's value is not JSON."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The expression's `value`, an `error`, or nothing, where the expression gives nothing.

    A request without `input` only asks whether the expression can be read.
    """
    try:
        expression = _compiled(request["expression"])
        if "input" not in request:
            return {}
        # the library starts its clock here, not with the evaluation
        expression.environment.set_runtime_bounds(SOFT_MILLISECONDS, MAX_DEPTH)
        value = expression.evaluate(_with_nulls(request["input"]), {})
        return {} if value is None else {"value": _plain(value)}
    except JException as error:
        return {"error": _reason(error)}
    except re2.error:
        return {"error": "has a pattern that can't be read; look-arounds and \\1 are not supported"}
    except MemoryError:
        return {"error": "needs too much memory"}
    except RecursionError:
        return {"error": "is nested too deep"}
    except _GivesFunction:
        return {"error": "gives a function"}
    except Exception as error:  # the library lets Python's own errors through
        return {"error": f"can't be evaluated ({type(error).__name__})"}


@lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    expression = Jsonata(text, _linear)
    expression.set_output_convert_nulls(False)  # so that null isn't taken for nothing
    return expression


def _linear(pattern: str, flags: Any) -> Any:
    """An engine for patterns whose time grows with the text only, never exponentially."""
    options = re2.Options()
    options.case_sensitive = not flags.case_insensitive
    options.one_line = not flags.multiline
    options.log_errors = False
    return re2.compile(pattern, options)


def _with_nulls(value: Any) -> Any:
    """The value with the library's null for each null, as it passes over None in lists."""
    if value is None:
        return Utils.NULL_VALUE
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    return [_with_nulls(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """The value as JSON has it; whole numbers without a fraction, as JavaScript writes them."""
    if value is None or value is Utils.NULL_VALUE:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        whole = math.isfinite(value) and value.is_integer() and abs(value) < 2**53
        return int(value) if whole else value
    if isinstance(value, (str, int)):
        return value
    raise _GivesFunction


def _reason(error: Any) -> str:
    """What the library says, without the values that it puts into its sentences."""
    code = str(error.error)
    if code in _SAID_HERE:
        return _SAID_HERE[code]
    template = JException.error_codes.get(code, "the expression is wrong")
    is_syntax = code.startswith("S0")

    def filled(found: re.Match[str]) -> str:
        shown = is_syntax or found[1] in ("token", "index")
        return str(error.current) if shown and error.current is not None else "…"

    place = f" at character {error.location}" if (error.location or -1) > 0 else ""
    return f"fails{place} ({code}): {_PLACE_HOLDER.sub(filled, template)}"


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not every system can
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def _text(answered: dict[str, Any]) -> str:
    try:
        text = json.dumps(answered)
    except (ValueError, RecursionError, MemoryError):
        return json.dumps({"error": "gives a value that is too large"})
    if len(text) > MAX_ANSWER:
        return json.dumps({"error": "gives a value that is too large"})
    return text


def serve(requests: TextIO, answers: TextIO, traces: TextIO) -> None:
    """Answer until there are no more requests."""
    for line in requests:
        faulthandler.dump_traceback_later(HARD_SECONDS, exit=True, file=traces)
        text = _text(answer(json.loads(line)))
        faulthandler.cancel_dump_traceback_later()
        answers.write(text + "\n")
        answers.flush()


def main() -> None:
    """Serve on stdin and stdout; what the library prints goes nowhere."""
    _limit_memory()
    sys.setrecursionlimit(6_000)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
        serve(sys.stdin, answers, nowhere)


if __name__ == "__main__":
    main()
