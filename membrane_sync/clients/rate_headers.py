"""What an answer's headers say of the app's rate limit, in every dialect we know.

Sources: RFC 9110 (`Retry-After`); the IETF drafts of `RateLimit` and `RateLimit-Policy`, and the
older ones of `RateLimit-Limit`, `-Remaining` and `-Reset`; the documentation of GitHub, HubSpot,
Salesforce, Shopify, Slack and Zendesk on their rate limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from membrane_sync.elements.connector import RateLimitHeaders

Headers = Mapping[str, str]


@dataclass(frozen=True)
class RateStatus:
    """What the app allows yet: requests left, of how many, and in how many seconds it's refilled.

    None where it doesn't say.
    """

    remaining: int | None = None
    limit: int | None = None
    reset: float | None = None


UNKNOWN = RateStatus()


def rate_status(
    headers: Headers, names: RateLimitHeaders | None = None, now: datetime | None = None
) -> RateStatus:
    """The tightest of what the headers (names in lower case) say; `names` come before the usual."""
    if names is not None:
        found = _declared(headers, names, now)
        if found is not None:
            return found
    said = [status for read in _DIALECTS if (status := read(headers, now)) is not None]
    if not said:
        return UNKNOWN
    return min(said, key=lambda status: (status.remaining or 0, -(status.reset or 0)))


def retry_after(headers: Headers, now: datetime | None = None) -> float | None:
    """Seconds to wait by `Retry-After`, of which it's the longest if it came twice; never below 0.

    Azure and others have milliseconds in a header of their own, which is the more exact one.
    """
    for name in _RETRY_MILLISECONDS:
        exact = _number(headers.get(name, ""))
        if exact is not None:
            return max(0.0, exact / 1000)
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    numbers = [_number(part) for part in text.split(",")]
    if None not in numbers:
        text = str(max(number for number in numbers if number is not None))
    return _seconds(text, headers, None, now)


def _declared(headers: Headers, names: RateLimitHeaders, now: datetime | None) -> RateStatus | None:
    remaining = _whole(headers, names.remaining)
    if remaining is None:
        return None
    text = headers.get((names.reset or "").lower())
    reset = None if text is None else _seconds(text, headers, names.reset_format, now)
    return RateStatus(remaining, _whole(headers, names.limit), reset)


def _triple(
    limit: str, remaining: str, reset: str
) -> Callable[[Headers, datetime | None], RateStatus | None]:
    def read(headers: Headers, now: datetime | None) -> RateStatus | None:
        left = _whole(headers, remaining)
        if left is None:
            return None
        text = headers.get(f"{reset}-after", headers.get(reset))
        seconds = None if text is None else _seconds(text, headers, None, now)
        return RateStatus(left, _whole(headers, limit), seconds)

    return read


def _ietf(headers: Headers, _now: datetime | None) -> RateStatus | None:
    """`"default";r=50;t=30` of the present draft, `limit=100, remaining=50, reset=30` of 2023."""
    text = headers.get("ratelimit")
    if not text:
        return None
    policies = _policies(headers.get("ratelimit-policy", ""))
    found = []
    for name, values in _items(text):
        remaining = values.get("r", values.get("remaining"))
        if remaining is None:
            continue
        limit, window = policies.get(name, (None, None))
        reset = values.get("t", values.get("reset", window))
        found.append(RateStatus(remaining, values.get("limit", limit), reset))
    return min(found, key=lambda status: status.remaining or 0, default=None)


def _policies(text: str) -> dict[str, tuple[int | None, int | None]]:
    """Quota and window in seconds of each policy: `"default";q=100;w=10`."""
    return {name: (values.get("q"), values.get("w")) for name, values in _items(text)}


def _items(text: str) -> list[tuple[str, dict[str, int]]]:
    """Members of a structured field, by name, with their integer parameters."""
    if "limit=" in text or "remaining=" in text:
        return [("", _parameters(text.split(",")))]
    members = [member.split(";") for member in text.split(",")]
    return [(parts[0].strip().strip('"'), _parameters(parts[1:])) for parts in members]


def _parameters(parts: list[str]) -> dict[str, int]:
    pairs = [part.strip().partition("=") for part in parts]
    return {name: int(value) for name, _, value in pairs if value.isascii() and value.isdigit()}


def _hubspot(headers: Headers, _now: datetime | None) -> RateStatus | None:
    """Of the window of 10 s, or of the day, whose end depends on the account's time zone."""
    day = _whole(headers, "x-hubspot-ratelimit-daily-remaining")
    remaining = _whole(headers, "x-hubspot-ratelimit-remaining")
    if day is not None and (remaining is None or day < remaining):
        return RateStatus(day, _whole(headers, "x-hubspot-ratelimit-daily"))
    if remaining is None:
        return None
    window = _whole(headers, "x-hubspot-ratelimit-interval-milliseconds")
    reset = None if window is None else window / 1000
    return RateStatus(remaining, _whole(headers, "x-hubspot-ratelimit-max"), reset)


