"""What an app is asked about a subscription, and what its answers mean."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from membrane_sync.calls import as_call, concluded
from membrane_sync.elements.request import ErrorRule, Request
from membrane_sync.elements.webhook import Existing
from membrane_sync.errors import Fatal, MembraneError, UnexpectedAnswer
from membrane_sync.events.times import seconds_of
from membrane_sync.events.wanted import Wanted
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports import Api
from membrane_sync.records import Answer, Call
from membrane_sync.sync.rendering import (
    Scope,
    answer_scope,
    by_function,
    refuse_graphql_errors,
    render,
)

GONE = (404, 410)


@dataclass(frozen=True)
class Told:
    """What the app has of a subscription by its answer; `ends_at` is None if it doesn't end."""

    state: Mapping[str, Any]
    ends_at: float | None = None


def ask(api: Api, one: Wanted, request: Request, scope: Scope) -> Answer:
    """Send a declared request; that what it's about is gone is no error, and `is_gone` says so.

    Raises what the app has against it, and Fatal where the request can't be made.
    """
    try:
        if request.function is None:
            answer = api.send(_tolerant(render(request, scope)))
        else:
            answer = _by_function(api, one, request, scope)
    except MembraneError:
        raise
    except Exception as error:
        # Not its message, which may hold what is secret. Others must not fail for it.
        what = f"function {request.function!r}" if request.function else "the request"
        raise Fatal(f"{one.app}: {what} of a subscription: {type(error).__name__}") from error
    refuse_graphql_errors(request, answer.body)
    return answer


def refuse_gone(one: Wanted, answer: Answer) -> None:
    """Raise UnexpectedAnswer where an app doesn't know what it was asked to send webhooks of."""
    if is_gone(answer):
        raise UnexpectedAnswer(
            f"{one.app}: `subscribe` was answered {answer.status}",
            hint="compare its path with the app's API",
        )


def is_gone(answer: Answer) -> bool:
    """Whether the app says that it doesn't know what was asked about, or not any more."""
    return answer.status in GONE


def told(one: Wanted, answer: Answer, scope: Scope, now: float) -> Told:
    """What an answer says of the subscription; raises UnexpectedAnswer where it can't be read."""
    seen = {**scope, **answer_scope(answer)}
    state = value_of(one.declaration.state, seen, "state")
    if state is not None and not isinstance(state, Mapping):
        raise UnexpectedAnswer(
            f"{one.app}: `state` gives {type(state).__name__}, not an object",
            hint="write it as {id: {$var: $.body.id}}",
        )
    ends = _end(value_of(one.declaration.expires_at, seen, "expires_at"))
    if ends is None and one.declaration.lifetime_seconds is not None:
        ends = now + one.declaration.lifetime_seconds
    return Told(state or {}, ends)


def existing(api: Api, one: Wanted, request: Existing, scope: Scope, now: float) -> list[Told]:
    """The subscriptions that the app has for our URL."""
    answer = ask(api, one, request, scope)
    items = value_of({"$var": request.subscriptions}, answer_scope(answer), "subscriptions")
    mine = [
        item
        for item in (items if isinstance(items, list) else [])
        if evaluate({"$var": request.url}, item) == scope["webhook_url"]
    ]
    found = [told(one, Answer(answer.status, answer.headers, i), scope, now) for i in mine]
    if one.declaration.expires_at is None and one.declaration.lifetime_seconds is not None:
        # For how long it was asked for is known, and not since when.
        return [replace(old, ends_at=0.0) for old in found]
    return found


def _end(value: Any) -> float | None:
    try:
        return seconds_of(value)
    except ValueError:
        raise UnexpectedAnswer(
            f"`expires_at` gives {type(value).__name__}, in which there's no time",
            hint="it should be a time in ISO 8601, or a number of seconds since 1970",
        ) from None


def iso(seconds: float) -> str:
    """A moment as most apps take it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def value_of(formula: Any, scope: Scope, what: str) -> Any:
    """What a formula about a subscription gives, None for nothing; raises UnexpectedAnswer."""
    try:
        value = evaluate(formula, scope)
    except FormulaError as error:
        raise UnexpectedAnswer(f"`{what}` of a subscription: {error}") from None
    return None if value is MISSING else value


def _tolerant(call: Call) -> Call:
    """The rules of the request go first, since an app may mean something else by a 404."""
    return replace(call, errors=(*call.errors, ErrorRule(status=list(GONE), action="ignore")))


def _by_function(api: Api, one: Wanted, request: Request, scope: Scope) -> Answer:
    """A function gives a call, or calls one after another; what it returns counts as the body."""
    made = by_function(request, scope, one.functions)
    if isinstance(made, Call):
        return api.send(_tolerant(made))
    assert isinstance(made, Generator)
    name = str(request.function)

    def send(given: Any) -> Answer:
        return api.send(_tolerant(as_call(given, name, request.errors)))

    value, answer = concluded(made, name, send)
    return answer if value is None and answer is not None else Answer(200, {}, value)
