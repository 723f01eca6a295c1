"""Proofs that we make ourselves: a JWT that we sign, and an HMAC over a request."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from membrane_sync.clients.authentication.values import Scope, credential, mapping, text, texts
from membrane_sync.elements.authentication import AuthenticationOption, SignedJwt, Signing
from membrane_sync.errors import NotAuthorized

Key = OctKey | RSAKey | ECKey | OKPKey

_KEY_TYPES: dict[str, type[Key]] = {
    "HS": OctKey,
    "RS": RSAKey,
    "PS": RSAKey,
    "ES": ECKey,
    "Ed": OKPKey,
}


def signing_key(declared: SignedJwt, scope: Scope) -> Key:
    """The key to sign with; raises NotAuthorized where it's none of the algorithm's kind."""
    secret = credential(declared.key, scope, "key")
    kind = _KEY_TYPES[declared.algorithm[:2]]
    try:
        is_jwk = secret.lstrip().startswith("{")
        key: Key = kind.import_key(json.loads(secret) if is_jwk else secret)
        if not key.is_private:
            raise ValueError("a public key can't sign")
        return key
    except (ValueError, TypeError, JoseError):
        raise NotAuthorized(
            f"the key can't sign with {declared.algorithm}",
            hint="give a private key of that kind as PEM or JWK, with its line breaks",
        ) from None


def signed_jwt(declared: SignedJwt, scope: Scope, **defaults: str) -> str:
    """A JWT with `iat`, `exp`, `jti` and the declared claims; `defaults` are those left open."""
    now = int(time.time())
    named = {
        "iss": text(declared.issuer, scope, "issuer"),
        "sub": text(declared.subject, scope, "subject"),
        "aud": text(declared.audience, scope, "audience"),
    }
    claims: dict[str, Any] = {
        **defaults,
        **{name: value for name, value in named.items() if value},
        "iat": now,
        "exp": now + declared.lifetime_seconds,
        "jti": secrets.token_urlsafe(16),
        **mapping(declared.claims, scope, "claims"),
    }
    header = {"alg": declared.algorithm, "typ": "JWT"}
    key_id = text(declared.key_id, scope, "key_id")
    if key_id:
        header["kid"] = key_id
    key = signing_key(declared, scope)
    try:
        return jwt.encode(header, claims, key, algorithms=[declared.algorithm])
    except (JoseError, ValueError):
        raise NotAuthorized(
            f"the key can't sign with {declared.algorithm}",
            hint="it may be too short, or of another curve; make a new one",
        ) from None


def self_signed(declared: SignedJwt, scope: Scope) -> str:
    """The JWT that proves a request; a new one each time, so that it never is about to end."""
    return signed_jwt(declared, scope)


def hmac_signer(
    declared: Signing, scope: Scope, authentication: AuthenticationOption
) -> Callable[[httpx.Request], None]:
    """Signs each request anew, as the last step before it's sent."""
    key = _key_bytes(declared, credential(declared.key, scope, "key"))

    def step(request: httpx.Request) -> None:
        seen = {**scope, **_moment(), "request": _described(request, declared.algorithm)}
        message = text(declared.message, seen, "signing.message")
        digest = hmac.new(key, message.encode(), declared.algorithm).digest()
        made = digest.hex() if declared.encoding == "hex" else b64encode(digest).decode("ascii")
        seen["signature"] = made
        headers = texts(declared.headers, seen, "signing.headers")
        query = texts(declared.query, seen, "signing.query")
        if not headers and not query:
            headers = {authentication.parameter: (authentication.prefix or "") + made}
        request.headers.update(headers)
        for name, value in query.items():
            request.url = request.url.copy_set_param(name, value)

    return step


def _key_bytes(declared: Signing, key: str) -> bytes:
    try:
        if declared.key_encoding == "base64":
            return b64decode(key, validate=True)
        return bytes.fromhex(key) if declared.key_encoding == "hex" else key.encode()
    except ValueError:
        raise NotAuthorized(
            f"the key to sign with is no {declared.key_encoding}",
            hint="connect again with the key as the app shows it",
        ) from None


def _moment() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "timestamp": int(now.timestamp()),
        "timestamp_ms": int(now.timestamp() * 1000),
        "date": now.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "nonce": secrets.token_hex(16),
    }


def _described(request: httpx.Request, algorithm: str) -> dict[str, Any]:
    """The request as it goes over the wire: path and query percent-encoded, the body as text."""
    target = urlsplit(str(request.url))
    body = request.content
    return {
        "method": request.method,
        "url": str(request.url),
        "host": request.url.netloc.decode("ascii"),
        "path": target.path,
        "query": target.query,
        "body": body.decode("utf-8", "replace"),
        "body_hash": hashlib.new(algorithm, body).hexdigest(),
    }
