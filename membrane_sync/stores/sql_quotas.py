"""Quotas shared by all processes: a row each in the ledger's database, SQLite or PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from membrane_sync.errors import LedgerUnavailable
from membrane_sync.ports import Grant, Party, Quota
from membrane_sync.stores.quota_schedule import LONGEST_HOLD, SECOND, State, give_back, reserve
from membrane_sync.stores.sqlite_engine import sqlite_engine

_LAYOUT_LOCK = 7_239_205
"""Number of PostgreSQL's advisory lock for creating the table; any other than the ledger's does."""

_metadata = sa.MetaData()

_quotas = sa.Table(
    "membrane_quotas",
    _metadata,
    sa.Column("key", sa.String(400), primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
)


class SqlQuotas:
    """Implements `ports.Quotas`; opens nothing before a quota is asked for.

    The clock is the database server's, or, for SQLite, that of the one machine which can reach
    the file. `clock` replaces it in tests: nanoseconds since the epoch.
    """

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None) -> None:
        self._url = sa.make_url(url)
        self._clock = clock
        self._opening = threading.Lock()
        self._engine: sa.Engine | None = None

    def close(self) -> None:
        """Give back the database connections."""
        if self._engine is not None:
            self._engine.dispose()

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        with self._transaction() as transaction:
            states = _locked(transaction, quotas)
            now = self._now(transaction)
            grant = reserve(quotas, states, party, count, now)
            _write(transaction, quotas, states)
        return grant

    def give_back(self, quotas: Sequence[Quota], count: int) -> None:
        with self._transaction() as transaction:
            states = _locked(transaction, quotas)
            for quota, state in zip(quotas, states, strict=True):
                give_back(quota, state, count)
            _write(transaction, quotas, states)

    def hold(self, quotas: Sequence[Quota], seconds: float) -> None:
        with self._transaction() as transaction:
            states = _locked(transaction, quotas)
            until = self._now(transaction) + min(int(seconds * SECOND), LONGEST_HOLD)
            for state in states:
                state.hold = max(state.hold, until)
            _write(transaction, quotas, states)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._opened().begin() as transaction:
                yield transaction
        except OperationalError as error:
            raise LedgerUnavailable(
                f"the quotas at {self._url.render_as_string()} can't be reached: "
                f"{str(error).splitlines()[0]}",
                hint="is the database running, and MEMBRANE_LEDGER_URL right?",
            ) from None

    def _opened(self) -> sa.Engine:
        with self._opening:
            if self._engine is None:
                engine = _engine(self._url)
                with engine.begin() as transaction:
                    if transaction.dialect.name == "postgresql":
                        transaction.execute(sa.select(sa.func.pg_advisory_xact_lock(_LAYOUT_LOCK)))
                    _metadata.create_all(transaction)
                self._engine = engine
            return self._engine

    def _now(self, transaction: sa.Connection) -> int:
        if self._clock is not None:
            return self._clock()
        if transaction.dialect.name == "sqlite":
            return time.time_ns()
        # Asked for once the rows are locked: not the time at which the transaction began.
        microseconds = sa.func.extract("epoch", sa.func.clock_timestamp()) * 1_000_000
        return int(transaction.execute(sa.select(microseconds)).scalar_one()) * 1_000


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sqlite_engine(url, wal=True)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # What a crash of the machine may lose here is older than the machine's next start.
        connection.execute("PRAGMA synchronous=OFF")

    return engine


def _locked(transaction: sa.Connection, quotas: Sequence[Quota]) -> list[State]:
    """The states in the order of `quotas`; rows are locked in that of their keys."""
    keys = sorted({quota.key for quota in quotas})
    query = sa.select(_quotas).where(_quotas.c.key.in_(keys)).order_by(_quotas.c.key)
    found = {row.key: row.state for row in transaction.execute(query.with_for_update())}
    missing = [key for key in keys if key not in found]
    if missing:
        insert = sqlite.insert if transaction.dialect.name == "sqlite" else postgresql.insert
        rows = [{"key": key, "state": State().dumps()} for key in missing]
        transaction.execute(insert(_quotas).on_conflict_do_nothing(), rows)
        found = {row.key: row.state for row in transaction.execute(query.with_for_update())}
    return [State.loads(found[quota.key]) for quota in quotas]


_update = (
    sa.update(_quotas)
    .where(_quotas.c.key == sa.bindparam("which"))
    .values(state=sa.bindparam("what"))
)


def _write(transaction: sa.Connection, quotas: Sequence[Quota], states: Sequence[State]) -> None:
    rows = [
        {"which": quota.key, "what": state.dumps()}
        for quota, state in zip(quotas, states, strict=True)
    ]
    transaction.execute(_update, rows)
