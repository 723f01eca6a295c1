"""Twilio's signature: the URL with the form's fields, or with the hash of a body that is none.

https://www.twilio.com/docs/usage/security#validating-requests
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import Unreadable, WebhookRequest
from membrane_sync.events.signatures.proof import Check, Refused, check_any, decoded, the_header

HEADER = "X-Twilio-Signature"
_PORTS = {"https": 443, "http": 80}


def check(signature: Signature) -> Check:
    """A check of the scheme, which has no timestamp."""

    def checked(request: WebhookRequest, secrets: Sequence[str], _now: float, _: Any) -> None:
        given = decoded(the_header(request, signature.header or HEADER), "base64")
        fields = _fields(request)
        signed = [(url + fields).encode() for url in _spellings(request.url)]
        check_any([given], [hmac.digest(s.encode(), t, "sha1") for s in secrets for t in signed])

    return checked


def _fields(request: WebhookRequest) -> str:
    """What follows the URL; of a body that is no form, the URL has the hash."""
    hashed = request.query.get("bodySHA256")
    if hashed is not None:
        digest = hashlib.sha256(request.body).digest()
        check_any([decoded(hashed, "hex")], [digest])
        return ""
    if not request.body:
        return ""
    if not request.is_form:
        raise Refused("its body is no form, and its URL has no bodySHA256")
    try:
        fields = request.form
    except Unreadable as error:
        raise Refused(str(error)) from None
    return "".join(name + value for name, value in sorted({*fields}))


def _spellings(url: str) -> Iterator[str]:
    """The URL with its port and without it: Twilio signs either."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition(":")[0] if parts.port else parts.netloc
    yield parts._replace(netloc=host).geturl()
    yield parts._replace(netloc=f"{host}:{parts.port or _PORTS.get(parts.scheme, '')}").geturl()
