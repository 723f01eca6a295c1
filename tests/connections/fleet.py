"""Many processes that need one connection's credentials, some of which are killed on the way.

They come from a server that has everything imported, so that starting one takes no time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, Self

from membrane_sync.connections.tokens import Tokens
from membrane_sync.errors import MembraneError
from membrane_sync.ports import Authenticator, Claim, Issued, Kept
from membrane_sync.stores.ledger import credentials as sql_credentials
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.connections.provider import made

ACME = "acme_app"
VAULT_KEY = b"a key of the tests"
PATIENCE = 90.0

_context = multiprocessing.get_context("forkserver")
# What is otherwise imported at its first use, by each process for itself.
_LATE = [
    "membrane_sync.clients.authentication.oauth2",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
]
_context.set_forkserver_preload([__name__, *_LATE])


def open_ledger(url: str) -> SqlLedger:
    return SqlLedger(url, AesVault(VAULT_KEY))


@dataclass(frozen=True)
class Refresher:
    """What another process needs to make the provider's authenticator of."""

    connector: dict[str, Any]
    secret: str

    def authenticator(self) -> Authenticator:
        return made(self.connector, self.secret)


def tokens(ledger: SqlLedger, authenticator: Any, *, store: Any = None, **options: Any) -> Tokens:
    """Live credentials of the connection as the ledger has it now."""
    where = store or ledger.credentials
    return Tokens(ledger.connection(ACME), where, lambda: authenticator, **options)


@dataclass(frozen=True)
class Told:
    """What a process got: credentials of a version, or an error."""

    version: int = 0
    access_token: str = ""
    error: str = ""


class Fleet:
    """So many processes; each round, all of them need credentials at the same moment.

    Their clocks are `apart` seconds from one another.
    """

    def __init__(self, count: int, url: str, refresher: Refresher, *, apart: float = 0.0) -> None:
        # Kept here: with the last reference, its name is gone for those that begin late.
        self._barrier = _context.Barrier(count)
        self._processes = []
        self._pipes: list[Connection] = []
        for number in range(count):
            ours, theirs = _context.Pipe()
            process = _context.Process(
                target=_serve,
                args=(theirs, self._barrier, url, refresher, number * apart),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()

    def round(self, need: str) -> list[Told]:
        """All at once: credentials that `expired`, or that were `refused`."""
        for pipe in self._pipes:
            pipe.send(need)
        told = []
        for pipe in self._pipes:
            assert pipe.poll(PATIENCE), "a process does not answer"
            told.append(pipe.recv())
        return told


def _serve(pipe: Connection, barrier: Barrier, url: str, refresher: Refresher, skew: float) -> None:
    steady = time.time
    time.time = lambda: steady() + skew
    ledger = open_ledger(url)
    authenticator = refresher.authenticator()
    while (need := pipe.recv()) is not None:
        record = ledger.connection(ACME)
        ours = Tokens(record, ledger.credentials, lambda: authenticator)
        barrier.wait(PATIENCE)
        pipe.send(_told(ours, record.version, need))
    ledger.close()


def _told(ours: Tokens, used: int, need: str) -> Told:
    try:
        if need == "refused":
            assert ours.refresh(used)
        kept = ours.current()
        return Told(kept.version, kept.credentials["access_token"])
    except MembraneError as error:
        return Told(error=str(error))


class Killed:
    """A process that needs the credentials, and is killed at one point of the refresh."""

    POINTS = ("before claim", "after claim", "after answer", "inside commit", "after commit")

    def __init__(self, point: str, url: str, refresher: Refresher) -> None:
        process = _context.Process(target=_die, args=(point, url, refresher), daemon=True)
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL, f"it ended by itself: {process.exitcode}"


def _die(point: str, url: str, refresher: Refresher) -> None:
    ledger = open_ledger(url)
    dying = _DyingAuthenticator(point, refresher.authenticator())
    store = _DyingStore(point, ledger.credentials)
    if point == "inside commit":
        keep = sql_credentials._keep
        sql_credentials._keep = _dying(keep, lambda state: state["claim"] == "")
    tokens(ledger, dying, store=store).current()


def _dying(
    keep: Callable[..., None], when: Callable[[dict[str, Any]], bool]
) -> Callable[..., None]:
    def kept(transaction: Any, connection: str, state: dict[str, Any]) -> None:
        keep(transaction, connection, state)
        if when(state):
            kill_ourselves()

    return kept


@dataclass(frozen=True)
class _DyingAuthenticator:
    point: str
    real: Authenticator
    refreshable: bool = True

    def refresh(self, credentials: Mapping[str, Any]) -> Issued:
        issued = self.real.refresh(credentials)
        if self.point == "after answer":
            kill_ourselves()
        return issued


@dataclass(frozen=True)
class _DyingStore:
    point: str
    real: sql_credentials.SqlCredentials

    def read(self, connection: str) -> Kept:
        return self.real.read(connection)

    def claim(self, *args: Any, **options: Any) -> Any:
        if self.point == "before claim":
            kill_ourselves()
        found = self.real.claim(*args, **options)
        if self.point == "after claim":
            kill_ourselves()
        return found

    def commit(self, claim: Claim, issued: Issued) -> Kept | None:
        done = self.real.commit(claim, issued)
        if self.point == "after commit":
            kill_ourselves()
        return done


def kill_ourselves() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
