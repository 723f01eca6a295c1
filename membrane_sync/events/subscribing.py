"""Subscriptions of one connection: made when a sync needs them, renewed, and removed.

A subscription is noted before its app is asked: a webhook that comes before the app's answer finds
it, and one whose answer never came is asked about again.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from membrane_sync.elements.request import Request
from membrane_sync.errors import (
    Fatal,
    Fenced,
    MembraneError,
    RateLimited,
    Retryable,
    UnexpectedAnswer,
)
from membrane_sync.events.asking import (
    Told,
    ask,
    existing,
    is_gone,
    iso,
    refuse_gone,
    told,
    value_of,
)
from membrane_sync.events.wanted import Wanted
from membrane_sync.ports import Api, ConnectionRecord
from membrane_sync.ports.subscriptions import Subscription, Subscriptions
from membrane_sync.sync.rendering import Scope

FIRST_BACK_OFF = {True: 30.0, False: 300.0}
LONGEST_BACK_OFF = {True: 3_600.0, False: 21_600.0}
"""Seconds, for what another try may mend, and for what it won't."""

MOST_FAREWELLS = 8
"""After so many tries an app that won't take its leave is left alone."""

IN_DOUBT_SECONDS = 60.0
"""When to ask again for a subscription whose answer never came."""

SECRET_SECONDS = 120.0
"""How long an app may take to give its secret, where it makes one up."""


