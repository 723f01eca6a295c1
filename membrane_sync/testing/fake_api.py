"""An external app that answers from a function, without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from membrane_sync.errors import AppUnavailable
from membrane_sync.records import Answer, Call


class FakeApi:
    """Implements `ports.Api`; `calls` are the calls it got, in order.

    With `fail_at=n` the n-th call (the first is 1) raises `error` instead of being answered.

    >>> api = FakeApi(lambda call: answer({"data": [{"id": 1}]}))
    >>> api.send(Call("GET", "/contacts")).body
    {'data': [{'id': 1}]}
    """

    def __init__(
        self,
        respond: Callable[[Call], Answer],
        *,
        fail_at: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.requests = 0
        self.skipped = 0
        self.quota_left: int | None = None
        self.calls: list[Call] = []
        self.fail_at = fail_at
        self.error: BaseException = error or AppUnavailable("the app is away")
        self._respond = respond

    def send(self, call: Call) -> Answer:
        self.requests += 1
        self.calls.append(call)
        if self.requests == self.fail_at:
            raise self.error
        return self._respond(call)

    def close(self) -> None:
        """Nothing to give back."""


def answer(body: Any, *, headers: Mapping[str, str] | None = None, url: str = "") -> Answer:
    """A 200 answer with this body."""
    return Answer(200, dict(headers or {}), body, url)
