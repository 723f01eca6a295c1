"""Overrides in the ledger's database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from membrane_sync.ports import DEFAULT_INSTANCE, Override
from membrane_sync.stores.ledger.checkups import check_up
from membrane_sync.stores.ledger.connection_table import connections, not_connected
from membrane_sync.stores.ledger.database import LedgerDatabase, aware, metadata
from membrane_sync.stores.ledger.due import planned

overrides = sa.Table(
    "membrane_overrides",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    sa.Column("kind", sa.String(100), primary_key=True),
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("instance_key", sa.String(100), primary_key=True),
    # Stands for the path, which may be too long for an index.
    sa.Column("path_hash", sa.String(64), primary_key=True),
    sa.Column("path", sa.JSON, nullable=False),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Column("parent", sa.String(64), nullable=False),
    sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
)


class SqlOverrides:
    """Implements `ports.Overrides` in the ledger's database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def of(self, connection: str) -> Sequence[Override]:
        query = sa.select(overrides).where(overrides.c.connection == connection)
        with self._database.reading() as transaction:
            found = [_override(row) for row in transaction.execute(query)]
        return sorted(found, key=lambda o: (o.kind, o.key, o.instance_key, o.path))

    def keep(self, connection: str, made: Sequence[Override]) -> None:
        here = connections.c.key == connection
        with self._database.begin() as transaction:
            # An update of nothing: it locks the row, so that two of these follow one another.
            touched = sa.update(connections).where(here).values(key=connections.c.key)
            if not transaction.execute(touched).rowcount:
                raise not_connected(connection)
            for new in made:
                _reset(transaction, connection, (new.kind, new.key, new.instance_key), new.path)
                transaction.execute(sa.insert(overrides).values(_override_row(connection, new)))
            transaction.execute(sa.delete(planned).where(planned.c.connection == connection))
            check_up(transaction, connection)

    def reset(
        self,
        connection: str,
        kind: str,
        key: str,
        path: Sequence[str] = (),
        instance_key: str = DEFAULT_INSTANCE,
    ) -> int:
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(planned).where(planned.c.connection == connection))
            check_up(transaction, connection)
            return _reset(transaction, connection, (kind, key, instance_key), path)


def _reset(
    transaction: sa.Connection,
    connection: str,
    element: tuple[str, str, str],
    path: Sequence[str],
) -> int:
    names = ("connection", "kind", "key", "instance_key")
    here = sa.and_(
        *(overrides.c[n] == v for n, v in zip(names, (connection, *element), strict=True))
    )
    found = transaction.execute(sa.select(overrides.c.path, overrides.c.path_hash).where(here))
    hashes = [row.path_hash for row in found if row.path[: len(path)] == list(path)]
    for path_hash in hashes:
        this = sa.and_(here, overrides.c.path_hash == path_hash)
        transaction.execute(sa.delete(overrides).where(this))
    return len(hashes)


def _override_row(connection: str, override: Override) -> dict[str, Any]:
    text = json.dumps(override.path)
    return {
        "connection": connection,
        "kind": override.kind,
        "key": override.key,
        "instance_key": override.instance_key,
        "path_hash": hashlib.sha256(text.encode()).hexdigest(),
        "path": list(override.path),
        "value": override.value,
        "removed": override.removed,
        "parent": override.parent,
        "made_at": override.made_at or datetime.now(UTC),
    }


def _override(row: Any) -> Override:
    return Override(
        connection=row.connection,
        kind=row.kind,
        key=row.key,
        path=tuple(row.path),
        value=row.value,
        removed=row.removed,
        parent=row.parent,
        instance_key=row.instance_key,
        made_at=aware(row.made_at),
    )
