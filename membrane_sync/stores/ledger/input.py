"""Input that is secret and stands in the ledger as it was typed.

An older ledger sealed no input, and a connector may mark a field when accounts are connected long
since. Which fields are secret is the project's to say, so it's said with each call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import LockTimeout, MembraneError, SecretError
from membrane_sync.ports import Vault
from membrane_sync.stores.ledger.connection_table import connections
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.sealed import Resealed

_TRIES = 10

Secret = Callable[[str], Collection[str]]
"""Which fields of the input are secret, by the integration's key."""


class SqlInput:
    """The plain input of the ledger's connections, and what of it is to be sealed."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def plain(self, secret: Secret) -> list[str]:
        """Keys of the connections that have secret input in plain text."""
        columns = (connections.c[name] for name in ("key", "integration", "input"))
        with self._database.begin() as transaction:
            rows = transaction.execute(sa.select(*columns)).all()
        return sorted(row.key for row in rows if _found(row, secret))

    def seal(self, secret: Secret) -> Resealed:
        """Seal it, or drop it where the connection is archived; syncs may go on meanwhile.

        The file of a ledger in SQLite has no trace of it afterwards; PostgreSQL has, until it
        uses the place for something else.
        """
        done = Resealed()
        for key in self.plain(secret):
            try:
                done.sealed += self._seal(key, secret)
            except SecretError as error:
                done.unread[f"{key}/input"] = error.message
        if done.sealed:
            self._database.scrub()
        return done

    def _seal(self, key: str, secret: Secret) -> bool:
        for row in self._tries(key):
            found = _found(row, secret)
            if not found:
                return False
            owner = f"{key}/input"
            sealed = "" if row.status == "archived" else self._sealed(row, found, owner)
            taken = self._replace(row, sealed, found)
            with suppress(MembraneError):  # At worst, an external store keeps an entry too many.
                self._vault.forget(row.secret_input if taken else sealed, owner)
            if taken:
                return True
        raise LockTimeout(f"the input of {key!r} keeps changing", hint="try again")

    def _tries(self, key: str) -> Iterator[Any]:
        query = sa.select(connections).where(connections.c.key == key)
        for _ in range(_TRIES):
            with self._database.begin() as transaction:
                row = transaction.execute(query).one_or_none()
            if row is None:
                return
            yield row

    def _sealed(self, row: Any, found: Mapping[str, Any], owner: str) -> str:
        before = self._vault.open(row.secret_input, owner) if row.secret_input else {}
        return self._vault.seal({**before, **found}, owner)

    def _replace(self, row: Any, sealed: str, found: Mapping[str, Any]) -> bool:
        """Unless it was connected anew, or its secrets were sealed anew."""
        names = ("key", "version", "secret_input")
        same = (getattr(row, name) == connections.c[name] for name in names)
        plain = {name: value for name, value in row.input.items() if name not in found}
        change = sa.update(connections).where(*same).values(input=plain, secret_input=sealed)
        with self._database.begin() as transaction:
            return bool(transaction.execute(change).rowcount)


def _found(row: Any, secret: Secret) -> dict[str, Any]:
    return {name: row.input[name] for name in secret(row.integration) if name in row.input}
