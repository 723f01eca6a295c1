"""Connection requests in the ledger's database; what is secret of them is sealed, or a hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from membrane_sync.errors import MembraneError
from membrane_sync.ports import ConnectionRequest, RequestStatus, Vault
from membrane_sync.stores.ledger.database import LedgerDatabase, metadata
from membrane_sync.stores.ledger.sealed import sealed_column
from membrane_sync.stores.sql_insert import inserting

KEPT_SECONDS = 7 * 86_400.0
"""How long a request can be asked about after it expired."""

_requests = sa.Table(
    "membrane_connection_requests",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(255), nullable=False),
    sa.Column("integration", sa.String(100), nullable=False),
    sa.Column("connection", sa.String(100), nullable=False),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    # Sealed: a schema may say that a field of it is secret.
    sealed_column("input", "connection-request:{id}/input"),
    sa.Column("option", sa.String(100), nullable=False),
    sa.Column("redirect_uri", sa.Text, nullable=False),
    sa.Column("custom_state", sa.Text, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("error", sa.String(100), nullable=False),
    sa.Column("browser", sa.String(64), nullable=False),
    sa.Column("origin", sa.String(255), nullable=False),
    # While the user is at the app: a hash of the state, and sealed what `finish` needs.
    sa.Column("state_hash", sa.String(64), unique=True),
    sa.Column("state_until", sa.Double, nullable=False, server_default="0"),
    sealed_column("kept", "connection-request:{id}/kept", server_default=""),
    # While an attempt is under way.
    sa.Column("busy_until", sa.Double, nullable=False, server_default="0"),
)

_attempts = sa.Table(
    "membrane_connection_attempts",
    metadata,
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("period", sa.BigInteger, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)

_AWAY = {"state_hash": None, "state_until": 0.0, "kept": ""}
"""The values by which nobody is at the app."""
_OVER = {"busy_until": 0.0, "input": "", **_AWAY}
"""What is left of a request that has ended."""


class SqlConnectionRequests:
    """Implements `ports.ConnectionRequests` through SQLAlchemy."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def add(self, request: ConnectionRequest) -> None:
        values = {name: getattr(request, name) for name in _STORED}
        values["input"] = self._sealed(request.input, _owner(request.id, "input"))
        old = _requests.c.expires_at < request.created_at - KEPT_SECONDS
        with self._database.begin() as transaction:
            gone = transaction.execute(sa.select(_requests).where(old)).all()
            transaction.execute(sa.delete(_requests).where(old))
            transaction.execute(sa.insert(_requests).values(**values, **_AWAY))
        self._forget(gone, ("input", "kept"))

    def find(self, id: str) -> ConnectionRequest | None:
        return self._find(_requests.c.id == id)

    def find_by_token(self, token_hash: str) -> ConnectionRequest | None:
        return self._find(_requests.c.token_hash == token_hash)

    def opened_by(self, id: str, origin: str) -> None:
        self._update(_requests.c.id == id, origin=origin)

    def claim(self, id: str, browser: str, now: float, seconds: float) -> bool:
        free = sa.and_(_pending(id), _requests.c.busy_until < now, _requests.c.expires_at > now)
        return self._update(free, browser=browser, busy_until=now + seconds, **_AWAY)

    def release(self, id: str, error: str = "") -> None:
        self._update(_pending(id), busy_until=0.0, error=error, **_AWAY)

    def send_off(self, id: str, state_hash: str, until: float, kept: Mapping[str, Any]) -> None:
        sealed = self._sealed(kept, _owner(id, "kept"))
        away = {"state_hash": state_hash, "state_until": until, "kept": sealed}
        self._update(_pending(id), busy_until=0.0, error="", **away)

    def show_code(self, id: str, until: float, kept: Mapping[str, Any]) -> None:
        self.send_off(id, _code_state(id), until, kept)

    def waiting(self, id: str, browser: str, now: float) -> Mapping[str, Any] | None:
        mine = sa.and_(_pending(id), _requests.c.browser == browser)
        code = sa.and_(_requests.c.state_hash == _code_state(id), _requests.c.state_until > now)
        query = sa.select(_requests.c.kept).where(mine, code)
        with self._database.begin() as transaction:
            sealed = transaction.execute(query).scalar_one_or_none()
        return None if sealed is None else self._opened(sealed, _owner(id, "kept"))

    def look(self, id: str, now: float, seconds: float) -> bool:
        idle = sa.and_(_pending(id), _requests.c.busy_until < now)
        code = _requests.c.state_hash == _code_state(id)
        return self._update(sa.and_(idle, code), busy_until=now + seconds)

    def take_back(
        self, state_hash: str, browser: str, now: float, seconds: float
    ) -> tuple[ConnectionRequest, Mapping[str, Any]] | None:
        mine = sa.and_(_requests.c.state_hash == state_hash, _requests.c.browser == browser)
        here = sa.and_(mine, _requests.c.state_until > now, _requests.c.status == "pending")
        query = sa.select(_requests).where(here).with_for_update()
        with self._database.begin() as transaction:
            row = transaction.execute(query).one_or_none()
            if row is None:
                return None
            attempt = sa.update(_requests).where(here)
            transaction.execute(attempt.values(busy_until=now + seconds, **_AWAY))
        kept = self._opened(row.kept, _owner(row.id, "kept"))
        self._forget([row], ["kept"])
        return self._request(row), kept

    def revoke(self, id: str, now: float) -> bool:
        idle = sa.and_(_pending(id), _requests.c.busy_until < now)
        return self._update(idle, status="cancelled", error="revoked", **_OVER)

    def settle(self, id: str, status: RequestStatus, error: str = "") -> bool:
        return self._update(_pending(id), status=status, error=error, **_OVER)

    def attempts(self, subject: str, period: int) -> int:
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(_attempts).where(_attempts.c.period < period - 1))
            one = inserting(transaction)(_attempts).values(subject=subject, period=period, count=1)
            more = one.on_conflict_do_update(
                index_elements=["subject", "period"], set_={"count": _attempts.c.count + 1}
            )
            return int(transaction.execute(more.returning(_attempts.c.count)).scalar_one())

    def _find(self, here: sa.ColumnElement[bool]) -> ConnectionRequest | None:
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(_requests).where(here)).one_or_none()
        return self._request(row) if row is not None else None

    def _request(self, row: Any) -> ConnectionRequest:
        values = {name: getattr(row, name) for name in _STORED}
        input = self._opened(row.input, _owner(row.id, "input"))
        away = {"away_until": row.state_until, "enters_code": row.state_hash == _code_state(row.id)}
        return ConnectionRequest(**values, input=input, **away)

    def _sealed(self, secrets: Mapping[str, Any], owner: str) -> str:
        return self._vault.seal(secrets, owner) if secrets else ""

    def _opened(self, sealed: str, owner: str) -> dict[str, Any]:
        return self._vault.open(sealed, owner) if sealed else {}

    def _update(self, here: sa.ColumnElement[bool], **values: Any) -> bool:
        with self._database.begin() as transaction:
            query = sa.select(_requests).where(here).with_for_update()
            former = transaction.execute(query).all() if "kept" in values else ()
            changed = transaction.execute(sa.update(_requests).where(here).values(**values))
        self._forget(former, values.keys() & {"input", "kept"})
        return bool(changed.rowcount)

    def _forget(self, rows: Iterable[Any], names: Iterable[str]) -> None:
        """Let an external store, if there is one, delete what it has kept for these texts."""
        with suppress(MembraneError):  # At worst, the store keeps an entry too many.
            for row in rows:
                for name in names:
                    self._vault.forget(getattr(row, name), _owner(row.id, name))


_STORED = (
    "id",
    "tenant",
    "integration",
    "connection",
    "token_hash",
    "created_at",
    "expires_at",
    "name",
    "option",
    "redirect_uri",
    "custom_state",
    "status",
    "error",
    "browser",
    "origin",
)
"""Columns that are fields of a ConnectionRequest, as they are."""


def _code_state(id: str) -> str:
    """Stands for the state where a code is entered: no hash of a state has a colon."""
    return f"code:{id}"


def _pending(id: str) -> sa.ColumnElement[bool]:
    return sa.and_(_requests.c.id == id, _requests.c.status == "pending")


def _owner(id: str, column: str) -> str:
    """Whom a column's secrets are sealed for: no connection's key has a colon."""
    return f"connection-request:{id}/{column}"
