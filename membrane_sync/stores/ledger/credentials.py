"""Live credentials in the ledger: who refreshes them now, and what became of it.

A claim is a row that is committed before the app is asked: it names the version to be replaced, the
process, and its end by the ledger's clock. New credentials are only taken from whoever has the
claim yet. All of it happens under a lock of the connection's own row, so that reconnecting and
refreshing follow one another.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import Defunct, MembraneError, NotConnected, NotReady, SecretError
from membrane_sync.machine import is_dead, machine
from membrane_sync.ports import Claim, Issued, Kept, Pending, Vault
from membrane_sync.stores.ledger.connection_table import connections
from membrane_sync.stores.ledger.database import LedgerDatabase, aware, metadata
from membrane_sync.stores.ledger.due import make_due
from membrane_sync.stores.ledger.leases import clock, now

MOST_REFUSALS = 3
REFUSAL_SECONDS = 60.0
"""Refusals that come closer together count as one: a run of many collections meets many."""

LONGEST_TEXT = 1_000

refreshes = sa.Table(
    "membrane_refreshes",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    # The version of the credentials that all the rest is about.
    sa.Column("version", sa.BigInteger, nullable=False),
    # Empty while nobody refreshes.
    sa.Column("claim", sa.String(32), nullable=False),
    sa.Column("claimed_until", sa.Double, nullable=False),
    sa.Column("process", sa.Integer, nullable=False),
    sa.Column("machine", sa.String(500), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("doubtful", sa.Boolean, nullable=False),
    sa.Column("lifetime", sa.Double),
)

_IDLE: dict[str, Any] = {
    "claim": "",
    "claimed_until": 0.0,
    "process": 0,
    "machine": "",
    "attempts": 0,
    "next_at": 0.0,
    "error": "",
    "doubtful": False,
    "lifetime": None,
}


class SqlCredentials:
    """Implements `ports.CredentialStore` in the ledger's database."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def read(self, connection: str) -> Kept:
        read = self._read(connection)
        try:
            return self._kept(*read)
        except SecretError:
            # What was replaced after it was read may be gone from an external store.
            newer = self._read(connection)
            if newer[0].version == read[0].version:
                raise
            return self._kept(*newer)

    def claim(
        self, connection: str, version: int, seconds: float, *, force: bool = False
    ) -> Claim | Kept | Pending:
        # First without the lock, since many may look on while one refreshes.
        for lock in (False, True):
            with self._database.begin() as transaction:
                row, state, moment = self._look(transaction, connection, lock=lock)
                if row.version != version:
                    break
                _refuse_one_not_to_be_refreshed(row, force)
                is_abandoned = bool(state["claim"]) and _is_over(state, moment)
                pending = None if is_abandoned else _pending(state, moment, force)
                if pending is not None:
                    return pending
                if lock:
                    state |= _signature() | {"claimed_until": moment + seconds}
                    state["doubtful"] = state["doubtful"] or is_abandoned
                    _keep(transaction, connection, state)
        else:
            return self._claimed(row, state)
        return self.read(connection)

    def _claimed(self, row: Any, state: dict[str, Any]) -> Claim:
        told = {"attempts": state["attempts"], "doubtful": state["doubtful"]}
        claim = Claim(row.key, state["claim"], row.version, {}, **told)
        try:
            return replace(claim, credentials=self._vault.open(row.credentials, row.key))
        except MembraneError as error:
            self.release(claim, wait=0.0, error=error.message, doubtful=claim.doubtful)
            raise

    def commit(self, claim: Claim, issued: Issued) -> Kept | None:
        sealed = self._vault.seal(issued.credentials, claim.connection)
        former = self._replaced(claim, sealed, issued.expires_in)
        with suppress(MembraneError):  # At worst, an external store keeps an entry too many.
            self._vault.forget(former or sealed, claim.connection)
        if former is None:
            return None
        return Kept(claim.version + 1, issued.credentials, issued.expires_in, issued.expires_in)

    def _replaced(self, claim: Claim, sealed: str, lifetime: float | None) -> str | None:
        """What was there before; None if it's there yet, since the claim stands no more."""
        with self._database.begin() as transaction:
            row, state, moment = self._look(transaction, claim.connection, lock=True)
            if row.version != claim.version or state["claim"] != claim.id:
                return None
            values = {
                "credentials": sealed,
                "version": claim.version + 1,
                "expires_at": None if lifetime is None else moment + lifetime,
            }
            if row.status == "reconnect_needed":
                values |= {"status": "ready", "reason": "", "refusals": 0}
                make_due(transaction, claim.connection)
            self._update(transaction, claim.connection, values)
            fresh = _IDLE | {"version": claim.version + 1, "lifetime": lifetime}
            _keep(transaction, claim.connection, fresh)
        return str(row.credentials)

    def release(self, claim: Claim, *, wait: float, error: str, doubtful: bool) -> None:
        with self._database.begin() as transaction:
            values: dict[str, Any] = {
                "claim": "",
                "attempts": claim.attempts + 1,
                "next_at": now(transaction) + wait,
                "error": error[:LONGEST_TEXT],
                "doubtful": doubtful,
            }
            mine = refreshes.c.connection == claim.connection, refreshes.c.claim == claim.id
            transaction.execute(sa.update(refreshes).where(*mine).values(values))

    def revoke(self, connection: str, version: int, reason: str) -> bool:
        with self._database.begin() as transaction:
            row, _, _ = self._look(transaction, connection, lock=True)
            if row.version != version or row.status != "ready":
                return False
            self._update(transaction, connection, _to_be_connected_anew(reason))
        return True

    def refuse(self, connection: str, version: int, reason: str) -> bool:
        with self._database.begin() as transaction:
            row, _, moment = self._look(transaction, connection, lock=True)
            is_counted = row.refusals and moment < (row.refused_at or 0.0) + REFUSAL_SECONDS
            if row.version != version or row.status != "ready" or is_counted:
                return False
            refusals = row.refusals + 1
            values: dict[str, Any] = {"refusals": refusals, "refused_at": moment}
            if refusals >= MOST_REFUSALS:
                said = f"the app refused the credentials {refusals} times in a row: {reason}"
                values |= _to_be_connected_anew(said)
            self._update(transaction, connection, values)
        return bool(refusals >= MOST_REFUSALS)

    def accept(self, connection: str) -> None:
        with self._database.begin() as transaction:
            self._update(transaction, connection, {"refusals": 0})

    def _read(self, connection: str) -> tuple[Any, dict[str, Any], float]:
        with self._database.begin() as transaction:
            return self._look(transaction, connection)

    def _look(
        self, transaction: sa.Connection, connection: str, *, lock: bool = False
    ) -> tuple[Any, dict[str, Any], float]:
        """The connection, its refresh and the ledger's time, by one query, since many ask."""
        if lock:
            # By itself: of what is joined to a locked row, PostgreSQL gives what was there before.
            locked = (
                sa.select(connections.c.key)
                .where(connections.c.key == connection)
                .with_for_update()
            )
            transaction.execute(locked)
        joined = connections.outerjoin(refreshes, refreshes.c.connection == connections.c.key)
        names = {column: column.label(f"refresh_{column.name}") for column in refreshes.columns}
        query = sa.select(connections, *names.values(), clock(transaction).label("moment"))
        query = query.select_from(joined).where(connections.c.key == connection)
        row = transaction.execute(query).one_or_none()
        if row is None:
            raise NotConnected(
                f"there is no connection {connection!r} any more",
                hint="see `membrane status` for those there are, or make it: membrane connect",
            )
        return row, _state(row), float(row.moment)

    def _update(self, transaction: sa.Connection, connection: str, values: dict[str, Any]) -> None:
        here = connections.c.key == connection
        transaction.execute(sa.update(connections).where(here).values(values))

    def _kept(self, row: Any, state: dict[str, Any], moment: float) -> Kept:
        credentials = self._vault.open(row.credentials, row.key)
        if row.expires_at is None:
            return Kept(row.version, credentials)
        lifetime, connected_at = state["lifetime"], aware(row.connected_at)
        if lifetime is None and connected_at is not None:
            # Not refreshed yet: they were issued when it was connected.
            lifetime = row.expires_at - connected_at.timestamp()
        return Kept(row.version, credentials, row.expires_at - moment, lifetime)


