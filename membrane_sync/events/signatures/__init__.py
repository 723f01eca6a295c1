"""How senders prove themselves: one function for each scheme, over the bytes as they came.

A check raises Refused with the reason, which is for the log: whoever sent it needn't know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures import (
    hubspot,
    keys,
    passwords,
    shared_secret,
    standard,
    stripe,
    twilio,
)
from membrane_sync.events.signatures.proof import Check, Refused

__all__ = ["Refused", "check_of", "proving_headers", "secrets_of"]

_SCHEMES: Mapping[str, Callable[[Signature], Check]] = {
    "hmac": shared_secret.check,
    "github": shared_secret.check,
    "slack": shared_secret.check,
    "shopify": shared_secret.check,
    "standard_webhooks": standard.check,
    "stripe": stripe.check,
    "hubspot": hubspot.check,
    "twilio": twilio.check,
    "ed25519": keys.check,
    "rsa": keys.check,
    "ecdsa": keys.check,
    "basic": passwords.basic,
    "bearer": passwords.bearer,
}


def check_of(signature: Signature) -> Callable[[WebhookRequest, Sequence[str], float, Any], None]:
    """A check of requests: it takes one, secrets, the time, and what `token` gives for it.

    Any of the secrets will do; without one, nothing is proved. Raises Refused.
    """
    check = _SCHEMES[signature.scheme](signature)

    def checked(request: WebhookRequest, secrets: Sequence[str], now: float, token: Any) -> None:
        if not secrets:
            raise Refused("there's no secret to check it with")
        check(request, secrets, now, token)

    return checked


def secrets_of(given: Any) -> list[str]:
    """The secrets in what a formula gives: one text, or a list; blank ones are none.

    A user's name and password are one, as `{username, password}`.
    """
    items = given if isinstance(given, list) else [given]
    found: list[str] = []
    for item in items:
        if isinstance(item, dict) and {"username", "password"} <= item.keys():
            found.append(f"{item['username']}:{item['password']}")
        elif isinstance(item, str) and item.strip():
            found.append(item.strip())
    return found


def proving_headers(signature: Signature | None) -> set[str]:
    """Names of headers, in lower case, that prove the sender and aren't to be kept."""
    found = {"authorization", "proxy-authorization", "cookie"}
    if signature is None:
        return found
    own = signature.header or shared_secret.header_of(signature) or _HEADERS.get(signature.scheme)
    return {*found, own.lower()} if own else found


_HEADERS = {
    "stripe": stripe.HEADER,
    "hubspot": hubspot.HEADER,
    "twilio": twilio.HEADER,
    "standard_webhooks": "webhook-signature",
}
