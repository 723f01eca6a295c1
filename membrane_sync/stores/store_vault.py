"""Credentials in an external store; the ledger keeps no more than the name of the entry.

Each change of a connection's credentials is an entry of its own, which never changes: so a process
that was late to store new credentials has overwritten nobody else's.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping, Sequence
from typing import Any

from membrane_sync.errors import SecretError
from membrane_sync.ports import SecretStore, Vault

STORE = "store"
"""Stands for the key of what an external store keeps."""

_NOTHING = f"{STORE}:nothing"


class StoreVault:
    """Implements `ports.Vault` on a store; what `local` has sealed before is still read by that."""

    def __init__(self, store: SecretStore, local: Vault) -> None:
        self._store = store
        self._local = local

    @property
    def newest(self) -> str:
        return STORE

    @property
    def known(self) -> Sequence[str]:
        return [STORE, *self._local.known]

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        if not secrets:
            return _NOTHING
        entry = random.token_hex(16)
        self._store.put(owner, entry, secrets)
        return f"{STORE}:{entry}"

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        if sealed == _NOTHING:
            return {}
        if not _is_entry(sealed):
            return self._local.open(sealed, owner)
        found = self._store.get(owner, sealed.removeprefix(f"{STORE}:"))
        if found is None:
            raise SecretError(
                f"the external store has no longer the credentials of {owner!r}",
                hint="put them back from the store's own backup, or connect again",
            )
        return dict(found)

    def key_of(self, sealed: str) -> str:
        return STORE if _is_entry(sealed) else self._local.key_of(sealed)

    def forget(self, sealed: str, owner: str) -> None:
        if _is_entry(sealed) and sealed != _NOTHING:
            self._store.delete(owner, sealed.removeprefix(f"{STORE}:"))


def _is_entry(sealed: str) -> bool:
    return sealed.startswith(f"{STORE}:")
