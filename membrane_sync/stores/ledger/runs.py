"""Runs in the ledger's database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from membrane_sync.ports import RunRecord
from membrane_sync.records import Report
from membrane_sync.stores.ledger.database import LedgerDatabase, aware, metadata
from membrane_sync.stores.sql_insert import inserting

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

_RUN_KEY = ("id", "sync", "connection")
_OF_A_RUN = ("started_at", "finished_at", "report", "error")


class SqlRuns:
    """Implements `ports.Runs` in the ledger's database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def record(self, runs: Sequence[RunRecord]) -> None:
        if not runs:
            return
        with self._database.begin() as transaction:
            insert = inserting(transaction)(_runs)
            changed = {name: insert.excluded[name] for name in _OF_A_RUN}
            upsert = insert.on_conflict_do_update(index_elements=[*_RUN_KEY], set_=changed)
            transaction.execute(upsert, [_run_row(run) for run in runs])

    def find(self, id: str, sync: str, connection: str) -> RunRecord | None:
        query = sa.select(_runs).where(_the_run(id, sync, connection))
        with self._database.reading() as transaction:
            row = transaction.execute(query).one_or_none()
        return _run_record(row) if row is not None else None

    def forget(self, before: datetime) -> int:
        newest = _newest_runs()
        kept = sa.select(newest.c.connection).where(
            newest.c.connection == _runs.c.connection,
            newest.c.sync == _runs.c.sync,
            newest.c.at == _runs.c.started_at,
        )
        old = sa.delete(_runs).where(_runs.c.started_at < before, ~sa.exists(kept))
        with self._database.begin() as transaction:
            return int(transaction.execute(old).rowcount)

    def newest(self) -> Sequence[RunRecord]:
        newest = _newest_runs()
        query = sa.select(_runs).join(
            newest,
            sa.and_(
                _runs.c.connection == newest.c.connection,
                _runs.c.sync == newest.c.sync,
                _runs.c.started_at == newest.c.at,
            ),
        )
        with self._database.reading() as transaction:
            runs = [_run_record(row) for row in transaction.execute(query)]
        single = {(run.connection, run.sync): run for run in runs}
        return [single[key] for key in sorted(single)]


def _newest_runs() -> sa.Subquery:
    at = sa.func.max(_runs.c.started_at).label("at")
    query = sa.select(_runs.c.connection, _runs.c.sync, at)
    return query.group_by(_runs.c.connection, _runs.c.sync).subquery()


def _the_run(id: str, sync: str, connection: str) -> sa.ColumnElement[bool]:
    names = {"id": id, "sync": sync, "connection": connection}
    return sa.and_(*(_runs.c[name] == value for name, value in names.items()))


def _run_row(run: RunRecord) -> dict[str, Any]:
    names = (*_RUN_KEY, *_OF_A_RUN)
    return {name: getattr(run, name) for name in names} | {
        "report": asdict(run.report) if run.report else None
    }


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
