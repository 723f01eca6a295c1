"""The keys that tokens are checked with; each is good for one algorithm, whatever a token says.

So a public key can't be used as a shared secret, and `none` is no algorithm of any key.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey, RSAKey

from membrane_sync.errors import AppUnavailable, Fatal
from membrane_sync.project.server_settings import ServerSettings

FRESH_SECONDS = 600.0
"""How long a provider's keys are taken as they were."""
PAUSE_SECONDS = 30.0
"""Between two looks at a provider for a key that it didn't have: anybody can name one."""
STALE_SECONDS = 86_400.0
"""How long its last known keys are good while the provider can't be asked."""
MOST_KEYS = 50

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PROVIDED = {*_RSA, *_CURVES.values(), "EdDSA", "Ed25519"}
_SMALLEST_RSA = 2048


@dataclass(frozen=True)
class TokenKey:
    """One key with the one algorithm it's for; `id` is empty where it has none."""

    key: Key = field(repr=False)
    algorithm: str
    id: str = ""

    def fits(self, algorithm: str, id: str) -> bool:
        """Whether a token with this header may be tried with it."""
        named = "Ed25519" if algorithm == "EdDSA" else algorithm  # one thing, two names
        return self.algorithm == named and (not id or not self.id or self.id == id)


class Keys:
    """All keys of the workspace; the provider's are fetched when a token needs one of them."""

    def __init__(self, settings: ServerSettings, fetch: Callable[[str], Any]) -> None:
        self._fixed = [
            TokenKey(OctKey.import_key(secret), "HS256") for secret in settings.workspace_secrets
        ]
        for path in settings.public_keys:
            self._fixed += _keys_of_file(path)
        self._provider = Provider(settings.jwks_url, fetch) if settings.jwks_url else None

    def __bool__(self) -> bool:
        return bool(self._fixed or self._provider)

    def fitting(self, algorithm: str, id: str) -> Iterator[TokenKey]:
        """The keys that a token with this header may be signed with; the provider's come last.

        Raises AppUnavailable where they're needed and can't be had.
        """
        yield from (key for key in self._fixed if key.fits(algorithm, id))
        if self._provider is not None and algorithm in _PROVIDED:
            yield from self._provider.fitting(algorithm, id)


class Provider:
    """Public keys at a URL: kept for a while, looked up again for one that's new, not too often."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._fetch, self._clock = url, fetch, clock
        self._keys: Sequence[TokenKey] = ()
        self._read_at = self._tried_at = -STALE_SECONDS
        self._lock = threading.Lock()

    def fitting(self, algorithm: str, id: str) -> list[TokenKey]:
        """The keys that fit; raises AppUnavailable where there never were any to be had."""
        found = self._found(algorithm, id)
        age = self._clock() - self._read_at
        if found and age < FRESH_SECONDS:
            return found
        self._look_again()
        if self._clock() - self._read_at > STALE_SECONDS:
            raise AppUnavailable("the keys that tokens are signed with can't be had now")
        return self._found(algorithm, id)

    def _found(self, algorithm: str, id: str) -> list[TokenKey]:
        return [key for key in self._keys if key.fits(algorithm, id)]

    def _look_again(self) -> None:
        with self._lock:
            if self._clock() - self._tried_at < PAUSE_SECONDS:
                return
            self._tried_at = self._clock()
            try:
                document = self._fetch(self._url)
                self._keys = list(_public_keys(document))[:MOST_KEYS]
                self._read_at = self._clock()
            except AppUnavailable:
                return


def _keys_of_file(path: Path) -> list[TokenKey]:
    """The keys of a file in PEM, or of a JWK or JWKS; raises Fatal where it holds none of use."""
    hint = "it must hold a public key of RSA, EC or Ed25519, in PEM or as a JWK"
    try:
        text = path.read_text(encoding="utf-8")
        keys = list(_public_keys(json.loads(text))) if text.lstrip()[:1] == "{" else [_pem(text)]
    except OSError as error:
        raise Fatal(f"{path.name} can't be read: {error.strerror}", hint=hint) from None
    except (JoseError, ValueError):
        keys = []
    if not keys:
        raise Fatal(f"{path.name} holds no public key that tokens can be checked with", hint=hint)
    return keys


def _pem(text: str) -> TokenKey:
    if "PRIVATE KEY" in text:
        raise ValueError("a private key")
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            return _pinned(kind.import_key(text.strip()), {})
        except (JoseError, ValueError, TypeError):
            continue
    raise ValueError("no key")


def _public_keys(document: Any) -> Iterator[TokenKey]:
    """Those of a JWK or JWKS that are public and for signatures; others are passed over."""
    listed = document.get("keys", [document]) if isinstance(document, Mapping) else []
    for jwk in listed if isinstance(listed, list) else ():
        is_public = isinstance(jwk, dict) and jwk.get("kty") in ("RSA", "EC", "OKP")
        if not is_public or "d" in jwk or jwk.get("use", "sig") != "sig":
            continue
        try:
            yield _pinned(JWKRegistry.import_key(jwk), jwk)
        except (JoseError, ValueError, TypeError, KeyError):
            continue


def _pinned(key: Key, jwk: Mapping[str, Any]) -> TokenKey:
    """The key with its algorithm: what the JWK says if it's one of the key's, else the usual."""
    possible = _algorithms(key)
    algorithm = str(jwk.get("alg") or possible[0])
    algorithm = "Ed25519" if algorithm == "EdDSA" else algorithm
    if algorithm not in possible:
        raise ValueError(f"{algorithm} is no algorithm of such a key")
    return TokenKey(key, algorithm, str(jwk.get("kid") or ""))


def _algorithms(key: Key) -> Sequence[str]:
    if isinstance(key, RSAKey):
        if key.public_key.key_size < _SMALLEST_RSA:
            raise ValueError("an RSA key that is too small")
        return _RSA
    if isinstance(key, ECKey):
        return [_CURVES[key.curve_name]]
    if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
        return ["Ed25519"]
    raise ValueError("no public key")
