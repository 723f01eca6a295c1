"""The promises of conditional requests: an answer is recognised, and told from any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.reading import Probe, Reading
from membrane_sync.records import Call
from membrane_sync.sync.collection import listing
from membrane_sync.sync.conditional import validators
from membrane_sync.sync.cursor import CursorOrder, asked_from

PROMISE = "conditional"


@dataclass(frozen=True)
class Conditional:
    """A call, and the header by which its answer is recognised."""

    call: Call
    headers: Mapping[str, str]
    api: Probe

    def is_met(self, headers: Mapping[str, str] | None = None) -> bool:
        """Whether the app says that nothing has changed."""
        sent = {**self.call.headers, **(self.headers if headers is None else headers)}
        return self.api.send(replace(self.call, headers=sent)).status == 304


def check_condition(
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    reading: Reading,
    findings: Findings,
) -> Conditional | None:
    """Ask for the same again on condition, and on one that can't be met; gives what is met.

    What's asked is what the next sync would ask.
    """
    if collection.list_ is None or not collection.list_.conditional:
        return None
    try:
        return _checked(_first_call(collection, api, scope, reading), api, findings)
    except MembraneError as error:
        findings.failed(PROMISE, error.message, error.hint)
        return None


def condition_now(
    collection: DataCollection, api: Probe, scope: Mapping[str, Any], reading: Reading
) -> Conditional | None:
    """The next sync's call, and how its answer is recognised now; None if it isn't."""
    call = _first_call(collection, api, scope, reading)
    headers = validators(api.send(call))
    return Conditional(call, headers, api) if headers else None


def _checked(call: Call, api: Probe, findings: Findings) -> Conditional | None:
    answer = api.send(call)
    headers = validators(answer)
    if not headers:
        if "last-modified" in answer.headers:
            findings.unproven(PROMISE, "Last-Modified is too young to tell", "check again later")
        else:
            advice = "take it out: the app doesn't say by what to recognise an answer"
            findings.failed(PROMISE, "there is no ETag and no Last-Modified", advice)
        return None
    condition = Conditional(call, headers, api)
    [name] = headers
    if condition.is_met({name: _other(name, headers[name])}):
        seen = f"whatever {name} says, the answer is 304"
        findings.failed(PROMISE, seen, "take it out: no change would ever be seen")
        return None
    if condition.is_met():
        findings.ok(PROMISE, f"304 to {name}, and an answer to another one")
        return condition
    if validators(api.send(call)) == headers:
        findings.failed(PROMISE, f"no 304 to its own {name}", "take it out: it spares nothing")
    else:
        seen = "the same answer was told apart"
        findings.unproven(PROMISE, seen, "did someone change it? If not, take it out")
    return None


def _other(name: str, value: str) -> str:
    """What no answer is recognised by, in the same form, as some apps look at it; no later time."""
    if name == "If-Modified-Since":
        return "Thu, 01 Jan 1970 00:00:00 GMT"
    at = re.search(r"[1-9]|(?<!^)[A-Za-z]", value)
    if at is None:
        return '"membrane-check"'
    other = str(int(at[0]) - 1) if at[0].isdigit() else ("b" if at[0] == "a" else "a")
    return value[: at.start()] + other + value[at.end() :]


def _first_call(
    collection: DataCollection, api: Probe, scope: Mapping[str, Any], reading: Reading
) -> Call:
    method = collection.list_
    assert method is not None
    cursor, asked = method.cursor, None
    if cursor is not None and not cursor.is_delta and cursor.filtered_by == "app":
        order = CursorOrder(cursor)
        asked = asked_from(cursor, order.newest(order.values(reading.records)))
    seen = {**scope, "cursor": asked}
    steps = listing(collection, seen, functions=api.functions, now=api.now)
    return next(steps).call
