"""How an app gives and renews credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Issued:
    """Credentials that an app has just given out, or that were typed in.

    `expires_in` is in seconds from when they came; None where they don't end, or nobody knows when.
    """

    credentials: Mapping[str, Any] = field(repr=False)
    expires_in: float | None = None


@dataclass(frozen=True)
class Authorization:
    """An authorization that a user has to give in a browser, at `url`.

    `kept` is what `finish` needs once the user is back (the PKCE verifier, a request token): it's
    secret, and belongs to the one who began.
    """

    url: str
    kept: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class DeviceCode:
    """A code that a user types in at `verification_url`, within `expires_in` seconds."""

    user_code: str
    verification_url: str
    expires_in: float
    interval: float
    """Seconds to leave between two calls of `poll_device`."""
    complete_url: str = ""
    """The same address with the code in it, where the app gives one."""
    kept: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Authenticator(Protocol):
    """One way to authenticate, ready to get credentials for one connection's input.

    All raise NotAuthorized where the app refuses (Defunct where nothing but connecting anew helps),
    Retryable where it can't be asked now, and Fatal where the integration lacks a parameter.
    """

    @property
    def needs_browser(self) -> bool:
        """Whether the user has to go to the app's own page: `begin`, then `finish`."""
        ...

    @property
    def offers_device(self) -> bool:
        """Whether a user without a browser can be served: `begin_device`, then `poll_device`."""
        ...

    @property
    def refreshable(self) -> bool:
        """Whether `refresh` can give new credentials without the user."""
        ...

    def begin(self, redirect_uri: str, state: str, typed: Mapping[str, Any] = ...) -> Authorization:
        """Where to send the user; comes back to `redirect_uri` with the `state`.

        `typed` is what the user gave for the option's input_schema; it's kept with the credentials.
        """
        ...

    def finish(
        self, answer: Mapping[str, str], redirect_uri: str, kept: Mapping[str, Any]
    ) -> Issued:
        """The credentials, by what the user came back with: the callback's query parameters.

        Whether its `state` is the one that was sent is for the caller to check before.
        """
        ...

    def begin_device(self, typed: Mapping[str, Any] = ...) -> DeviceCode:
        """Start an authorization on a device without a browser."""
        ...

    def poll_device(self, code: DeviceCode) -> Issued | float:
        """The credentials, or the seconds until one may ask again."""
        ...

    def issue(self, typed: Mapping[str, Any]) -> Issued:
        """Credentials that take no browser: typed in, or got for it by a call (log in, grant)."""
        ...

    def refresh(self, credentials: Mapping[str, Any]) -> Issued:
        """New credentials for old ones, wholly: what doesn't change is in them, too.

        Called by one process at a time for a connection. Raises Defunct where the app says that the
        old ones are of no use any more.
        """
        ...

    def disconnect(self, credentials: Mapping[str, Any]) -> None:
        """Tell the app that they are no longer used, if it can be told."""
        ...
