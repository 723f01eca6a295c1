"""What all checks share: one value of a header, a good age, a comparison that tells nothing."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from membrane_sync.events.request import WebhookRequest


class Refused(Exception):
    """The request doesn't prove whom it's from; the reason has no secret in it."""


Check = Callable[[WebhookRequest, Sequence[str], float, Any], None]
"""Takes the request, secrets, the time in seconds since 1970, and what `token` gives."""

_MILLISECONDS = 1e11
"""Seconds that are more than this would be after the year 5000."""


def the_header(request: WebhookRequest, name: str) -> str:
    """Its one value; where there are two, nobody knows which one was meant."""
    values = request.values(name)
    if not values:
        raise Refused(f"it has no header {name}")
    if len({*values}) > 1:
        raise Refused(f"it has several headers {name}")
    return values[0].strip()


def check_age(written: str, now: float, tolerance: float) -> None:
    """Refuse what was sent too long ago, or is dated ahead."""
    age = now - moment(written)
    if abs(age) > tolerance:
        way = "ago" if age > 0 else "ahead"
        raise Refused(f"its timestamp is {abs(age):.0f} s {way}; {tolerance:g} s are allowed")


def moment(written: str) -> float:
    """The time as seconds since 1970: of seconds, milliseconds or ISO 8601."""
    try:
        number = float(written) if written.replace(".", "", 1).isdecimal() else _of_date(written)
    except (ValueError, OverflowError):
        raise Refused("its timestamp can't be read") from None
    return number / 1000 if number > _MILLISECONDS else number


def _of_date(written: str) -> float:
    found = datetime.fromisoformat(written)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def decoded(written: str, encoding: str) -> bytes:
    """The bytes that hex or base64 stand for; raises Refused."""
    try:
        if encoding == "hex":
            return bytes.fromhex(written)
        plain = written.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise Refused(f"its signature isn't {encoding}") from None


def check_any(given: Iterable[bytes], expected: Iterable[bytes]) -> None:
    """Refuse it unless one of the signatures is one of those expected."""
    wanted = list(expected)
    # Each with each: how long it takes tells nothing about which of them came close.
    found = [hmac.compare_digest(one, other) for one in given for other in wanted]
    if not any(found):
        raise Refused("its signature is wrong")
