"""Quotas shared by all processes: a row each in the ledger's database, SQLite or PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from membrane_sync.errors import LedgerUnavailable
from membrane_sync.ports import Grant, Party, Quota
from membrane_sync.stores.quota_schedule import LONGEST_HOLD, SECOND, State, give_back, reserve
from membrane_sync.stores.sql_insert import inserting
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


_pauses = sa.Table(
    "membrane_pauses",
    _metadata,
    sa.Column("key", sa.String(400), primary_key=True),
    sa.Column("until", sa.BigInteger, nullable=False),
)
"""What is in force, and what was until the next pause; `until` in nanoseconds since the epoch."""

LOOK_SECONDS = 1.0
"""How often a process looks for pauses of others, at most, for all its connections at once."""


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
        self._looking = threading.Lock()
        self._looked_at: float | None = None
        self._known: dict[str, float] = {}

    def close(self) -> None:
        """Give back the database connections."""
        if self._engine is not None:
            self._engine.dispose()

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        with self._transaction() as transaction:
            states, now = self._locked(transaction, quotas)
            grant = reserve(quotas, states, party, count, now)
            _write(transaction, quotas, states)
        return grant

    def give_back(self, quotas: Sequence[Quota], count: int) -> None:
        with self._transaction() as transaction:
            states, _ = self._locked(transaction, quotas)
            for quota, state in zip(quotas, states, strict=True):
                give_back(quota, state, count)
            _write(transaction, quotas, states)

    def hold(self, quotas: Sequence[Quota], seconds: float) -> None:
        with self._transaction() as transaction:
            states, now = self._locked(transaction, quotas)
            until = now + min(int(seconds * SECOND), LONGEST_HOLD)
            for state in states:
                state.hold = max(state.hold, until)
            _write(transaction, quotas, states)

    def pause(self, key: str, seconds: float) -> None:
        with self._transaction() as transaction:
            now = self._now(transaction)
            until = now + min(int(seconds * SECOND), LONGEST_HOLD)
            mine = (_pauses.c.key == key) & (_pauses.c.until < until)
            transaction.execute(sa.delete(_pauses).where((_pauses.c.until <= now) | mine))
            _insert_missing(transaction, _pauses, [{"key": key, "until": until}])
        with self._looking:
            self._looked_at = None

    def paused(self, key: str) -> float:
        with self._looking:
            moment = time.monotonic()
            if self._looked_at is None or moment - self._looked_at >= LOOK_SECONDS:
                self._known, self._looked_at = self._in_force(moment), moment
            return max(0.0, self._known.get(key, 0.0) - moment)

    def _in_force(self, moment: float) -> dict[str, float]:
        """Until when on this process's own clock each key is paused; reads, and locks nothing."""
        with self._reading() as connection:
            now = self._now(connection)
            found = connection.execute(sa.select(_pauses).where(_pauses.c.until > now))
            return {row.key: moment + (row.until - now) / SECOND for row in found}

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._reachable(), self._opened().connect() as connection:
            yield connection.execution_options(reads_only=True)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._reachable(), self._opened().begin() as transaction:
            yield transaction

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
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

    def _locked(
        self, transaction: sa.Connection, quotas: Sequence[Quota]
    ) -> tuple[list[State], int]:
        """The states in the order of `quotas`, and the moment at which they were all locked."""
        keys = sorted({quota.key for quota in quotas})
        rows = transaction.execute(_lock_rows(transaction, keys)).all()
        missing = sorted({*keys} - {row.key for row in rows})
        if missing:
            new = [{"key": key, "state": State().dumps()} for key in missing]
            _insert_missing(transaction, _quotas, new)
            rows = transaction.execute(_lock_rows(transaction, keys)).all()
        states = {row.key: row.state for row in rows}
        now = self._own_now(transaction) or max(int(row.now) for row in rows) * 1_000
        return [State.loads(states[quota.key]) for quota in quotas], now

    def _now(self, connection: sa.Connection) -> int:
        own = self._own_now(connection)
        return own or int(connection.execute(sa.select(_MICROSECONDS)).scalar_one()) * 1_000

    def _own_now(self, connection: sa.Connection) -> int | None:
        """The time where it's this machine's; None where it's the database server's."""
        if self._clock is not None:
            return self._clock()
        return time.time_ns() if connection.dialect.name == "sqlite" else None


_MICROSECONDS = sa.func.extract("epoch", sa.func.clock_timestamp()) * 1_000_000


def _lock_rows(transaction: sa.Connection, keys: Sequence[str]) -> sa.Select[Any]:
    """The rows, locked in the order of their keys; PostgreSQL's each with the time at which it was.

    One trip to the server, since others wait for the rows meanwhile.
    """
    query = sa.select(_quotas).where(_quotas.c.key.in_(keys)).order_by(_quotas.c.key)
    if transaction.dialect.name == "sqlite":
        return query
    # Beside FOR UPDATE itself, a time may be that of before the wait for the lock.
    locked = query.with_for_update().cte("locked").prefix_with("MATERIALIZED")
    return sa.select(locked, _MICROSECONDS.label("now"))


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        engine = sa.create_engine(url, pool_pre_ping=True)
        sa.event.listen(engine, "connect", _without_flush)
        return engine
    engine = sqlite_engine(url, wal=True)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # What a crash of the machine may lose here is older than the machine's next start.
        connection.execute("PRAGMA synchronous=OFF")

    return engine


def _without_flush(connection: Any, _record: Any) -> None:
    """Don't have everybody wait for a row until a disk has its last state.

    What a crash of the server may lose is the last half second, and it takes longer to start.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()


def _insert_missing(
    transaction: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]
) -> None:
    transaction.execute(inserting(transaction)(table).on_conflict_do_nothing(), rows)


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
