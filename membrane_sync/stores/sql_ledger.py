"""The ledger: connections with sealed credentials, overrides, runs; SQLite or PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import NotConnected
from membrane_sync.ports import (
    DEFAULT_INSTANCE,
    ConnectionRecord,
    ConnectionStatus,
    Override,
    RunRecord,
    Vault,
)
from membrane_sync.records import Report
from membrane_sync.stores.sql_database import LedgerDatabase, aware, metadata
from membrane_sync.stores.sql_due import SqlDue, due, planned
from membrane_sync.stores.sql_leases import SqlLeases

_connections = sa.Table(
    "membrane_connections",
    metadata,
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("integration", sa.String(100), nullable=False, index=True),
    sa.Column("tenant", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("input", sa.JSON, nullable=False),
    sa.Column("credentials", sa.Text, nullable=False),
    sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
    # Since version 4; an older ledger gets them with these defaults.
    sa.Column("option", sa.String(100), nullable=False, server_default=""),
    sa.Column("status", sa.String(20), nullable=False, server_default="ready"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("expires_at", sa.Double),
)

_overrides = sa.Table(
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

_runs = sa.Table(
    "membrane_runs",
    metadata,
    sa.Column("id", sa.String(100), primary_key=True),
    sa.Column("sync", sa.String(100), primary_key=True),
    sa.Column("connection", sa.String(100), primary_key=True),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("report", sa.JSON),
    sa.Column("error", sa.Text, nullable=False, default=""),
)


class SqlLedger:
    """Implements `ports.Ledger` through SQLAlchemy."""

    def __init__(self, url: str, vault: Vault, *, lease_seconds: float = 30.0) -> None:
        self._database = LedgerDatabase(url)
        self._vault = vault
        self.leases = SqlLeases(self._database, lease_seconds)
        self.due = SqlDue(self._database, _connections)

    def close(self) -> None:
        """Give back the database connections."""
        self.leases.close()
        self._database.close()

    def connections(self, integration: str = "") -> Sequence[ConnectionRecord]:
        query = sa.select(_connections)
        if integration:
            query = query.where(_connections.c.integration == integration)
        with self._begin() as transaction:
            found = [_connection_record(row) for row in transaction.execute(query)]
        # Not by the database, whose order depends on its locale.
        return sorted(found, key=lambda record: record.key)

    def connection(self, key: str) -> ConnectionRecord:
        query = sa.select(_connections).where(_connections.c.key == key)
        with self._begin() as transaction:
            row = transaction.execute(query).one_or_none()
        if row is None:
            raise _not_connected(key)
        return replace(_connection_record(row), credentials=self._vault.open(row.credentials, key))

    def connect(self, record: ConnectionRecord) -> None:
        values = {
            "integration": record.integration,
            "tenant": record.tenant,
            "name": record.name,
            "input": dict(record.input),
            "credentials": self._vault.seal(record.credentials, record.key),
            "connected_at": record.connected_at or datetime.now(UTC),
            "option": record.option,
            "status": record.status,
            "reason": record.reason,
            "expires_at": record.expires_at,
        }
        here = _connections.c.key == record.key
        with self._begin() as transaction:
            # The version always rises: credentials that are in use somewhere are told by it.
            newer = sa.update(_connections).where(here)
            newer = newer.values(values | {"version": _connections.c.version + 1})
            if not transaction.execute(newer).rowcount:
                transaction.execute(
                    sa.insert(_connections).values(key=record.key, version=1, **values)
                )
            # What failed may go well with other credentials: it's due at once.
            at_once = sa.update(due).where(due.c.connection == record.key, due.c.attempts > 0)
            at_once = at_once.where(due.c.batch == "").values(due_at=0.0, attempts=0)
            transaction.execute(at_once)

    def set_status(self, key: str, status: ConnectionStatus, reason: str = "") -> None:
        here = _connections.c.key == key
        noted = sa.update(_connections).where(here).values(status=status, reason=reason)
        with self._begin() as transaction:
            if not transaction.execute(noted).rowcount:
                raise _not_connected(key)

    def disconnect(self, key: str) -> None:
        with self._begin() as transaction:
            gone = transaction.execute(sa.delete(_connections).where(_connections.c.key == key))
            for table in (_overrides, due, planned):
                transaction.execute(sa.delete(table).where(table.c.connection == key))
        if not gone.rowcount:
            raise NotConnected(f"there is no connection {key!r}", hint="see `membrane status`")

    def overrides(self, connection: str) -> Sequence[Override]:
        query = sa.select(_overrides).where(_overrides.c.connection == connection)
        with self._begin() as transaction:
            found = [_override(row) for row in transaction.execute(query)]
        return sorted(found, key=lambda o: (o.kind, o.key, o.instance_key, o.path))

    def override(self, connection: str, overrides: Sequence[Override]) -> None:
        here = _connections.c.key == connection
        with self._begin() as transaction:
            # An update of nothing: it locks the row, so that two of these follow one another.
            touched = sa.update(_connections).where(here).values(key=_connections.c.key)
            if not transaction.execute(touched).rowcount:
                raise _not_connected(connection)
            for new in overrides:
                _reset(transaction, connection, (new.kind, new.key, new.instance_key), new.path)
                transaction.execute(sa.insert(_overrides).values(_override_row(connection, new)))
            transaction.execute(sa.delete(planned).where(planned.c.connection == connection))

    def reset_overrides(
        self,
        connection: str,
        kind: str,
        key: str,
        path: Sequence[str] = (),
        instance_key: str = DEFAULT_INSTANCE,
    ) -> int:
        with self._begin() as transaction:
            transaction.execute(sa.delete(planned).where(planned.c.connection == connection))
            return _reset(transaction, connection, (kind, key, instance_key), path)

    def record_run(self, run: RunRecord) -> None:
        self.record_runs([run])

    def record_runs(self, runs: Sequence[RunRecord]) -> None:
        with self._begin() as transaction:
            for run in runs:
                _record_run(transaction, run)

    def run(self, id: str, sync: str, connection: str) -> RunRecord | None:
        query = sa.select(_runs).where(_the_run(id, sync, connection))
        with self._begin() as transaction:
            row = transaction.execute(query).one_or_none()
        return _run_record(row) if row is not None else None

    def forget_runs(self, before: datetime) -> int:
        newest = _newest_runs()
        kept = sa.select(newest.c.connection).where(
            newest.c.connection == _runs.c.connection,
            newest.c.sync == _runs.c.sync,
            newest.c.at == _runs.c.started_at,
        )
        old = sa.delete(_runs).where(_runs.c.started_at < before, ~sa.exists(kept))
        with self._begin() as transaction:
            return int(transaction.execute(old).rowcount)

    def last_runs(self) -> Sequence[RunRecord]:
        newest = _newest_runs()
        query = sa.select(_runs).join(
            newest,
            sa.and_(
                _runs.c.connection == newest.c.connection,
                _runs.c.sync == newest.c.sync,
                _runs.c.started_at == newest.c.at,
            ),
        )
        with self._begin() as transaction:
            runs = [_run_record(row) for row in transaction.execute(query)]
        single = {(run.connection, run.sync): run for run in runs}
        return [single[key] for key in sorted(single)]

    def _begin(self) -> AbstractContextManager[sa.Connection]:
        return self._database.begin()


def _newest_runs() -> sa.Subquery:
    at = sa.func.max(_runs.c.started_at).label("at")
    query = sa.select(_runs.c.connection, _runs.c.sync, at)
    return query.group_by(_runs.c.connection, _runs.c.sync).subquery()


def _the_run(id: str, sync: str, connection: str) -> sa.ColumnElement[bool]:
    names = {"id": id, "sync": sync, "connection": connection}
    return sa.and_(*(_runs.c[name] == value for name, value in names.items()))


def _record_run(transaction: sa.Connection, run: RunRecord) -> None:
    values: dict[str, Any] = {
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "report": asdict(run.report) if run.report else None,
        "error": run.error,
    }
    here = _the_run(run.id, run.sync, run.connection)
    if not transaction.execute(sa.update(_runs).where(here).values(values)).rowcount:
        names = {"id": run.id, "sync": run.sync, "connection": run.connection}
        transaction.execute(sa.insert(_runs).values(**names, **values))


def _connection_record(row: Any) -> ConnectionRecord:
    return ConnectionRecord(
        key=row.key,
        integration=row.integration,
        tenant=row.tenant,
        name=row.name,
        input=row.input,
        connected_at=aware(row.connected_at),
        option=row.option,
        status=row.status,
        reason=row.reason,
        version=row.version,
        expires_at=row.expires_at,
    )


def _not_connected(key: str) -> NotConnected:
    return NotConnected(
        f"there is no connection {key!r}",
        hint="see `membrane status` for those there are, or make it: membrane connect",
    )


def _reset(
    transaction: sa.Connection,
    connection: str,
    element: tuple[str, str, str],
    path: Sequence[str],
) -> int:
    names = ("connection", "kind", "key", "instance_key")
    here = sa.and_(
        *(_overrides.c[n] == v for n, v in zip(names, (connection, *element), strict=True))
    )
    found = transaction.execute(sa.select(_overrides.c.path, _overrides.c.path_hash).where(here))
    hashes = [row.path_hash for row in found if row.path[: len(path)] == list(path)]
    for path_hash in hashes:
        this = sa.and_(here, _overrides.c.path_hash == path_hash)
        transaction.execute(sa.delete(_overrides).where(this))
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


def _run_record(row: Any) -> RunRecord:
    return RunRecord(
        id=row.id,
        connection=row.connection,
        sync=row.sync,
        started_at=aware(row.started_at) or datetime.now(UTC),
        finished_at=aware(row.finished_at),
        report=Report(**row.report) if row.report else None,
        error=row.error,
    )
