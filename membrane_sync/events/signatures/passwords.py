"""Senders that show what they know: a password, or a token in a header or in the body."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import Check, Refused, check_any, decoded, the_header

_AUTHORIZATION = "Authorization"


def basic(signature: Signature) -> Check:
    """A check of `user:password`."""

    def checked(request: WebhookRequest, secrets: Sequence[str], _now: float, _: Any) -> None:
        written = _after("Basic ", the_header(request, signature.header or _AUTHORIZATION))
        check_any([decoded(written, "base64")], [secret.encode() for secret in secrets])

    return checked


def bearer(signature: Signature) -> Check:
    """A check of a token: after `Bearer`, all of a header of its own, or what `token` gives."""
    header = signature.header or _AUTHORIZATION
    prefix = signature.prefix or ("Bearer " if header.lower() == "authorization" else "")

    def checked(request: WebhookRequest, secrets: Sequence[str], _now: float, token: Any) -> None:
        known = [secret.encode() for secret in secrets]
        if signature.token is None:
            written = _after(prefix, the_header(request, header))
            check_any([written.encode("latin-1", "replace")], known)
            return
        given = token if isinstance(token, list) else [token]
        # A list has as many senders as items: each has to prove itself.
        found = [_is_one_of(str(one).encode("utf-8", "replace"), known) for one in given]
        if not found or not all(found):
            raise Refused("its token is missing or wrong")

    return checked


def _is_one_of(token: bytes, known: Sequence[bytes]) -> bool:
    found = [hmac.compare_digest(token, secret) for secret in known]
    return any(found)


def _after(prefix: str, written: str) -> str:
    """What follows the scheme, whose name may be in any case."""
    if written[: len(prefix)].lower() != prefix.lower():
        raise Refused(f"its credentials don't begin with {prefix.strip()}")
    return written[len(prefix) :].strip()
