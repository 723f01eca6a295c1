"""Connections, and the requests by which customers make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

ConnectionStatus = Literal["ready", "paused", "reconnect_needed", "archived"]
"""Whether a connection's syncs run; only a `ready` one's do.

`paused` by a person, `reconnect_needed` since its credentials are of no use any more, `archived`
when it was disconnected: then its credentials are gone, and its key stays taken.
"""


@dataclass(frozen=True)
class ConnectionRecord:
    """A connection as the ledger knows it; `credentials` are decrypted and never shown.

    `option` is the key of the connector's authentication option, empty for the connector's only
    one; `reason` says in words why the status isn't `ready`. `version` rises with each change of
    the credentials, `expires_at` is when they end, in seconds since 1970. `refusals` is how often
    in a row the app has refused these credentials, as far as the connection was tried. The
    `secret_fields` of the input are kept like credentials, and only given with them. `account` is
    what the app calls the account, where the connector can tell.
    """

    key: str
    integration: str
    tenant: str
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connected_at: datetime | None = None
    option: str = ""
    status: ConnectionStatus = "ready"
    reason: str = ""
    version: int = 0
    expires_at: float | None = None
    refusals: int = 0
    secret_fields: Sequence[str] = ()
    account: str = ""

    @property
    def plain_input(self) -> dict[str, Any]:
        """The input that may be shown."""
        return {n: value for n, value in self.input.items() if n not in self.secret_fields}

    @property
    def secrets(self) -> dict[str, Any]:
        """All that must not be shown, the credentials included."""
        hidden = {n: value for n, value in self.input.items() if n in self.secret_fields}
        return {"credentials": dict(self.credentials), "input": hidden}


RequestStatus = Literal["pending", "success", "cancelled", "error"]


@dataclass(frozen=True)
class ConnectionRequest:
    """A product's request that a tenant connects an account; moments are seconds since 1970.

    `connection` is the key that the account gets, or has already. Whoever has the link may answer
    it; only a hash of what is secret in the link is kept. `error` is a stable word for what went
    wrong last. `browser` tells the browser that answers it, `origin` the page that opened the link
    as a popup.
    """

    id: str
    tenant: str
    integration: str
    connection: str
    token_hash: str = field(repr=False)
    created_at: float
    expires_at: float
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    option: str = ""
    redirect_uri: str = ""
    custom_state: str = ""
    status: RequestStatus = "pending"
    error: str = ""
    browser: str = ""
    origin: str = ""
    away_until: float = 0.0
    """The user was sent to the app's own page, and has until then to come back; 0 if not."""
    enters_code: bool = False
    """What the user is away for is to enter a code: nobody is sent back by the app."""


class ConnectionRequests(Protocol):
    """Requests to connect an account, and what is on its way of them."""

    def add(self, request: ConnectionRequest) -> None:
        """Keep a new one; those that ended long ago are forgotten."""
        ...

    def find(self, id: str) -> ConnectionRequest | None:
        """The request of this id."""
        ...

    def find_by_token(self, token_hash: str) -> ConnectionRequest | None:
        """The request that a link belongs to."""
        ...

    def opened_by(self, id: str, origin: str) -> None:
        """Note which page opened the link as a popup."""
        ...

    def claim(self, id: str, browser: str, now: float, seconds: float) -> bool:
        """Begin an attempt, if the request is pending and no other attempt is under way."""
        ...

    def release(self, id: str, error: str = "") -> None:
        """End an attempt that came to nothing."""
        ...

    def send_off(self, id: str, state_hash: str, until: float, kept: Mapping[str, Any]) -> None:
        """The user goes to the app, to be back `until` then with the state; ends the attempt."""
        ...

    def show_code(self, id: str, until: float, kept: Mapping[str, Any]) -> None:
        """The user has until then to enter a code at the app; ends the attempt."""
        ...

    def waiting(self, id: str, browser: str, now: float) -> Mapping[str, Any] | None:
        """What was kept for a code that isn't overdue, and shown to this browser; it stays kept."""
        ...

    def look(self, id: str, now: float, seconds: float) -> bool:
        """As `claim`, but what is kept for a code stays."""
        ...

    def take_back(
        self, state_hash: str, browser: str, now: float, seconds: float
    ) -> tuple[ConnectionRequest, Mapping[str, Any]] | None:
        """Whose state this is, and what was kept for it; begins an attempt.

        Each state is given out once, to the browser that was sent off with it; none that's
        overdue, or of a request that has ended.
        """
        ...

    def revoke(self, id: str, now: float) -> bool:
        """End the request for good, unless it has ended or an attempt is under way."""
        ...

    def settle(self, id: str, status: RequestStatus, error: str = "") -> bool:
        """End the request; False if it was ended before."""
        ...

    def attempts(self, subject: str, period: int) -> int:
        """Count one more attempt of the subject in a period of time, and say how many there are."""
        ...
