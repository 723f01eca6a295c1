"""HMAC of a template by a shared secret: any vendor's, and those whose way is known by name.

GitHub: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
Slack: https://api.slack.com/authentication/verifying-requests-from-slack
Shopify: https://shopify.dev/docs/apps/build/webhooks/subscribe/https
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import Check, Refused, check_any, decoded, the_header
from membrane_sync.events.signatures.template import Template

_KNOWN: Mapping[str, Mapping[str, str]] = {
    "github": {"header": "X-Hub-Signature-256", "prefix": "sha256="},
    "slack": {
        "header": "X-Slack-Signature",
        "prefix": "v0=",
        "template": "v0:{timestamp}:{body}",
        "timestamp_header": "X-Slack-Request-Timestamp",
    },
    "shopify": {"header": "X-Shopify-Hmac-SHA256", "encoding": "base64"},
}


def header_of(signature: Signature) -> str:
    """The header that a scheme of a known vendor has its signature in; empty for others."""
    return _KNOWN.get(signature.scheme, {}).get("header", "")


def check(declared: Signature) -> Check:
    """A check of one of these schemes."""
    known = _KNOWN.get(declared.scheme, {})
    missing = {n: value for n, value in known.items() if n not in declared.model_fields_set}
    signature = declared.model_copy(update=missing)
    template = Template(signature)

    def checked(request: WebhookRequest, secrets: Sequence[str], now: float, _: Any) -> None:
        given = list(_given(signature, the_header(request, signature.header or "")))
        signed = template.signed(request, now)
        keys = [_key(secret, signature.secret_encoding) for secret in secrets]
        check_any(given, [hmac.digest(key, signed, signature.algorithm) for key in keys])

    return checked


def _given(signature: Signature, written: str) -> list[bytes]:
    if not written.startswith(signature.prefix):
        raise Refused(f"its signature doesn't begin with {signature.prefix}")
    return [decoded(written.removeprefix(signature.prefix), signature.encoding)]


def _key(secret: str, encoding: str) -> bytes:
    if encoding == "text":
        return secret.encode()
    try:
        key = decoded(secret, encoding)
    except Refused:
        key = b""
    if not key:
        raise Refused(f"the secret to check it with isn't {encoding}")
    return key
