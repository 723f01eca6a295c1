"""Credentials at rest: AES-256-GCM, bound to the connection they belong to.

The newest key seals; each that is at hand opens what was sealed with it. So a key is changed while
syncs run: `secret_keys.py` has where keys come from, `sql_secrets.py` seals what is stored anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets as random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from membrane_sync.errors import SecretError

_VERSION = "v1"
_NONCE_BYTES = 12

UNKNOWN = "?"
"""What stands for the key of a text that no vault of ours has sealed."""


class AesVault:
    """Implements `ports.Vault` with one key, or with what `keys` gives, the newest first."""

    def __init__(self, keys: bytes | Callable[[], Sequence[bytes]]) -> None:
        self._keys = (lambda: [keys]) if isinstance(keys, bytes) else keys
        self._ciphers: dict[bytes, AESGCM] = {}

    @property
    def newest(self) -> str:
        return key_id(self._keys()[0])

    @property
    def known(self) -> Sequence[str]:
        return [key_id(key) for key in self._keys()]

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        key, nonce = self._keys()[0], random.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher(key).encrypt(
            nonce, json.dumps(secrets).encode(), owner.encode()
        )
        return f"{_VERSION}:{key_id(key)}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        name, blob = _parts(sealed, owner)
        key = next((key for key in self._keys() if key_id(key) == name), None)
        if key is None:
            raise SecretError(
                f"the credentials of {owner!r} can't be read with the keys at hand: they were "
                f"sealed with key {name}",
                hint="put that key into MEMBRANE_SECRET_KEYS_OLD, or into the key file on a line "
                "of its own; if it's lost, connect again",
            )
        try:
            plain = self._cipher(key).decrypt(
                blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], owner.encode()
            )
            return dict(json.loads(plain))
        except (InvalidTag, ValueError):
            raise _damaged(owner) from None

    def key_of(self, sealed: str) -> str:
        parts = sealed.split(":")
        return parts[1] if len(parts) == 3 and parts[0] == _VERSION else UNKNOWN

    def forget(self, sealed: str, owner: str) -> None:
        """Nothing is kept but the sealed text itself."""

    def _cipher(self, key: bytes) -> AESGCM:
        if key not in self._ciphers:
            self._ciphers[key] = AESGCM(hashlib.sha256(b"membrane-sync vault" + key).digest())
        return self._ciphers[key]


def key_id(key: bytes) -> str:
    """The name of a key, which tells nothing of it."""
    return hashlib.sha256(b"membrane-sync key id" + key).hexdigest()[:8]


def _parts(sealed: str, owner: str) -> tuple[str, bytes]:
    """The name of the key, and what it has sealed."""
    if sealed.startswith("store:"):
        raise SecretError(
            f"the credentials of {owner!r} are in an external store, and none is named",
            hint="set `vault` in pyproject.toml, or MEMBRANE_VAULT, to the store they are in",
        )
    try:
        version, name, text = sealed.split(":", 2)
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        raise _damaged(owner) from None
    if version != _VERSION or len(blob) <= _NONCE_BYTES:
        raise _damaged(owner)
    return name, blob


def _damaged(owner: str) -> SecretError:
    return SecretError(
        f"the credentials of {owner!r} can't be read: they are damaged, or were sealed for another "
        "connection",
        hint="connect again, or put the ledger's last backup in place",
    )
