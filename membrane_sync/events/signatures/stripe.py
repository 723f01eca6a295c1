"""Stripe's `t=…,v1=…`, as others send it too: https://docs.stripe.com/webhooks/signature."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import (
    Check,
    Refused,
    check_age,
    check_any,
    decoded,
    the_header,
)

HEADER = "Stripe-Signature"


def check(signature: Signature) -> Check:
    """A check of the scheme; v0 is of Stripe's test mode, and proves nothing."""

    def checked(request: WebhookRequest, secrets: Sequence[str], now: float, _: Any) -> None:
        written = the_header(request, signature.header or HEADER)
        parts = [part.strip().partition("=")[::2] for part in written.split(",")]
        times = [value for name, value in parts if name == "t"]
        given = [value for name, value in parts if name == "v1"]
        if len(times) != 1 or not given:
            raise Refused("its signature isn't t=…,v1=…")
        check_age(times[0], now, signature.tolerance_seconds)
        signed = times[0].encode("latin-1", "replace") + b"." + request.body
        expected = [hmac.digest(secret.encode(), signed, "sha256") for secret in secrets]
        check_any([decoded(one, "hex") for one in given], expected)

    return checked