def _state(row: Any) -> dict[str, Any]:
    """The refresh of the version that the connection has now; an earlier one's doesn't matter."""
    if row.refresh_version != row.version:
        return _IDLE | {"version": row.version}
    return {name: getattr(row, f"refresh_{name}") for name in ("version", *_IDLE)}


def _keep(transaction: sa.Connection, connection: str, state: dict[str, Any]) -> None:
    here = refreshes.c.connection == connection
    if not transaction.execute(sa.update(refreshes).where(here).values(state)).rowcount:
        transaction.execute(sa.insert(refreshes).values(connection=connection, **state))


def _refuse_one_not_to_be_refreshed(row: Any, force: bool) -> None:
    if row.status == "reconnect_needed" and not force:
        raise Defunct(
            f"connection {row.key!r} has to be connected again: {row.reason}",
            hint=f"membrane connect {row.integration} --tenant {row.tenant} --key {row.key}",
        )
    if row.status == "archived":
        raise NotReady(
            f"connection {row.key!r} is archived: its credentials are gone",
            hint=f"connect it again: membrane connect {row.integration} --tenant {row.tenant} "
            f"--key {row.key}",
        )


def _is_over(state: dict[str, Any], moment: float) -> bool:
    """Whether the claim ran out, or whoever had it is dead."""
    return moment >= state["claimed_until"] or is_dead(state["process"], state["machine"])


def _pending(state: dict[str, Any], moment: float, force: bool) -> Pending | None:
    """What keeps others from a claim now: the one that stands, or a pause after a failure."""
    if state["claim"]:
        return Pending(state["claimed_until"] - moment)
    if moment < state["next_at"] and not force:
        return Pending(state["next_at"] - moment, state["error"])
    return None


def _to_be_connected_anew(reason: str) -> dict[str, Any]:
    return {"status": "reconnect_needed", "reason": reason[:LONGEST_TEXT]}


def _signature() -> dict[str, Any]:
    return {"claim": uuid.uuid4().hex, "process": os.getpid(), "machine": machine()}
