"""All sealed texts of the ledger: how many there are of each key, and sealed anew by the newest.

Whichever table has a column made by `sealed_column` is looked after, nothing else need be said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import MembraneError, SecretError
from membrane_sync.ports import Vault
from membrane_sync.stores.ledger.database import LedgerDatabase, metadata

BATCH = 100
PASSES = 10
"""A text that was stored meanwhile by the former key is met in the next pass."""

_OWNER = "membrane_sealed_for"


def sealed_column(name: str, owner: str, **options: Any) -> sa.Column[str]:
    """A column of texts that the vault has sealed, empty where there's none.

    `owner` says for whom, by the row's other columns: `{key}/input`.
    """
    return sa.Column(name, sa.Text, nullable=False, info={_OWNER: owner}, **options)


@dataclass
class Resealed:
    """What a rotation did; `unread` are the owners of texts that can't be opened, and why."""

    sealed: int = 0
    unread: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Resealed) -> Resealed:
        return Resealed(self.sealed + other.sealed, {**self.unread, **other.unread})


class SqlSecrets:
    """The sealed texts in the ledger's tables."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def count(self) -> Mapping[str, int]:
        """How many texts each key has sealed, by the key's name."""
        counts: Counter[str] = Counter()
        for column in _columns():
            for rows in self._batches(column):
                counts.update(self._vault.key_of(row.sealed) for row in rows)
        return counts

    def reseal(self) -> Resealed:
        """Seal with the newest key what another one has sealed; syncs may go on meanwhile.

        A text that someone else replaces at the same time stays as they have left it. Cut off, it
        has done what it has done: the next call does the rest.
        """
        done = Resealed()
        for _ in range(PASSES):
            before = done.sealed
            for column in _columns():
                for rows in self._batches(column):
                    self._reseal(column, rows, done)
            if done.sealed == before:
                break
        return done

    def _reseal(self, column: sa.Column[Any], rows: Sequence[Any], done: Resealed) -> None:
        for row in rows:
            owner = column.info[_OWNER].format_map(row._mapping)
            if self._vault.key_of(row.sealed) == self._vault.newest or owner in done.unread:
                continue
            try:
                sealed = self._vault.seal(self._vault.open(row.sealed, owner), owner)
            except SecretError as error:
                done.unread[owner] = error.message
                continue
            taken = self._replace(column, row, sealed)
            done.sealed += taken
            with suppress(MembraneError):  # At worst, the store keeps an entry too many.
                self._vault.forget(row.sealed if taken else sealed, owner)

    def _replace(self, column: sa.Column[Any], row: Any, sealed: str) -> bool:
        """Unless it's another text by now."""
        here = sa.and_(
            column == row.sealed,
            *(key == row._mapping[key.name] for key in column.table.primary_key),
        )
        update = sa.update(column.table).where(here).values({column.name: sealed})
        with self._database.begin() as transaction:
            return bool(transaction.execute(update).rowcount)

    def _batches(self, column: sa.Column[Any]) -> Iterator[Sequence[Any]]:
        """Rows with a text, in the order of their keys; no transaction is open between batches."""
        keys = list(column.table.primary_key)
        query = sa.select(column.table, column.label("sealed")).where(column != "")
        query = query.order_by(*keys).limit(BATCH)
        rows: Sequence[Any] = ()
        while True:
            after = [rows[-1]._mapping[key.name] for key in keys] if rows else None
            following = query.where(sa.tuple_(*keys) > sa.tuple_(*after)) if after else query
            with self._database.begin() as transaction:
                rows = transaction.execute(following).all()
            if rows:
                yield rows
            if len(rows) < BATCH:
                return


def _columns() -> list[sa.Column[Any]]:
    tables = metadata.tables.values()
    return [column for table in tables for column in table.columns if _OWNER in column.info]
