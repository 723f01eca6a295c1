"""Who asks: tokens of accounts, and an OAuth server with short-lived and rotating tokens."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from membrane_sync.testing.simulator.content import mix
from membrane_sync.testing.simulator.switches import Access

CLIENT_ID, CLIENT_SECRET = "simulator-client", "simulator-secret"


class Refused(ValueError):
    """An OAuth error, by the code of RFC 6749 section 5.2."""


def token_of(account: str) -> str:
    """The token of an account that needs no OAuth; with OAuth, its first refresh token."""
    return f"token-{account}"


@dataclass
class _Issued:
    account: str
    expires: float


class Gate:
    """Knows the account that a request is of; `refreshes` and `reuses` count for tests."""

    def __init__(
        self, access: Access, seed: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.access = access
        self.refreshes = 0
        self.reuses = 0
        self._seed = seed
        self._now = now
        self._issued: dict[str, _Issued] = {}
        self._refresh = {token_of(account): account for account in access.accounts}
        self._spent: dict[str, str] = {}
        self._codes: dict[str, str] = {}
        self._made = 0

    def account(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """The account whose credentials these are; None if they are no one's."""
        if self.access.kind == "none":
            return self.access.accounts[0]
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if self.access.kind == "basic":
            return self._basic(given) if scheme.lower() == "basic" else None
        token = given if scheme.lower() == "bearer" else ""
        if self.access.kind == "oauth":
            issued = self._issued.get(token)
            return issued.account if issued and issued.expires > self._now() else None
        token = token or headers.get("x-api-key", "") or query.get("api_key", "")
        account = token.removeprefix("token-")
        return account if token == token_of(account) and account in self.access.accounts else None

    def _basic(self, given: str) -> str | None:
        try:
            account, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        known = account in self.access.accounts and password == token_of(account)
        return account if known else None

    def code(self, account: str) -> str:
        """An authorization code for an account that has said yes; raises Refused."""
        if account not in self.access.accounts:
            raise Refused("access_denied")
        code = self._new("code")
        self._codes[code] = account
        return code

    def grant(self, form: Mapping[str, str]) -> dict[str, object]:
        """The answer of `/oauth/token`; raises Refused."""
        kind = form.get("grant_type")
        if kind == "authorization_code":
            account = self._codes.pop(form.get("code", ""), None)
        elif kind == "refresh_token":
            return self._refreshed(form.get("refresh_token", ""))
        elif kind == "client_credentials":
            account = form.get("scope", self.access.accounts[0])
            account = account if account in self.access.accounts else None
        else:
            raise Refused("unsupported_grant_type")
        if account is None:
            raise Refused("invalid_grant")
        refresh = self._new("refresh")
        self._refresh[refresh] = account
        return self._tokens(account, refresh)

    def expire(self) -> None:
        """Let all access tokens expire now."""
        self._issued.clear()

    def _refreshed(self, token: str) -> dict[str, object]:
        if token in self._spent:
            self.reuses += 1
            self._revoke(self._spent[token])
            raise Refused("invalid_grant")
        account = self._refresh.get(token)
        if account is None:
            raise Refused("invalid_grant")
        self.refreshes += 1
        if not self.access.rotate:
            return self._tokens(account, token)
        del self._refresh[token]
        self._spent[token] = account
        fresh = self._new("refresh")
        self._refresh[fresh] = account
        return self._tokens(account, fresh)

    def _revoke(self, account: str) -> None:
        """A refresh token came twice: one of the two is a thief's (RFC 9700 section 4.14.2)."""
        self._refresh = {t: owner for t, owner in self._refresh.items() if owner != account}
        self._issued = {t: i for t, i in self._issued.items() if i.account != account}

    def _tokens(self, account: str, refresh: str) -> dict[str, object]:
        token = self._new("access")
        self._issued[token] = _Issued(account, self._now() + self.access.token_seconds)
        seconds = int(self.access.token_seconds)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": seconds}
        return {**answer, "refresh_token": refresh}

    def _new(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{mix(self._seed, self._made, len(kind)):08x}-{self._made}"
