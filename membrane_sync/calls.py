"""Calls that functions of a connector's hooks.py make."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from membrane_sync.errors import Fatal
from membrane_sync.records import Answer, Call

MOST_CALLS = 1_000
"""So many calls of a function that lists nothing mean that it never ends."""


def concluded(
    made: Generator[Any, Any, Any], function: str, send: Callable[[Any], Answer]
) -> tuple[Any, Answer | None]:
    """What a function's generator returns, and the last answer to what it yields; raises Fatal.

    `send` gets the answer to one that it yields.
    """
    answer: Answer | None = None
    for calls in range(MOST_CALLS + 1):
        try:
            wanted = made.send(answer)
        except StopIteration as end:
            return end.value, answer
        if calls < MOST_CALLS:
            answer = send(wanted)
    raise Fatal(
        f"function {function!r} of hooks.py made {MOST_CALLS:,} calls without coming to an end",
        hint="end the loop in it",
    )


def as_call(made: Any, function: str, errors: Sequence[Any] = ()) -> Call:
    """A call out of what a function of hooks.py gave, a call or a mapping; raises Fatal.

    `errors` are the error rules that it goes with.
    """
    if isinstance(made, Call):
        return made
    keys = {"method", "path", "query", "headers", "body"}
    if not isinstance(made, Mapping) or not isinstance(made.get("path"), str) or set(made) - keys:
        raise Fatal(
            f"function {function!r} gave {type(made).__name__}, not a call",
            hint=f"a call is a mapping with path, and any of {', '.join(sorted(keys))}",
        )
    return Call(
        method=made.get("method", "GET"),
        url=made["path"],
        query=dict(made.get("query") or {}),
        headers=dict(made.get("headers") or {}),
        body=made.get("body"),
        errors=errors,
    )
