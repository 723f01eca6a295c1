"""Who's asking: the product's backend by an API key, or a tenant by a token of the product's.

A token is a JWT with Membrane's claims. `exp` is required; which algorithm is good is said by the
key, never by the token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from membrane_sync.errors import NotAuthorized
from membrane_sync.project.server_settings import ServerSettings
from membrane_sync.project.values import LONGEST_KEY, is_storable, is_tenant_key
from membrane_sync.server.keys import Keys, TokenKey

LONGEST = 8_192
"""Characters of a token; headers of requests are bounded by servers anyway."""
LARGEST_FIELDS = 4_096
"""Bytes of a tenant's fields as JSON."""

_LATEST = 1e12
_TENANT_CLAIMS = ("tenantKey", "id", "sub")
_WORKSPACE_CLAIMS = ("iss", "workspaceKey")


class NotAuthenticated(NotAuthorized):
    """The request doesn't say who asks, or not so that it can be believed."""

    code = "not_authenticated"


class Unknown(NotAuthenticated):
    """The request has a key or token that nobody gave out: it may be a guess."""


@dataclass(frozen=True)
class Identity:
    """Who asks: a tenant, or the workspace where `tenant` is None.

    `name` and `fields` are what a token says of the tenant; None where it says nothing.
    """

    tenant: str | None
    name: str | None = None
    fields: Mapping[str, Any] | None = field(default=None, repr=False)


class Door:
    """Tells who asks by the credentials of a request."""

    def __init__(
        self,
        settings: ServerSettings,
        fetch: Callable[[str], Any],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._keys = Keys(settings, fetch)
        self._api_keys = [_digest(key) for key in settings.api_keys]
        self._clock = clock

    def identity(self, authorization: str) -> Identity:
        """Who asks, by the Authorization header; raises NotAuthenticated, and nothing tells why.

        It's Unknown where the credential is none of ours. Only where its signature is good is it
        said what is wrong with a token: then it's the product that hears it.
        """
        scheme, _, secret = authorization.strip().partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise _nobody(NotAuthenticated)
        if len(secret) > LONGEST:
            raise _nobody()
        if self._is_api_key(secret):
            return Identity(tenant=None)
        return self._by_claims(self._claims(secret))

    def _is_api_key(self, secret: str) -> bool:
        given = _digest(secret)
        # All of them are compared, each in constant time: nothing is learnt from how long it took.
        return sum(hmac.compare_digest(given, key) for key in self._api_keys) > 0

    def _claims(self, token: str) -> Mapping[str, Any]:
        header = _header(token)
        algorithm, id = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or not isinstance(id, str):
            raise _nobody()
        for key in self._keys.fitting(algorithm, id):
            claims = _verified(token, key)
            if claims is not None:
                return claims
        raise _nobody()

    def _by_claims(self, claims: Mapping[str, Any]) -> Identity:
        self._check_times(claims)
        workspace = self._settings.workspace_key
        said = [claims[name] for name in _WORKSPACE_CLAIMS if name in claims]
        if not said or any(value != workspace for value in said):
            raise _refused("its `iss` (or workspaceKey) is not this workspace's key")
        if "aud" in claims and workspace not in _listed(claims["aud"]):
            raise _refused("it's for another audience: `aud` doesn't name this workspace")
        named = [claims[name] for name in _TENANT_CLAIMS if name in claims]
        if not named:
            if claims.get("isAdmin") is True:
                return Identity(tenant=None)
            raise _refused("it names no tenant: give it a `tenantKey`")
        tenant = named[0]
        if not is_tenant_key(tenant):
            raise _refused(f"its tenant is no text of 1 to {LONGEST_KEY} printable characters")
        return Identity(tenant, _name(claims), _fields(claims))

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock(), self._settings.leeway
        ends = _moment(claims, "exp")
        if ends is None:
            raise _refused("it has no `exp`: tokens must end")
        if now >= ends + leeway:
            raise _refused("it has expired")
        begins, issued = _moment(claims, "nbf"), _moment(claims, "iat")
        if begins is not None and now < begins - leeway:
            raise _refused("it isn't good yet: `nbf` is in the future")
        if issued is not None and now < issued - leeway:
            raise _refused("it was issued in the future: are the clocks right?")
        longest = self._settings.longest_token
        if ends - (now if issued is None else min(issued, now)) > longest + leeway:
            raise _refused(f"it's good for longer than longest_token_seconds ({longest:g})")


class _Registry(JWSRegistry):
    """Ed25519 under the older of its names, too."""

    def get_alg(self, name: str) -> Any:
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


def _verified(token: str, key: TokenKey) -> Mapping[str, Any] | None:
    try:
        registry = _Registry(algorithms=[key.algorithm])
        return jwt.decode(token, key.key, registry=registry).claims
    except (JoseError, ValueError, TypeError, RecursionError):
        return None


def _header(token: str) -> Mapping[str, Any]:
    """What the token says of itself; nothing of it is believed, it only helps to find the key."""
    first = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        raise _nobody() from None
    if not isinstance(header, dict):
        raise _nobody()
    return header


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < _LATEST:  # also false for NaN
        raise _refused(f"its `{name}` is no number of seconds since 1970")
    return float(value)


def _name(claims: Mapping[str, Any]) -> str | None:
    name = claims.get("name")
    if name is None:
        return None
    if not isinstance(name, str) or len(name) > LONGEST_KEY or not name.isprintable():
        raise _refused(f"its `name` is no text of up to {LONGEST_KEY} printable characters")
    return name


def _fields(claims: Mapping[str, Any]) -> Mapping[str, Any] | None:
    fields: Mapping[str, Any] | None = claims.get("fields")
    if fields is None:
        return None
    fits = isinstance(fields, dict) and len(json.dumps(fields)) <= LARGEST_FIELDS
    if not fits or not is_storable(fields):
        raise _refused(f"its `fields` are no object of up to {LARGEST_FIELDS:,} bytes")
    return fields


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _nobody(kind: type[NotAuthenticated] = Unknown) -> NotAuthenticated:
    return kind(
        "the request has no API key or token that is good here",
        hint="send one as `Authorization: Bearer …`",
    )


def _refused(why: str) -> NotAuthenticated:
    return NotAuthenticated(
        f"the token is refused: {why}", hint="docs/api.md says what it must say"
    )
