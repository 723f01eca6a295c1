"""How requests are signed at this moment: the auth flow for the credentials as they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Any

import httpx

from membrane_sync.clients.words import Words
from membrane_sync.ports import ConnectionRecord, Kept, LiveCredentials


@dataclass(frozen=True)
class Signed:
    """One version of the credentials, as requests use it."""

    version: int
    auth: httpx.Auth | None
    words: Words


class Signer:
    """Makes the auth flow anew when there are other credentials; raises what they raise.

    `secrets` are others that no message may hold.
    """

    def __init__(
        self,
        app: str,
        connection: ConnectionRecord,
        live: LiveCredentials | None,
        flow: Callable[[Mapping[str, Any]], httpx.Auth | None],
        secrets: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        kept = Kept(connection.version, connection.credentials)
        self.live: LiveCredentials = Given(kept) if live is None else live
        self._app = app
        self._flow = flow
        self._lock = Lock()
        self._credentials = kept.credentials
        self._others = {"others": secrets}
        words = Words(app, self._others | {"now": kept.credentials})
        self._signed = Signed(kept.version, flow(kept.credentials), words)

    @property
    def words(self) -> Words:
        """Hides the secrets of this version and of the one before."""
        return self._signed.words

    def now(self) -> Signed:
        """How to sign the next request."""
        kept = self.live.current()
        if kept.version != self._signed.version:
            with self._lock:
                if kept.version > self._signed.version:
                    self._take(kept)
        return self._signed

    def _take(self, kept: Kept) -> None:
        # The app may yet quote the former ones, in answers to requests that are under way.
        both = {"now": kept.credentials, "before": self._credentials}
        words = Words(self._app, self._others | both)
        self._signed = Signed(kept.version, self._flow(kept.credentials), words)
        self._credentials = kept.credentials


class Given:
    """Credentials that stay as they are; implements `ports.LiveCredentials`."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def current(self) -> Kept:
        return self._kept

    def refresh(self, used: int) -> bool:
        return used != self._kept.version

    def accepted(self) -> None:
        """Nothing is noted of them."""

    def refused(self, used: int, reason: str) -> None:
        """Nothing is noted of them."""

    def revoked(self, used: int, reason: str) -> None:
        """Nothing is noted of them."""
