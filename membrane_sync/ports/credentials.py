"""Credentials while they're in use, and where they're kept sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from membrane_sync.ports.authenticator import Issued


@dataclass(frozen=True)
class Kept:
    """Credentials as they are kept, and how long they'll live by the ledger's clock.

    `seconds_left` is counted from when they were read, `lifetime` from when they were issued; both
    are None where the credentials don't end, or nobody knows when.
    """

    version: int
    credentials: Mapping[str, Any] = field(repr=False)
    seconds_left: float | None = None
    lifetime: float | None = None


@dataclass(frozen=True)
class Claim:
    """The right to refresh one version of a connection's credentials, which nobody else has now.

    `attempts` counts refreshes that failed in a row. It's `doubtful` where an earlier one may have
    been answered by the app without anyone having stored the answer.
    """

    connection: str
    id: str
    version: int
    credentials: Mapping[str, Any] = field(repr=False)
    attempts: int = 0
    doubtful: bool = False


@dataclass(frozen=True)
class Pending:
    """No claim is to be had before so many seconds: another process has it, or the app is down.

    `error` says how the last refresh failed; empty while one is going on.
    """

    seconds: float
    error: str = ""


class CredentialStore(Protocol):
    """Credentials that are refreshed by one process at a time, whichever needs them first."""

    def read(self, connection: str) -> Kept:
        """The newest credentials; raises NotConnected or SecretError."""
        ...

    def claim(
        self, connection: str, version: int, seconds: float, *, force: bool = False
    ) -> Claim | Kept | Pending:
        """Claim the refresh of a version for so many seconds; gives newer ones if there are any.

        A claim that ran out, or whose process is dead, is taken over. Raises Defunct where the
        connection needs to be connected anew; with `force`, it's tried all the same, and no pause
        after failures is kept to.
        """
        ...

    def commit(self, claim: Claim, issued: Issued) -> Kept | None:
        """Store new credentials under the next version; None if the claim stands no more.

        A connection that had to be connected anew is ready again.
        """
        ...

    def release(self, claim: Claim, *, wait: float, error: str, doubtful: bool) -> None:
        """Give a claim back after a failure; nobody gets the next one before `wait` seconds."""
        ...

    def revoke(self, connection: str, version: int, reason: str) -> bool:
        """Mark a ready connection as to be connected anew, if it has this version yet."""
        ...

    def refuse(self, connection: str, version: int, reason: str) -> bool:
        """Count that the app refused this version; those that come close together count as one.

        After several in a row the connection is marked as to be connected anew: then it's True.
        """
        ...

    def accept(self, connection: str) -> None:
        """Note that the app takes the credentials: those it refused before don't count."""
        ...


class LiveCredentials(Protocol):
    """A connection's credentials as they are now, for many threads and requests."""

    def current(self) -> Kept:
        """Credentials to send a request with, refreshed if they are about to end.

        Raises Defunct, or Retryable where they have ended and can't be refreshed now.
        """
        ...

    def refresh(self, used: int) -> bool:
        """See to it that there are others than those of version `used`, which the app refused.

        False if there are none and can be none. Raises Defunct or Retryable.
        """
        ...

    def accepted(self) -> None:
        """The app took them."""
        ...

    def refused(self, used: int, reason: str) -> None:
        """The app refused this version, and no refresh helped."""
        ...

    def revoked(self, used: int, reason: str) -> None:
        """The app said that nothing but connecting anew helps."""
        ...


class Vault(Protocol):
    """Keeps secrets unreadable at rest."""

    @property
    def newest(self) -> str:
        """The name of the key that seals now."""
        ...

    @property
    def known(self) -> Sequence[str]:
        """The names of all keys at hand, the newest first."""
        ...

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        """Encrypt; the text can only be opened for the same owner."""
        ...

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        """Decrypt; raises SecretError for a key that isn't at hand, and for another owner."""
        ...

    def key_of(self, sealed: str) -> str:
        """The name of the key that a text was sealed with; `?` if no vault of ours has."""
        ...

    def forget(self, sealed: str, owner: str) -> None:
        """Let go of what is kept elsewhere for a text that nobody needs any more."""
        ...


class SecretStore(Protocol):
    """A store of secrets outside: the setting `vault` names one.

    An `owner`'s `entry` is written once and never changes. Raises Retryable where the store can't
    be reached, and SecretError where it refuses.
    """

    def put(self, owner: str, entry: str, secrets: Mapping[str, Any]) -> None:
        """Keep an entry."""
        ...

    def get(self, owner: str, entry: str) -> Mapping[str, Any] | None:
        """What was kept; None if there's no such entry."""
        ...

    def delete(self, owner: str, entry: str) -> None:
        """Forget an entry, whether it's there or not."""
        ...
