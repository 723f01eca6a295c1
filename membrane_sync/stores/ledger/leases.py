"""Leases: which process may write for a connection, until when, and by which epoch.

A lock file can't say that its holder is frozen; a lease runs out. Whoever takes an expired one over
has a higher epoch, and writes it into the lake: what the frozen one had in hand is refused there.
Epochs are milliseconds of the clock, or one more than the last: so they go on rising in a ledger
that was put back from a backup, whose lakes have seen later ones.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import AppUnavailable, Fenced, LockTimeout
from membrane_sync.machine import is_dead, machine
from membrane_sync.stores.ledger.database import LedgerDatabase, aware, metadata
from membrane_sync.stores.sql_insert import inserting

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two looks at a lease that another process holds."""

_leases = sa.Table(
    "membrane_leases",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("process", sa.Integer, nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("machine", sa.String(500), nullable=False),
    sa.Column("purpose", sa.String(500), nullable=False),
    sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
)


@dataclass(eq=False)
class SqlLease:
    """A lease as its holder has it; implements `ports.Lease`."""

    connection: str
    epoch: int
    taken_over: bool
    _leases: SqlLeases = field(repr=False)
    lost: bool = False

    def check(self) -> None:
        self._leases.renew([self])
        if self.lost:
            raise Fenced(
                f"connection {self.connection!r} was taken over by another process, since this one "
                "did not renew its lease in time; nothing more is written here",
                hint="was it frozen, or cut off from the ledger? the next sync reads on",
            )


class SqlLeases:
    """Implements `ports.Leases` in the ledger's database; a thread renews those held here."""

    def __init__(self, database: LedgerDatabase, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._held: dict[int, SqlLease] = {}
        self._lock = Lock()
        self._keeper: Thread | None = None
        self._wake = Event()

    def close(self) -> None:
        """End the thread, once nothing is held."""
        self._wake.set()

    @contextmanager
    def hold(self, connection: str, purpose: str, wait_seconds: float) -> Iterator[SqlLease]:
        lease = self._acquire(connection, purpose, wait_seconds)
        self._keep(lease)
        try:
            yield lease
        finally:
            self._release(lease)

    def renew(self, leases: Sequence[SqlLease]) -> None:
        """Put off the end of those that are still held; the others are marked as lost."""
        with self._database.begin() as transaction:
            until = now(transaction) + self._seconds
            for lease in leases:
                mine = _leases.c.epoch == lease.epoch, _leases.c.held
                here = sa.and_(_leases.c.connection == lease.connection, *mine)
                done = transaction.execute(sa.update(_leases).where(here).values(expires_at=until))
                lease.lost = lease.lost or not done.rowcount

    def _acquire(self, connection: str, purpose: str, wait_seconds: float) -> SqlLease:
        deadline, pause = time.monotonic() + wait_seconds, SHORTEST_PAUSE
        while not isinstance(found := self._try(connection, purpose), SqlLease):
            left = deadline - time.monotonic()
            if left <= 0:
                raise LockTimeout(
                    f"connection {connection!r} is held by {found}; waited {wait_seconds:g} s",
                    hint="let it finish and try again, or raise lock_wait_seconds in the settings",
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return found

    def _try(self, connection: str, purpose: str) -> SqlLease | str:
        """The lease, or in words who has it."""
        here = _leases.c.connection == connection
        with self._database.begin() as transaction:
            moment = now(transaction)
            row = _locked_row(transaction, connection)
            if row.held and moment < row.expires_at and not is_dead(row.process, row.machine):
                since = (aware(row.since) or datetime.now(UTC)).isoformat(timespec="seconds")
                return f"process {row.process} on {row.host} ({row.purpose}, since {since})"
            epoch = max(row.epoch + 1, int(moment * 1000))
            values = _signature(purpose) | {"epoch": epoch, "expires_at": moment + self._seconds}
            transaction.execute(sa.update(_leases).where(here).values(values))
        return SqlLease(connection, epoch, bool(row.held), self)

    def _keep(self, lease: SqlLease) -> None:
        with self._lock:
            self._held[id(lease)] = lease
            if self._keeper is None:
                self._keeper = Thread(target=self._renew_all, name="leases", daemon=True)
                self._keeper.start()

    def _renew_all(self) -> None:
        while True:
            self._wake.wait(self._seconds / 3)
            self._wake.clear()
            with self._lock:
                held = list(self._held.values())
                if not held:
                    self._keeper = None
                    return
            # If the ledger is away for long, the lease ends; `check` and the lake will say so.
            with suppress(AppUnavailable):
                self.renew(held)

    def _release(self, lease: SqlLease) -> None:
        with self._lock:
            del self._held[id(lease)]
        here = sa.and_(_leases.c.connection == lease.connection, _leases.c.epoch == lease.epoch)
        # One that can't be given back now ends by itself.
        with suppress(AppUnavailable), self._database.begin() as transaction:
            transaction.execute(sa.update(_leases).where(here).values(held=False))


def now(transaction: sa.Connection) -> float:
    """Seconds since 1970 by the one clock that all who use this ledger share."""
    if transaction.dialect.name == "postgresql":
        return float(transaction.execute(sa.select(clock(transaction))).scalar_one())
    return time.time()


def clock(transaction: sa.Connection) -> sa.ColumnElement[Any]:
    """`now` as a column of a query."""
    if transaction.dialect.name == "postgresql":
        return sa.extract("epoch", sa.func.clock_timestamp())
    return sa.literal(time.time(), sa.Double)


def _locked_row(transaction: sa.Connection, connection: str) -> Any:
    """The connection's row, which nobody else changes before the transaction's end."""
    query = sa.select(_leases).where(_leases.c.connection == connection).with_for_update()
    row = transaction.execute(query).one_or_none()
    if row is None:
        nobody = _signature("") | {"epoch": 0, "held": False, "expires_at": 0.0}
        insert = inserting(transaction)(_leases).on_conflict_do_nothing()
        transaction.execute(insert.values(connection=connection, **nobody))
        row = transaction.execute(query).one()
    return row


def _signature(purpose: str) -> dict[str, Any]:
    return {
        "held": True,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "machine": machine(),
        "purpose": purpose[:500],
        "since": datetime.now(UTC),
    }
