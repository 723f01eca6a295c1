"""Standard Webhooks: several signatures in one header, by secrets (`whsec_…`) or keys (`whpk_…`).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

By hand, since the `standardwebhooks` package takes one secret, five minutes, the process's clock
and a body of JSON, and knows no public keys. Svix's own `svix-*` headers are the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import Check, Refused, check_age, decoded, the_header

_SECRET, _PUBLIC_KEY = "whsec_", "whpk_"


def check(signature: Signature) -> Check:
    """A check of the scheme."""

    def checked(request: WebhookRequest, secrets: Sequence[str], now: float, _: Any) -> None:
        family = "webhook" if request.values("webhook-signature") else "svix"
        told, written, given = (
            the_header(request, f"{family}-{part}") for part in ("id", "timestamp", "signature")
        )
        check_age(written, now, signature.tolerance_seconds)
        signed = f"{told}.{written}.".encode("latin-1", "replace") + request.body
        versions = [one.partition(",")[::2] for one in given.split(" ") if one]
        found = [
            _is_by(secret, version, decoded(text, "base64"), signed)
            for version, text in versions
            if version in ("v1", "v1a")
            for secret in secrets
        ]
        if not any(found):
            raise Refused("its signature is wrong")

    return checked


def _is_by(secret: str, version: str, given: bytes, signed: bytes) -> bool:
    is_public = secret.startswith(_PUBLIC_KEY)
    if is_public != (version == "v1a"):
        return False
    key = _key(secret.removeprefix(_PUBLIC_KEY if is_public else _SECRET))
    if not is_public:
        return hmac.compare_digest(hmac.digest(key, signed, "sha256"), given)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(given, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _key(secret: str) -> bytes:
    try:
        key = decoded(secret, "base64")
    except Refused:
        key = b""
    if not key:
        raise Refused("the secret to check it with isn't base64")
    return key
