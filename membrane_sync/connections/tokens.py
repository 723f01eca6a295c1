"""Tokens that never race: refreshed before they end, or when the app refuses them, by one for all.

Whoever refreshes claims it in the ledger first, asks the app, and stores what it gave under the
next version; all others wait and take that. So a refresh token that may be used once is used once.
If the one with the claim dies, nobody knows whether the app had answered; then the next one tries
once more, at once, since many apps take the old token for a short while yet. One that doesn't says
so, and the connection has to be connected again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock

from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    Fatal,
    MembraneError,
    RateLimited,
    Retryable,
)
from membrane_sync.ports import (
    Authenticator,
    Claim,
    ConnectionRecord,
    CredentialStore,
    Issued,
    Kept,
    Pending,
)

EARLY_SECONDS = 30.0
EARLY_SHARE = 0.1
"""Credentials with less of their life left are refreshed, so that no request meets their end."""

SPARE_SECONDS = 2.0
"""Credentials that end sooner aren't sent, since they could end on the way."""

CLAIM_SECONDS = 180.0
"""More than an app takes to answer. One that's dead on another machine is taken over after it."""

PATIENCE_SECONDS = 60.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two looks at what another process does."""

AGAIN_SECONDS = 1.0
"""Between two looks while another process refreshes credentials that still work."""

LONGEST_BACK_OFF = 300.0

CUT_OFF = (
    "; an earlier refresh was cut off, so that the app may have given out new credentials which "
    "nobody received"
)


@dataclass(frozen=True)
class _Held:
    """What this process has at hand; moments are of its own steady clock."""

    kept: Kept
    ends_at: float = -math.inf
    """From when on it isn't sent any more, being too close to its end."""
    look_at: float = -math.inf
    """Up to when it's used without a thought."""


