"""What apps are asked to tell of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

SubscriptionStatus = Literal["subscribed", "unsubscribed", "error"]


@dataclass(frozen=True)
class Subscription:
    """Whom an app tells of events: one for each distinct configuration of a connection.

    `config` says what for. Of kind `record` it has `collection`, `parameters`, `stream` and
    `change`: a key of the collection's `events`. Of kind `external`, `event` and `parameters`.
    `identity` is the same for what one subscription serves; a connection has one of each. `state`
    is what the app gave when it was subscribed to, and may be secret; so is `secret`, which signs
    its webhooks. `selector` is by which a global webhook finds it. `refresh_at` is when something
    is to be done about it. `given` are the secrets that the app made up, the newest first, of which
    it signs by any; it may give one until `secret_until`, None if it's not asked to.
    """

    key: str
    connection: str
    tenant: str
    config: Mapping[str, Any]
    status: SubscriptionStatus = "unsubscribed"
    global_webhook: str = ""
    selector: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    secret: str = ""
    refresh_at: float | None = None
    attempts: int = 0
    error: str = ""
    identity: str = ""
    given: Sequence[str] = ()
    secret_until: float | None = None

    @property
    def secrets(self) -> Sequence[str]:
        """What its webhooks may be signed by, the newest first."""
        return self.given or [self.secret]


class Subscriptions(Protocol):
    """All subscriptions of the ledger; what is secret in them is sealed."""

    def get(self, key: str) -> Subscription | None:
        """One by its key, which nobody can guess."""
        ...

    def of_keys(self, keys: Sequence[str]) -> Sequence[Subscription]:
        """Those of the keys that there are, at once."""
        ...

    def matching(
        self, global_webhook: str, selectors: Sequence[str]
    ) -> Mapping[str, Sequence[Subscription]]:
        """The subscriptions of every tenant that a global webhook's selectors mean, by selector."""
        ...

    def of_connection(self, connection: str) -> Sequence[Subscription]:
        """All that a connection has."""
        ...

    def add(self, subscription: Subscription) -> Subscription:
        """Keep a new one, unless the connection has one of its identity; gives what is there."""
        ...

    def keep(self, subscription: Subscription) -> None:
        """Keep it in the place of the one with its key, but for what the app gave of secrets."""
        ...

    def expect_secret(self, key: str, seconds: float | None) -> None:
        """Let the app give a secret, once, for so long from now on; None for no more."""
        ...

    def take_secret(self, key: str, secret: str) -> bool:
        """Keep the secret that an app gave; False, and nothing is kept, if none is expected.

        What it gave before is good for some minutes yet.
        """
        ...

    def drop(self, key: str) -> None:
        """Forget it."""
        ...


class Checkups(Protocol):
    """Whose subscriptions are to be looked at; each connection by one process at a time."""

    def expect(self, version: str) -> None:
        """Have all connections looked at that weren't under this version of the project."""
        ...

    def claim(self, version: str, most: int, seconds: float) -> Mapping[str, str]:
        """Claim connections that are due: their keys, each with the name of its claim.

        It costs the same however many aren't due.
        """
        ...

    def claim_one(self, connection: str, version: str, seconds: float) -> str | None:
        """Claim this one, due or not; None while someone else has it."""
        ...

    def renew(self, connection: str, claim: str, seconds: float) -> bool:
        """Keep the claim for so long from now on; False if it isn't ours any more."""
        ...

    def settle(self, connection: str, claim: str, due_at: float | None) -> None:
        """Let go; it's due again then, or at once if something about it changed meanwhile."""
        ...
