"""One way to authenticate, with all that its formulas and functions need at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx

from membrane_sync.calls import as_call
from membrane_sync.clients.authentication.values import (
    Functions,
    called,
    given_mapping,
    mapping,
    safely,
)
from membrane_sync.clients.words import Words
from membrane_sync.elements.authentication import AuthenticationFunctions, AuthenticationOption
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.request import ErrorRule, Request
from membrane_sync.elements.sensitive import sensitive_values
from membrane_sync.errors import Fatal
from membrane_sync.ports import Issued
from membrane_sync.records import Answer, Call

Ask = Callable[[Call, Mapping[str, Any], bool], Answer]
"""Sends a call to the connector's host, with the credentials if the last is true.

Where it isn't, they still are kept out of errors.
"""

Render = Callable[[Request, Mapping[str, Any]], Call]
"""The call that a declared request makes of what formulas see."""


@dataclass(frozen=True)
class Way:
    """A connector with one authentication, for one connection's input.

    `transport` is what the OAuth endpoints are reached by, if it's not the usual one.
    """

    connector: Connector
    ask: Ask
    render: Render
    input: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    functions: Functions = field(default_factory=dict, repr=False)
    transport: httpx.BaseTransport | None = None

    @property
    def authentication(self) -> AuthenticationOption:
        """How the connector says to authenticate."""
        return self.connector.authentication

    @property
    def hooks(self) -> AuthenticationFunctions:
        """Names of the functions that do what the keys can't say."""
        return self.authentication.functions or AuthenticationFunctions()

    def scope(self, credentials: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """What formulas and functions see."""
        return {
            "input": dict(self.input),
            "parameters": dict(self.parameters),
            "credentials": dict(credentials),
            **more,
        }

    def words(self, credentials: Mapping[str, Any]) -> Words:
        """Makes messages in which no secret stands."""
        secrets = {"parameters": self.parameters, "credentials": credentials}
        secrets["input"] = sensitive_values(self.connector.input_schema, self.input)
        return Words(self.connector.key, secrets)

    def run(
        self,
        name: str,
        scope: Mapping[str, Any],
        credentials: Mapping[str, Any],
        *,
        signed: bool = True,
    ) -> Any:
        """What a function of hooks.py gives; one that yields calls gets their answers.

        The calls go to the connector's host, `signed` with the credentials or not.
        """
        made = called(self.functions, name, scope)
        if not isinstance(made, Generator):
            return made
        answer: Answer | None = None
        for _ in range(_MOST_CALLS):
            try:
                wanted = safely(name, partial(made.send, answer), scope)
            except StopIteration as end:
                return end.value
            answer = self.ask(as_call(wanted, name), credentials, signed)
        raise Fatal(
            f"function {name!r} of hooks.py made {_MOST_CALLS} calls without coming to an end",
            hint="end the loop in it",
        )

    def run_mapping(
        self,
        name: str,
        scope: Mapping[str, Any],
        credentials: Mapping[str, Any],
        *,
        signed: bool = True,
    ) -> dict[str, Any]:
        """As `run`, for a function that gives a mapping, or nothing."""
        return given_mapping(name, self.run(name, scope, credentials, signed=signed))

    def send(
        self,
        request: Request,
        credentials: Mapping[str, Any],
        *,
        signed: bool,
        errors: Sequence[ErrorRule] = (),
    ) -> Answer:
        """Send a declared request; its formulas see the credentials, `signed` or not.

        `errors` come after the request's own.
        """
        call = self.render(request, self.scope(credentials))
        return self.ask(replace(call, errors=[*call.errors, *errors]), credentials, signed)

    def issued(
        self,
        credentials: Mapping[str, Any],
        template: Mapping[str, Any],
        function: str | None,
        *,
        signed: bool = True,
        **seen: Any,
    ) -> Issued:
        """The credentials, and what a formula and a function add to them.

        `expires_in`, or a moment `expires_at`, among them says when they end, and isn't kept.
        """
        found = {**credentials, **mapping(template, self.scope(credentials, **seen), "credentials")}
        if function:
            scope = self.scope(found, **seen)
            found |= self.run_mapping(function, scope, found, signed=signed)
        moment = _remaining(found.pop("expires_at", None))
        seconds = _seconds(found.pop("expires_in", None))
        return Issued(found, moment if seconds is None else seconds)

    def disconnect(self, credentials: Mapping[str, Any]) -> None:
        """Tell the app by the declared request, or by the function, that access has ended."""
        if self.hooks.disconnect:
            self.run(self.hooks.disconnect, self.scope(credentials), credentials)
        elif self.authentication.disconnect is not None:
            self.send(self.authentication.disconnect, credentials, signed=True)


_MOST_CALLS = 20


def _seconds(value: Any) -> float | None:
    """How long credentials last; apps write it as a number or as text."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and not isinstance(value, bool) else None


def _remaining(moment: Any) -> float | None:
    """Seconds until a moment: seconds or milliseconds since 1970, or ISO 8601."""
    now = datetime.now(UTC)
    seconds = _seconds(moment)
    if seconds is not None:
        return (seconds / 1000 if seconds > 1e11 else seconds) - now.timestamp()
    try:
        then = datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        return None
    return ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds()