class Tokens:
    """Implements `ports.LiveCredentials` for one connection.

    `authenticator` is called when something is to be refreshed, and not before.
    """

    def __init__(
        self,
        connection: ConnectionRecord,
        store: CredentialStore,
        authenticator: Callable[[], Authenticator],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key = connection.key
        self._store = store
        self._make = authenticator
        self._made: Authenticator | None = None
        self._clock, self._sleep = clock, sleep
        self._refusals = connection.refusals
        self._lock = Lock()
        kept = Kept(connection.version, connection.credentials)
        # Where they end, the ledger is asked first how long they'll live: its clock counts.
        self._held = _Held(kept) if connection.expires_at is not None else _for_ever(kept)

    def current(self) -> Kept:
        held = self._held
        if self._clock() < held.look_at:
            return held.kept
        # While they still work, one thread is enough to look after them.
        if not self._lock.acquire(blocking=not self._is_alive(held)):
            return held.kept
        try:
            if self._clock() >= self._held.look_at:
                self._look_after()
            return self._held.kept
        finally:
            self._lock.release()

    def refresh(self, used: int) -> bool:
        with self._lock:
            if self._held.kept.version != used:
                return True
            if self._authenticator().refreshable:
                self._obtain(used)
                return True
            # They may have been typed in anew.
            return self._take(self._store.read(self._key)).version != used

    def renew(self) -> None:
        """Refresh now, whether it's needed or not; raises Fatal where it can't be done."""
        with self._lock:
            if not self._authenticator().refreshable:
                raise Fatal(
                    f"the credentials of {self._key!r} can't be refreshed: the app gave nothing to "
                    "do so with",
                    hint="for new ones, connect again: membrane connect",
                )
            self._obtain(self._held.kept.version, force=True)

    def accepted(self) -> None:
        if self._refusals:
            self._refusals = 0
            with suppress(AppUnavailable):
                self._store.accept(self._key)

    def refused(self, used: int, reason: str) -> None:
        self._refusals += 1
        with suppress(AppUnavailable):
            self._store.refuse(self._key, used, reason)

    def revoked(self, used: int, reason: str) -> None:
        with suppress(AppUnavailable):
            self._store.revoke(self._key, used, reason)

    def _look_after(self) -> None:
        """Make sure of credentials to send: the ledger's, or new ones."""
        if self._held.ends_at == -math.inf:
            self._take(self._store.read(self._key))
            if self._clock() < self._held.look_at:
                return
        if not self._authenticator().refreshable:
            self._held = _for_ever(self._held.kept)
        elif self._is_alive(self._held):
            self._refresh_early()
        else:
            self._obtain(self._held.kept.version)

    def _refresh_early(self) -> None:
        """One try, which nobody has to wait for, and no error: what we have still works."""
        held, pause = self._held, AGAIN_SECONDS
        try:
            pending = self._try(held.kept.version, early=True)
        except Retryable:
            pass
        except Defunct:
            pause = math.inf
        else:
            if pending is None:
                return
            pause = max(pending.seconds, pause) if pending.error else pause
        self._held = _Held(held.kept, held.ends_at, min(self._clock() + pause, held.ends_at))

    def _obtain(self, used: int, *, force: bool = False) -> None:
        """Others than the used ones, for which it waits; raises Retryable where it takes long."""
        deadline, pause = self._clock() + PATIENCE_SECONDS, SHORTEST_PAUSE
        while (pending := self._try(used, force=force)) is not None:
            left = deadline - self._clock()
            if left <= 0 or (pending.error and pending.seconds > left):
                raise self._too_long(pending)
            self._sleep(min(pending.seconds, left) if pending.error else pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _try(self, used: int, *, force: bool = False, early: bool = False) -> Pending | None:
        """Refresh them, or take those that another process got; gives what is in the way.

        What is of no use any more is marked so, but not `early`, while it still works.
        """
        asked = self._clock()
        found = self._store.claim(self._key, used, CLAIM_SECONDS, force=force)
        if isinstance(found, Claim):
            self._make_sure_of_time(found, asked)
            kept = self._refreshed(found, early=early)
            if kept is None:
                # Connected anew meanwhile, or taken over: what others have got is what counts.
                return Pending(SHORTEST_PAUSE)
            found = kept
        if isinstance(found, Kept):
            self._take(found)
            return None
        return found

    def _make_sure_of_time(self, claim: Claim, asked: float) -> None:
        """Not if this process was frozen: another one may have the claim by the app's answer."""
        if self._clock() - asked > CLAIM_SECONDS / 2:
            self._store.release(claim, wait=0.0, error="", doubtful=claim.doubtful)
            raise AppUnavailable(
                f"this process stood still while it was about to refresh {self._key!r}",
                hint="nothing is lost; it's tried again",
            )

    def _refreshed(self, claim: Claim, *, early: bool) -> Kept | None:
        """Ask the app, and store what it gives; None if the claim stood no more."""
        try:
            issued = self._authenticator().refresh(claim.credentials)
        except Defunct as error:
            raise self._dead(claim, error, early=early) from None
        except BaseException as error:
            wait = _back_off(claim.attempts, error)
            doubtful = claim.doubtful or not _is_definite(error)
            self._store.release(claim, wait=wait, error=_said(error), doubtful=doubtful)
            raise
        if issued.expires_in is not None and issued.expires_in <= 0:
            # Some apps say 0 where they mean that nobody knows.
            issued = replace(issued, expires_in=None)
        return self._committed(claim, issued)

    def _committed(self, claim: Claim, issued: Issued) -> Kept | None:
        """Stored, though the ledger may be away for a while: it's the only copy there is."""
        deadline = self._clock() + CLAIM_SECONDS / 2
        while True:
            try:
                return self._store.commit(claim, issued)
            except Retryable:
                if self._clock() >= deadline:
                    raise
                self._sleep(LONGEST_PAUSE)

    def _dead(self, claim: Claim, error: Defunct, *, early: bool) -> Defunct:
        """Mark the connection, unless it was connected anew meanwhile; gives the error to raise."""
        reason = error.message + (CUT_OFF if claim.doubtful else "")
        if not early:
            self._store.revoke(self._key, claim.version, reason)
        self._store.release(claim, wait=0.0, error=reason, doubtful=claim.doubtful)
        return Defunct(reason, hint=error.hint or f"connect {self._key!r} again: membrane connect")

    def _take(self, kept: Kept) -> Kept:
        """From now on these are used, in all threads."""
        if kept.seconds_left is None:
            self._held = _for_ever(kept)
            return kept
        life = max(kept.seconds_left if kept.lifetime is None else kept.lifetime, 0.0)
        end = self._clock() + kept.seconds_left
        early = min(max(EARLY_SECONDS, life * EARLY_SHARE), life / 2)
        self._held = _Held(kept, end - min(SPARE_SECONDS, life / 4), end - early)
        return kept

    def _is_alive(self, held: _Held) -> bool:
        return self._clock() < held.ends_at

    def _too_long(self, pending: Pending) -> AppUnavailable:
        if pending.error:
            why = f"the last try failed: {pending.error}"
        else:
            why = f"another process has been at it for more than {PATIENCE_SECONDS:g} s"
        return AppUnavailable(
            f"the credentials of {self._key!r} can't be refreshed now: {why}",
            hint="nothing is lost; they're tried again later",
        )

    def _authenticator(self) -> Authenticator:
        if self._made is None:
            self._made = self._make()
        return self._made


def _for_ever(kept: Kept) -> _Held:
    return _Held(kept, math.inf, math.inf)


def _back_off(attempts: int, error: BaseException) -> float:
    """Seconds until anyone may try again: more each time, and as long as the app asks for."""
    asked = error.retry_after if isinstance(error, RateLimited) else None
    return max(min(2.0 ** min(attempts, 20), LONGEST_BACK_OFF), asked or 0.0)


def _is_definite(error: BaseException) -> bool:
    """Whether the app surely gave out nothing; after any other error it may have."""
    return isinstance(error, RateLimited | Fatal)


def _said(error: BaseException) -> str:
    """Without the text of an error that isn't ours, which may quote what was sent."""
    return error.message if isinstance(error, MembraneError) else type(error).__name__
