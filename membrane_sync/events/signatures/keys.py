"""Signatures that a public key checks: Ed25519 as Discord's, RSA, and ECDSA as SendGrid's.

The key is PEM (a certificate too), its DER in base64, or the 32 bytes of an Ed25519 key in hex or
base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import Check, Refused, decoded, the_header
from membrane_sync.events.signatures.template import Template

_KINDS = {"ed25519": Ed25519PublicKey, "rsa": RSAPublicKey, "ecdsa": ec.EllipticCurvePublicKey}
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha512": hashes.SHA512,
}
_RAW_KEY = 32


def check(signature: Signature) -> Check:
    """A check of one of these schemes."""
    template = Template(signature)

    def checked(request: WebhookRequest, secrets: Sequence[str], now: float, _: Any) -> None:
        written = the_header(request, signature.header or "")
        if not written.startswith(signature.prefix):
            raise Refused(f"its signature doesn't begin with {signature.prefix}")
        given = decoded(written.removeprefix(signature.prefix), signature.encoding)
        signed = template.signed(request, now)
        found = [_is_by(_key(text), signature, given, signed) for text in secrets]
        if not any(found):
            raise Refused("its signature is wrong")

    return checked


def _is_by(key: Any, signature: Signature, given: bytes, signed: bytes) -> bool:
    if not isinstance(key, _KINDS[signature.scheme]):
        raise Refused(f"the key to check it with isn't one of {signature.scheme}")
    algorithm = _HASHES[signature.algorithm]()
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(given, signed)
        elif isinstance(key, RSAPublicKey):
            key.verify(given, signed, _padding(signature, algorithm), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(given, signed, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _padding(signature: Signature, algorithm: hashes.HashAlgorithm) -> Any:
    if signature.padding == "pss":
        return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
    return padding.PKCS1v15()


@lru_cache(maxsize=256)
def _key(text: str) -> Any:
    try:
        if "-----BEGIN CERTIFICATE" in text:
            return load_pem_x509_certificate(text.encode()).public_key()
        if "-----BEGIN" in text:
            return load_pem_public_key(text.encode())
        if len(text) == 2 * _RAW_KEY:
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
        content = base64.b64decode(text, validate=True)
        if len(content) == _RAW_KEY:
            return Ed25519PublicKey.from_public_bytes(content)
        return load_der_public_key(content)
    except (ValueError, binascii.Error):
        raise Refused("the key to check it with can't be read") from None