_USED = re.compile(r"(\d+)\s*/\s*(\d+)")


def _shopify(headers: Headers, _now: datetime | None) -> RateStatus | None:
    """`32/40` of a bucket that leaks a twentieth in a second, whatever the shop's plan."""
    used = _USED.fullmatch(headers.get("x-shopify-shop-api-call-limit", "").strip())
    if used is None:
        return None
    remaining = max(0, int(used[2]) - int(used[1]))
    return RateStatus(remaining, int(used[2]), None if remaining else 1.0)


def _salesforce(headers: Headers, _now: datetime | None) -> RateStatus | None:
    """`api-usage=18/5000`, of the last 24 hours: it never says when there's more."""
    text = headers.get("sforce-limit-info", "")
    used = _USED.search(text.removeprefix("api-usage=")) if "api-usage=" in text else None
    if used is None:
        return None
    return RateStatus(max(0, int(used[2]) - int(used[1])), int(used[2]))


def _zendesk(headers: Headers, now: datetime | None) -> RateStatus | None:
    """`X-Rate-Limit` without a suffix; the reset is in the IETF's header."""
    remaining = _whole(headers, "x-rate-limit-remaining")
    if remaining is None:
        return None
    text = headers.get("x-rate-limit-reset", headers.get("ratelimit-reset"))
    reset = None if text is None else _seconds(text, headers, None, now)
    limit = _whole(headers, "x-rate-limit-limit")
    return RateStatus(remaining, _whole(headers, "x-rate-limit") if limit is None else limit, reset)


_DIALECTS = (
    _triple("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    _triple("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
    _ietf,
    _zendesk,
    _hubspot,
    _shopify,
    _salesforce,
)

_RETRY_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")

_EPOCH = 1e9
"""A number of seconds as large as this is a time since 1970: 32 years are no wait."""
_EPOCH_MILLISECONDS = 1e11


def _seconds(text: str, headers: Headers, form: str | None, now: datetime | None) -> float | None:
    """Seconds until a reset that's given as seconds, milliseconds, time since 1970, or a date."""
    number = _number(text)
    if number is None or form == "date":
        moment = _date(text)
        return None if moment is None else max(0.0, (moment - _here(headers, now)).total_seconds())
    form = form or _form(number)
    if form == "epoch_milliseconds":
        return max(0.0, number / 1000 - _here(headers, now).timestamp())
    if form == "epoch_seconds":
        return max(0.0, number - _here(headers, now).timestamp())
    return max(0.0, number / 1000 if form == "milliseconds" else number)


def _form(number: float) -> str:
    if number >= _EPOCH_MILLISECONDS:
        return "epoch_milliseconds"
    return "epoch_seconds" if number >= _EPOCH else "seconds"


def _here(headers: Headers, now: datetime | None) -> datetime:
    """What time it is by the app's own clock, if it says: ours may be another."""
    if now is not None:
        return now
    return _date(headers.get("date", "")) or _now()


def _now() -> datetime:
    return datetime.now(UTC)


def _whole(headers: Headers, name: str | None) -> int | None:
    text = headers.get(name.lower()) if name else None
    if not text:
        return None
    # Some lists name the quota first and its policies after it: `100, 100;w=60`.
    number = _number(text.partition(",")[0].partition(";")[0])
    return None if number is None else max(0, int(number))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    """An HTTP date, or one of ISO 8601, as Atlassian's."""
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
