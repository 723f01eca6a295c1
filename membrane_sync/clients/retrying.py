"""How often a call is repeated, and how long is waited before: exponential backoff with jitter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from membrane_sync.errors import RateLimited, Retryable

Result = TypeVar("Result")

ATTEMPTS = 6
LONGEST_WAIT_SECONDS = 60.0

_backoff = wait_exponential(multiplier=0.5, max=LONGEST_WAIT_SECONDS) + wait_random(0, 0.5)


def retrying(deadline: float, sleep: Callable[[float], None] | None) -> Retrying:
    """Repeats what raises Retryable, up to a deadline in seconds; then that is raised."""
    return Retrying(
        retry=retry_if_exception_type(Retryable),
        stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(deadline),
        wait=_wait,
        reraise=True,
        **({"sleep": sleep} if sleep is not None else {}),  # type: ignore[arg-type]
    )


def patiently(retrying: Retrying, do: Callable[..., Result], *given: Any) -> Result:
    """What `do` gives, which `retrying` repeats; it's asked only once something failed.

    Nearly always nothing does, and tenacity's own first try takes 20 µs.
    """
    try:
        return do(*given)
    except Retryable as error:
        failed = [error]

    def again() -> Result:
        if failed:
            raise failed.pop()
        return do(*given)

    return retrying(again)


def _wait(state: RetryCallState) -> float:
    """As long as the app asks for, and never no time at all; else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, RateLimited) else None
    backoff = _backoff(state)
    return backoff if asked is None else max(asked, 0.1) + min(backoff, 0.5)