@dataclass
class Subscriber:
    """Brings a connection's subscriptions to what is wanted.

    `address` says where webhooks go to, and raises Fatal if the app could not reach us. `declared`
    says how a subscription that nobody wants any more was made. `hold` raises Fenced once another
    process does this work.
    """

    connection: ConnectionRecord
    subscriptions: Subscriptions
    api: Api
    address: Callable[[Wanted, str], str]
    declared: Callable[[Mapping[str, Any]], Wanted | None]
    hold: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.time

    def reconcile(self, wanted: Sequence[Wanted], *, anew: bool = False) -> float | None:
        """Make, renew and remove; gives when to look again, None if nothing has to be done.

        What fails is noted with the subscription, and tried again later. With `anew`, all are
        asked for again, whether that's due or not.
        """
        there = {one.identity: one for one in self._mine()}
        for one in wanted:
            known = there.pop(one.identity, None)
            self._bring_up(known or self._noted(one), one, anew=anew)
        for left in there.values():
            if anew or self._is_time(left) or left.status == "subscribed":
                self._end(left)
        return _first(self._mine())

    def renew(self, wanted: Sequence[Wanted]) -> float | None:
        """Only renew what ends: for a connection that rests, whose events wait meanwhile."""
        declared = {one.identity: one for one in wanted}
        for known in self._mine():
            one = declared.get(known.identity)
            if one is not None and known.status == "subscribed":
                self._bring_up(known, one, anew=False)
        return _first([one for one in self._mine() if one.status == "subscribed"])

    def end_all(self) -> list[str]:
        """Remove all subscriptions, come what may; says what the app has against it."""
        found = []
        for one in self._mine():
            error = self._farewell(one)
            self.subscriptions.drop(one.key)
            if error is not None:
                found.append(error.message)
        return found

    def _mine(self) -> Sequence[Subscription]:
        return self.subscriptions.of_connection(self.connection.key)

    def _noted(self, one: Wanted) -> Subscription:
        return self.subscriptions.add(
            Subscription(
                key=secrets.token_urlsafe(32),
                connection=self.connection.key,
                tenant=self.connection.tenant,
                config=one.config,
                secret=secrets.token_urlsafe(32),
                refresh_at=0.0,
                identity=one.identity,
            )
        )

    def _bring_up(self, known: Subscription, one: Wanted, *, anew: bool) -> None:
        try:
            url = self.address(one, known.key)
            version = one.version(url)
            lacks_secret = one.declaration.gives_secret and not known.given
            if not anew and self._is_awaited(known, one):
                return
            if not anew and known.config.get("version") == version:
                if self._is_time(known):
                    self._ask(known, one, url, version, anew=lacks_secret)
            else:
                # Of one that was never asked for, there's nothing that could be wrong by now.
                self._ask(known, one, url, version, anew=bool(known.attempts or known.state))
        except Fenced:
            raise
        except MembraneError as error:
            self._failed(known, error)

    def _is_awaited(self, known: Subscription, one: Wanted) -> bool:
        """Whether the app is yet to give its secret; raises UnexpectedAnswer if it never did."""
        if known.secret_until is None:
            return False
        gives_secret = one.declaration.gives_secret
        if gives_secret and known.secret_until > self.now():
            return True
        self.subscriptions.expect_secret(known.key, None)
        if known.status != "subscribed" or not gives_secret:
            return False  # it never answered either
        raise UnexpectedAnswer(
            f"{one.app} was subscribed to, and gave no secret within {SECRET_SECONDS:g} s",
            hint="compare `challenge` with what the app sends first, and see GET /webhook-counts",
        )

    def _is_time(self, known: Subscription) -> bool:
        return known.refresh_at is not None and known.refresh_at <= self.now()

    def _ask(self, known: Subscription, one: Wanted, url: str, version: str, *, anew: bool) -> None:
        """Ask the app for it, or to keep it on; and note what it says.

        With `anew`, what the app has of it is replaced, whether it still lives or not.
        """
        known = replace(known, config={**known.config, "version": version})
        scope = self._scope(known, one, url)
        self.hold()
        found = self._refreshed(known, one, scope) if known.state and not anew else None
        if found is None:
            found = self._subscribed(known, one, scope, adopt=not anew)
        now = self.now()
        self._keep(
            known,
            config={**known.config, "ends_at": found.ends_at},
            status="subscribed",
            global_webhook=f"{one.app}/{one.declaration.global_webhook}"
            if one.declaration.global_webhook
            else "",
            selector=self._selector(one, {**scope, "state": found.state}),
            state=found.state,
            refresh_at=_renewal(found.ends_at, one.declaration.refresh_before_seconds, now),
            attempts=0,
            error="",
        )

    def _refreshed(self, known: Subscription, one: Wanted, scope: Scope) -> Told | None:
        """Put off its end; None if that can't be done, or the app has forgotten it."""
        if one.declaration.refresh is None:
            return None
        answer = ask(self.api, one, one.declaration.refresh, scope)
        if is_gone(answer):
            return None
        found = told(one, answer, scope, self.now())
        return replace(found, state={**known.state, **found.state})

    def _subscribed(self, known: Subscription, one: Wanted, scope: Scope, *, adopt: bool) -> Told:
        """Subscribe, unless the app has it already; of what it has besides, nothing stays."""
        declaration = one.declaration
        if declaration.subscribe is None:
            return Told({})
        former = self._former(known, one, scope)
        before = declaration.refresh_before_seconds
        lasting = [old for old in former if old.ends_at is None or self._left(old) > before]
        found = lasting[0] if adopt and lasting else None
        if found is None:
            self._keep(known, attempts=known.attempts + 1, refresh_at=self.now() + IN_DOUBT_SECONDS)
            found = self._asked(known, one, declaration.subscribe, scope)
        for old in former:
            if old.state and old.state != found.state:
                self._take_back(one, {**scope, "state": old.state})
        return found

    def _asked(self, known: Subscription, one: Wanted, request: Request, scope: Scope) -> Told:
        """Subscribe; meanwhile the app may give its secret, and for some time after it."""
        gives_secret = one.declaration.gives_secret
        if gives_secret:
            self.subscriptions.expect_secret(known.key, SECRET_SECONDS)
        try:
            answer = ask(self.api, one, request, scope)
            refuse_gone(one, answer)
            return told(one, answer, scope, self.now())
        except MembraneError:
            if gives_secret:
                self.subscriptions.expect_secret(known.key, None)
            raise

    def _former(self, known: Subscription, one: Wanted, scope: Scope) -> list[Told]:
        """What the app has of it from before, as far as can be known."""
        was_asked = known.attempts > 0 or known.state
        if not was_asked:
            return []
        request = one.declaration.existing
        listed = [] if request is None else existing(self.api, one, request, scope, self.now())
        states = [old.state for old in listed]
        # What we know of and can't look up has ended for us: that's why it's asked for anew.
        mine = [Told(known.state, 0.0)] if known.state and known.state not in states else []
        return [*listed, *mine]

    def _left(self, old: Told) -> float:
        """For how many seconds it lives yet."""
        return (old.ends_at or 0.0) - self.now()

    def _take_back(self, one: Wanted, scope: Scope) -> MembraneError | None:
        """Unsubscribe, if that's declared; gives what the app has against it."""
        if one.declaration.unsubscribe is None:
            return None
        try:
            ask(self.api, one, one.declaration.unsubscribe, scope)
        except MembraneError as error:
            return error
        return None

    def _end(self, known: Subscription) -> None:
        """Remove one that nobody wants; tried again later if the app isn't to be had."""
        self.hold()
        error = self._farewell(known)
        if error is None or known.attempts + 1 >= MOST_FAREWELLS:
            self.subscriptions.drop(known.key)
        else:
            self._keep(
                known,
                status="error",
                attempts=known.attempts + 1,
                refresh_at=self.now() + _back_off(error, known.attempts),
                error=f"it can't be removed: {error.message}",
            )

    def _farewell(self, known: Subscription) -> MembraneError | None:
        one = self.declared(known.config)
        if one is None or not (known.state or known.attempts or known.status == "subscribed"):
            return None
        try:
            scope = self._scope(known, one, self.address(one, known.key))
            for old in self._former(known, one, scope):
                error = self._take_back(one, {**scope, "state": old.state})
                if error is not None:
                    return error
        except MembraneError as error:
            return error
        return None

    def _failed(self, known: Subscription, error: MembraneError) -> None:
        """Note what went wrong; one that the app still has goes on until its end."""
        now, newest = self.now(), self.subscriptions.get(known.key) or known
        ends_at = known.config.get("ends_at")
        lives = known.status == "subscribed" and ends_at is not None and ends_at > now
        lives = lives and known.secret_until is None  # nobody could verify what it sends
        attempts = max(newest.attempts, known.attempts + 1)
        self._keep(
            known,
            status="subscribed" if lives else "error",
            attempts=attempts,
            refresh_at=now + _back_off(error, attempts - 1),
            error=str(error),
            config=newest.config,
        )

    def _keep(self, known: Subscription, **changes: Any) -> None:
        self.subscriptions.keep(replace(known, **changes))

    def _scope(self, known: Subscription, one: Wanted, url: str) -> dict[str, Any]:
        scope = {
            **one.scope,
            "webhook_url": url,
            "secret": known.secrets[0],
            "state": dict(known.state),
        }
        lifetime = one.declaration.lifetime_seconds
        return scope if lifetime is None else {**scope, "expires_at": iso(self.now() + lifetime)}

    def _selector(self, one: Wanted, scope: Scope) -> str:
        """What a global webhook finds this connection by; raises Fatal where there's nothing."""
        if one.declaration.global_webhook is None:
            return ""
        seen = {**scope, "credentials": dict(self.connection.credentials)}
        value = value_of(one.declaration.selector, seen, "selector")
        if value is None or value == "" or isinstance(value, dict | list):
            raise Fatal(
                f"{one.app}: `selector` gives nothing by which a global webhook's events could be "
                "told apart",
                hint="write what the app says of its account, as {$var: $.state.account}",
            )
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _first(subscriptions: Sequence[Subscription]) -> float | None:
    """When the first of them has something to be done."""
    moments = [m for one in subscriptions for m in (one.refresh_at, one.secret_until)]
    return min((moment for moment in moments if moment is not None), default=None)


def _renewal(ends_at: float | None, before: float, now: float) -> float | None:
    """Well before its end; of one that lives for a short time, at half of it."""
    if ends_at is None:
        return None
    return max(now + 1, ends_at - min(before, (ends_at - now) / 2))


def _back_off(error: MembraneError, attempts: int) -> float:
    soon = isinstance(error, Retryable)
    wait = min(FIRST_BACK_OFF[soon] * 2.0 ** min(attempts, 20), LONGEST_BACK_OFF[soon])
    # Many that fail together, because their app is down, don't come back together.
    wait *= random.uniform(0.75, 1.25)  # noqa: S311
    told = error.retry_after if isinstance(error, RateLimited) else None
    return wait if told is None else max(wait, told)
