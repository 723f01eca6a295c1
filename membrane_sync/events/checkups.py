"""Looks after the subscriptions of all connections: a few at a time, those that may need it.

Any number of processes may call this at any moment: a connection is looked at by one of them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from membrane_sync.elements.internal_event import InternalEvent
from membrane_sync.errors import Fatal, Fenced, LockTimeout, MembraneError
from membrane_sync.events.subscribing import FIRST_BACK_OFF, Subscriber
from membrane_sync.events.wanted import Wanted, covered, declared, events_of, needs_some, wanted
from membrane_sync.formulas import evaluate
from membrane_sync.ports import Api, ConnectionRecord, Due
from membrane_sync.ports.subscriptions import Checkups, Subscription, Subscriptions
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import ResolvedSync

CLAIM_SECONDS = 180.0
"""Renewed before each call, which waits for half a minute at most."""

THREADS = 4
"""So many apps are asked at once."""

AGAIN_SECONDS = FIRST_BACK_OFF[False]
"""When to look again at a connection of which it can't even be said what it needs."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class EventLedger(Protocol):
    """What of the ledger is needed here."""

    @property
    def subscriptions(self) -> Subscriptions:
        """Whom apps tell of events."""
        ...

    @property
    def checkups(self) -> Checkups:
        """Whose subscriptions are to be looked at."""
        ...

    @property
    def due(self) -> Due:
        """When syncs are due."""
        ...

    def connection(self, key: str) -> ConnectionRecord:
        """One connection with its credentials."""
        ...

    def known(self, key: str) -> ConnectionRecord:
        """One connection without its credentials."""
        ...


@dataclass(frozen=True)
class Looked:
    """A connection that was looked at: what it has now, and what went wrong with all of it."""

    connection: str
    subscriptions: Sequence[Subscription] = ()
    error: str = ""

    @property
    def errors(self) -> list[str]:
        """All that went wrong, each once."""
        found = (self.error, *(one.error for one in self.subscriptions))
        return list(dict.fromkeys(filter(None, found)))


@dataclass(frozen=True)
class Told:
    """A subscription as anybody may see it: nothing by which a webhook could be forged.

    `about` is a collection or an external event; `renews_at` is in seconds since 1970.
    """

    about: str
    change: str
    status: str
    global_webhook: str
    renews_at: float | None
    attempts: int
    error: str


