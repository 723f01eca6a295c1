"""Connection requests in the ledger's database; what is secret of them is sealed, or a hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from membrane_sync.ports import ConnectionRequest, RequestStatus, Vault
from membrane_sync.stores.sql_database import LedgerDatabase, metadata

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
    sa.Column("input", sa.JSON, nullable=False),
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
    sa.Column("kept", sa.Text, nullable=False, server_default=""),
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


class SqlConnectionRequests:
    """Implements `ports.ConnectionRequests` through SQLAlchemy."""

    def __init__(self, database: LedgerDatabase, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def add(self, request: ConnectionRequest) -> None:
        values = {name: getattr(request, name) for name in _STORED}
        old = _requests.c.expires_at < request.created_at - KEPT_SECONDS
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(_requests).where(old))
            transaction.execute(sa.insert(_requests).values(**values, **_AWAY))

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
        self._update(_pending(id), busy_until=0.0, error=error)

    def send_off(self, id: str, state_hash: str, until: float, kept: Mapping[str, Any]) -> None:
        sealed = self._vault.seal(kept, _owner(id))
        away = {"state_hash": state_hash, "state_until": until, "kept": sealed}
        self._update(_pending(id), busy_until=0.0, error="", **away)

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
        return _request(row), self._vault.open(row.kept, _owner(row.id))

    def settle(self, id: str, status: RequestStatus, error: str = "") -> bool:
        return self._update(_pending(id), status=status, error=error, busy_until=0.0, **_AWAY)

    def attempts(self, subject: str, period: int) -> int:
        with self._database.begin() as transaction:
            transaction.execute(sa.delete(_attempts).where(_attempts.c.period < period - 1))
            dialect = sqlite if transaction.dialect.name == "sqlite" else postgresql
            one = dialect.insert(_attempts).values(subject=subject, period=period, count=1)
            more = one.on_conflict_do_update(
                index_elements=["subject", "period"], set_={"count": _attempts.c.count + 1}
            )
            return int(transaction.execute(more.returning(_attempts.c.count)).scalar_one())

    def _find(self, here: sa.ColumnElement[bool]) -> ConnectionRequest | None:
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(_requests).where(here)).one_or_none()
        return _request(row) if row is not None else None

    def _update(self, here: sa.ColumnElement[bool], **values: Any) -> bool:
        with self._database.begin() as transaction:
            changed = transaction.execute(sa.update(_requests).where(here).values(**values))
            return bool(changed.rowcount)


_STORED = (
    "id",
    "tenant",
    "integration",
    "connection",
    "token_hash",
    "created_at",
    "expires_at",
    "name",
    "input",
    "option",
    "redirect_uri",
    "custom_state",
    "status",
    "error",
    "browser",
    "origin",
)
"""Columns that are fields of a ConnectionRequest."""


def _pending(id: str) -> sa.ColumnElement[bool]:
    return sa.and_(_requests.c.id == id, _requests.c.status == "pending")


def _request(row: Any) -> ConnectionRequest:
    values = {name: getattr(row, name) for name in _STORED}
    return ConnectionRequest(**values, away_until=row.state_until)


def _owner(id: str) -> str:
    """Whom the kept secrets are sealed for: no connection's key has a colon."""
    return f"connection-request:{id}"
