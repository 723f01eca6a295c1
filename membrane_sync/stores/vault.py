"""Credentials at rest: AES-256-GCM, bound to the connection they belong to.

The key comes from `MEMBRANE_SECRET_KEY` (any text of 16 characters or more), or from a file that is
made on first use and readable by its owner alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets as random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from membrane_sync.errors import SecretError

_VERSION = "v1"
_NONCE_BYTES = 12
_SHORTEST_KEY = 16


class AesVault:
    """Implements `ports.Vault` with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(hashlib.sha256(b"membrane-sync vault" + key).digest())
        self._key_id = hashlib.sha256(b"membrane-sync key id" + key).hexdigest()[:8]

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        nonce = random.token_bytes(_NONCE_BYTES)
        plain = json.dumps(secrets).encode()
        sealed = nonce + self._cipher.encrypt(nonce, plain, owner.encode())
        return f"{_VERSION}:{self._key_id}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        try:
            version, key_id, text = sealed.split(":", 2)
            blob = base64.b64decode(text, validate=True)
            if (version, key_id) != (_VERSION, self._key_id):
                raise ValueError(key_id)
            nonce, cipher = blob[:_NONCE_BYTES], blob[_NONCE_BYTES:]
            return dict(json.loads(self._cipher.decrypt(nonce, cipher, owner.encode())))
        except (InvalidTag, ValueError):
            raise SecretError(
                f"the credentials of {owner!r} can't be read with the key at hand",
                hint="set MEMBRANE_SECRET_KEY to the key they were stored with, or connect again",
            ) from None


def vault_key(configured: str | None, path: Path) -> bytes:
    """The key out of the setting, or else of the file, which is made if it isn't there."""
    if configured is not None:
        if len(configured) < _SHORTEST_KEY:
            raise SecretError(
                f"MEMBRANE_SECRET_KEY is shorter than {_SHORTEST_KEY} characters",
                hint="make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        return configured.encode()
    if not path.exists():
        _make_key(path)
    key = path.read_bytes().strip()
    if len(key) < _SHORTEST_KEY:
        raise SecretError(
            f"{path.name} holds no key of {_SHORTEST_KEY} characters or more",
            hint="put the key back that the credentials were stored with",
        )
    return key


def _make_key(path: Path) -> None:
    """Make the key file under another name first: whoever sees it must see all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.{random.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(random.token_urlsafe(32).encode())
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass  # another process was first, and its key is the one
    finally:
        unfinished.unlink()
