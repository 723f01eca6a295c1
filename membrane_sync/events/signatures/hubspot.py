"""HubSpot's signature v3: method, URL, body and timestamp.

https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import Check, check_age, check_any, decoded, the_header

HEADER = "X-HubSpot-Signature-v3"
_TIMESTAMP = "X-HubSpot-Request-Timestamp"
_DECODED = re.compile("%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
"""Escapes that are signed as what they stand for; all others are signed as they are."""


def check(signature: Signature) -> Check:
    """A check of the scheme."""

    def checked(request: WebhookRequest, secrets: Sequence[str], now: float, _: Any) -> None:
        given = decoded(the_header(request, signature.header or HEADER), "base64")
        written = the_header(request, signature.timestamp_header or _TIMESTAMP)
        check_age(written, now, signature.tolerance_seconds)
        url = _DECODED.sub(lambda found: unquote(found[0]), request.url)
        head, tail = f"{request.method}{url}".encode(), written.encode("latin-1", "replace")
        signed = head + request.body + tail
        check_any([given], [hmac.digest(s.encode(), signed, "sha256") for s in secrets])

    return checked
