"""Quotas that hold over every window, and the headers by which apps speak of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from math import ceil

from membrane_sync.testing.simulator.switches import Dialect, Limits, Quota


@dataclass(frozen=True)
class Standing:
    """How an account stands with one quota: what is left, and seconds until there is more."""

    quota: Quota
    left: int
    wait: float


@dataclass
class _Window:
    quota: Quota
    times: deque[float] = field(default_factory=deque)

    def standing(self, now: float) -> Standing:
        while self.times and self.times[0] <= now - self.quota.per_seconds:
            self.times.popleft()
        left = self.quota.requests - len(self.times)
        wait = self.times[0] + self.quota.per_seconds - now if self.times else 0.0
        return Standing(self.quota, left, wait)


class Meter:
    """Counts requests in sliding windows; refused ones count for nothing."""

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._now = now
        self._windows: dict[tuple[int, str], _Window] = {}

    def admit(self, account: str) -> tuple[bool, Standing | None]:
        """Whether a request may pass, and the quota that is nearest to its end."""
        now = self._now()
        windows = [
            self._window(index, quota, account) for index, quota in enumerate(self.limits.quotas)
        ]
        standings = [window.standing(now) for window in windows]
        empty = [standing for standing in standings if standing.left <= 0]
        if empty:
            return False, max(empty, key=lambda standing: standing.wait)
        for window in windows:
            window.times.append(now)
        after = [window.standing(now) for window in windows]
        return True, min(after, key=lambda standing: standing.left, default=None)

    def _window(self, index: int, quota: Quota, account: str) -> _Window:
        key = (index, account if quota.scope == "account" else "")
        return self._windows.setdefault(key, _Window(quota))


@dataclass(frozen=True)
class Refusal:
    """How an app says no: its status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, object]


def announcement(dialect: Dialect, standing: Standing) -> dict[str, str]:
    """The headers of an answer that was given, by what is left."""
    return _HEADERS[dialect](standing)


def refusal(dialect: Dialect, standing: Standing) -> Refusal:
    """The answer to a request that is over the quota."""
    headers = {**_HEADERS[dialect](standing), **_retry_after(dialect, standing.wait)}
    if dialect == "github":
        return Refusal(403, headers, {"message": "API rate limit exceeded"})
    if dialect == "hubspot":
        said = "You have reached your ten_secondly_rolling limit."
        body = {"status": "error", "errorType": "RATE_LIMIT", "message": said}
        return Refusal(429, headers, {**body, "policyName": "TEN_SECONDLY_ROLLING"})
    if dialect == "shopify":
        said = "Exceeded 2 calls per second for api client. Reduce request rates to resume."
        return Refusal(429, headers, {"errors": said})
    return Refusal(429, headers, {"error": "rate_limited", "message": "too many requests"})


def _retry_after(dialect: Dialect, wait: float) -> dict[str, str]:
    if dialect == "seconds":
        return {"Retry-After": str(ceil(wait))}
    if dialect == "date":
        return {"Retry-After": formatdate(ceil(time.time() + wait), usegmt=True)}
    if dialect == "zero":
        return {"Retry-After": "0"}
    if dialect == "shopify":
        return {"Retry-After": f"{max(wait, 0.1):.1f}"}
    return {}


def _named(reset: Callable[[Standing], int]) -> Callable[[Standing], dict[str, str]]:
    def headers(standing: Standing) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(standing.quota.requests),
            "X-RateLimit-Remaining": str(max(0, standing.left)),
            "X-RateLimit-Reset": str(reset(standing)),
        }

    return headers


def _ietf(standing: Standing) -> dict[str, str]:
    return {
        "RateLimit-Limit": str(standing.quota.requests),
        "RateLimit-Remaining": str(max(0, standing.left)),
        "RateLimit-Reset": str(ceil(standing.wait)),
    }


def _ietf_structured(standing: Standing) -> dict[str, str]:
    quota = standing.quota
    return {
        "RateLimit-Policy": f'"default";q={quota.requests};w={ceil(quota.per_seconds)}',
        "RateLimit": f'"default";r={max(0, standing.left)};t={ceil(standing.wait)}',
    }


def _hubspot(standing: Standing) -> dict[str, str]:
    interval = round(standing.quota.per_seconds * 1000)
    return {
        "X-HubSpot-RateLimit-Max": str(standing.quota.requests),
        "X-HubSpot-RateLimit-Remaining": str(max(0, standing.left)),
        "X-HubSpot-RateLimit-Interval-Milliseconds": str(interval),
    }


def _shopify(standing: Standing) -> dict[str, str]:
    used = standing.quota.requests - max(0, standing.left)
    return {"X-Shopify-Shop-Api-Call-Limit": f"{used}/{standing.quota.requests}"}


def _nothing(_: Standing) -> dict[str, str]:
    return {}


_HEADERS: dict[Dialect, Callable[[Standing], dict[str, str]]] = {
    "seconds": _nothing,
    "date": _nothing,
    "zero": _nothing,
    "silent": _nothing,
    "reset_epoch": _named(lambda standing: ceil(time.time() + standing.wait)),
    "reset_epoch_ms": _named(lambda standing: ceil((time.time() + standing.wait) * 1000)),
    "reset_relative": _named(lambda standing: ceil(standing.wait)),
    "github": _named(lambda standing: ceil(time.time() + standing.wait)),
    "ietf": _ietf,
    "ietf_structured": _ietf_structured,
    "hubspot": _hubspot,
    "shopify": _shopify,
}