@dataclass
class Keeper:
    """Keeps subscriptions in step with what syncs need."""

    ledger: EventLedger
    project: Project
    public_url: str
    syncs: Callable[[ConnectionRecord], Sequence[ResolvedSync]]
    open_api: Callable[[ConnectionRecord], Api]
    _expected: bool = field(default=False, init=False)

    def due(self, most: int) -> list[Looked]:
        """Look at up to so many connections that may need it; costs next to nothing if none does.

        They are new, were changed, have another status, or something of theirs ends soon; and all
        of them, when the project says something else than before.
        """
        if not self._expected:
            self.ledger.checkups.expect(self.version)
            self._expected = True
        claimed = self.ledger.checkups.claim(self.version, most, CLAIM_SECONDS)
        if not claimed:
            return []
        with ThreadPoolExecutor(THREADS, thread_name_prefix="subscriptions") as pool:
            return list(pool.map(self._claimed, claimed.keys(), claimed.values()))

    def one(self, key: str, *, anew: bool = False) -> Looked:
        """Look at one connection now; raises LockTimeout while another process does."""
        self.ledger.connection(key)
        claim = self.ledger.checkups.claim_one(key, self.version, CLAIM_SECONDS)
        if claim is None:
            raise LockTimeout(
                f"the subscriptions of {key!r} are being looked at by another process",
                hint="try again in a moment",
            )
        return self._claimed(key, claim, anew=anew)

    def end(self, connection: ConnectionRecord) -> str:
        """Remove all that a connection has, while there are credentials; says what went wrong."""
        if not self.ledger.subscriptions.of_connection(connection.key):
            return ""
        api = self.open_api(connection)
        try:
            return "; ".join(self._subscriber(connection, api, lambda: None).end_all())
        finally:
            api.close()

    def of(self, key: str) -> list[Told]:
        """What can be shown of a connection's subscriptions."""
        return [_told(one) for one in self.ledger.subscriptions.of_connection(key)]

    def covered(self, key: str) -> set[str]:
        """The connection's streams of which webhooks tell every change, as things stand."""
        return _live(self.ledger.subscriptions.of_connection(key))

    @cached_property
    def version(self) -> str:
        """Hash of all that files and settings say of subscriptions, for anyone."""
        said: list[Any] = [self.public_url]
        # What the product is asked to tell of is looked at along with it.
        for key in self.project.keys("internal_event"):
            said.append(self.project.get(InternalEvent, key).subscribe)
        for integration in self.project.integrations:
            keys = [
                key
                for key in self.project.connections
                if (found := self.project.connection(key)) and found.integration == integration
            ]
            for connection in ("", *keys):
                record = ConnectionRecord(connection, integration, "")
                syncs = self.project.syncs(integration, connection)
                needed = wanted(self.project, record, syncs)
                said.append([(one.config, one.version("")) for one in needed])
                said.append([(s.sync.key, sorted(events_of(s.collection))) for s in syncs])
                said.append([t.internal_event for s in syncs for t in s.sync.triggers])
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _claimed(self, key: str, claim: str, *, anew: bool = False) -> Looked:
        """Look at a connection that's ours, and let it go; whatever happens, others go on."""
        error, due_at = "", None
        before = self.ledger.subscriptions.of_connection(key)
        try:
            if before or self._needs_some(key):
                due_at = self._reconciled(key, claim, anew=anew)
        except Fenced as lost:
            return Looked(key, error=lost.message)
        except MembraneError as failure:
            error, due_at = failure.message, time.time() + AGAIN_SECONDS
        after = self.ledger.subscriptions.of_connection(key)
        if _live(before) != _live(after):
            self.ledger.due.replan(key)
        self.ledger.checkups.settle(key, claim, due_at)
        return Looked(key, after, error)

    def _needs_some(self, key: str) -> bool:
        """Whether its syncs could need any, whatever its credentials are."""
        return needs_some(self.syncs(self.ledger.known(key)))

    def _reconciled(self, key: str, claim: str, *, anew: bool) -> float | None:
        connection = self.ledger.connection(key)
        if connection.status not in ("ready", "paused"):
            return None  # Once it's connected again, it's looked at again.
        needed = wanted(self.project, connection, self.syncs(connection))

        def hold() -> None:
            if not self.ledger.checkups.renew(key, claim, CLAIM_SECONDS):
                raise Fenced(f"the subscriptions of {key!r} are another process's by now")

        api = self.open_api(connection)
        try:
            subscriber = self._subscriber(connection, api, hold)
            if connection.status == "paused":
                return subscriber.renew(needed)
            return subscriber.reconcile(needed, anew=anew)
        finally:
            api.close()

    def _subscriber(
        self, connection: ConnectionRecord, api: Api, hold: Callable[[], None]
    ) -> Subscriber:
        return Subscriber(
            connection,
            self.ledger.subscriptions,
            api,
            address=self._address,
            declared=lambda config: declared(self.project, connection, config),
            hold=hold,
        )

    def _address(self, one: Wanted, key: str) -> str:
        """Where the app is to send webhooks to; raises Fatal if it could not reach us there."""
        declaration = one.declaration
        if declaration.global_webhook is not None:
            return f"{self.public_url}/global-webhooks/{one.app}/{declaration.global_webhook}"
        base = evaluate(one.base_url, one.scope)
        if _is_here(self.public_url) and isinstance(base, str) and not _is_here(base):
            raise Fatal(
                f"{one.app} can't send webhooks to {self.public_url}, which is this machine alone",
                hint="set public_url in [tool.membrane_sync.connect] (MEMBRANE_PUBLIC_URL) to the "
                "address by which the internet reaches `membrane serve`; until then it's polled",
            )
        return f"{self.public_url}/webhooks/{key}"


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def _live(subscriptions: Sequence[Subscription]) -> set[str]:
    return covered(one.config for one in subscriptions if one.status == "subscribed")


def _told(one: Subscription) -> Told:
    return Told(
        about=one.config.get("collection") or one.config.get("event") or "",
        change=one.config.get("change", ""),
        status=one.status,
        global_webhook=one.global_webhook,
        renews_at=one.refresh_at,
        attempts=one.attempts,
        error=one.error,
    )
