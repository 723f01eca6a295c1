"""Webhooks of the app: whom it tells of what, signed; on bad days twice, late, forged or never.

What is made of which event is drawn from the seed, so the same orders give the same deliveries.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random
from threading import Condition
from typing import Any
from urllib.request import Request, urlopen

from membrane_sync.testing.simulator.switches import Hooks

SECRET = "simulator-webhook-secret"  # noqa: S105 - opens nothing
SIGNATURE = "X-Simulator-Signature"


@dataclass(frozen=True)
class Delivery:
    """One request to a subscriber, ready to be sent."""

    url: str
    headers: dict[str, str]
    body: bytes

    def send(self, timeout: float = 10) -> int:
        """Send it; gives the subscriber's status, and raises OSError if there is no answer."""
        request = Request(self.url, self.body, self.headers, method="POST")  # noqa: S310
        with urlopen(request, timeout=timeout) as response:  # noqa: S310
            return int(response.status)


@dataclass(frozen=True)
class Hook:
    """A subscription; it ends by itself at `ends_at`, in real time, unless that's None."""

    id: str
    url: str
    collection: str = ""
    secret: str = SECRET
    account: str = ""
    ends_at: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended by itself."""
        return self.ends_at is not None and self.ends_at <= time.time()

    def shown(self) -> dict[str, Any]:
        """As the app answers it; never its secret."""
        ends = None if self.ends_at is None else datetime.fromtimestamp(self.ends_at, UTC)
        shown = {"id": self.id, "url": self.url, "collection": self.collection}
        return {**shown, "expires_at": None if ends is None else ends.isoformat()}


class Webhooks:
    """Whom to tell, and what waits to be sent; `Sender` sends it, or whoever calls `take`."""

    def __init__(self, seed: int, switches: Hooks | None = None) -> None:
        self.urls: list[str] = []
        """Subscribers of everything, by whoever holds the simulator in their hands."""
        self.switches = switches or Hooks()
        self.hooks: dict[str, Hook] = {}
        self.answers: Counter[int] = Counter()
        """How often subscribers answered with which status; 0 for no answer."""
        self.changed = Condition()
        self._random = Random(seed)  # noqa: S311
        self._made = self._subscribed = self._place = 0
        self._waiting: list[tuple[float, int, Delivery]] = []

    # Subscriptions

    def subscribe(
        self, url: str, collection: str, secret: str, account: str, seconds: float | None = None
    ) -> Hook:
        """Tell this URL of a collection's changes from now on, for so long if that's allowed."""
        self._subscribed += 1
        id = f"hook-{self._subscribed}"
        hook = Hook(id, url, collection, secret or SECRET, account, self._end(seconds))
        self.hooks[id] = hook
        return hook

    def find(self, id: str, account: str) -> Hook | None:
        """An account's subscription; None if there's none, or it has ended."""
        hook = self.hooks.get(id)
        return hook if hook is not None and hook.account == account and not hook.is_over else None

    def of(self, account: str) -> list[Hook]:
        """All that an account has."""
        return [hook for hook in self.hooks.values() if self.find(hook.id, account)]

    def renew(self, hook: Hook, seconds: float | None) -> Hook:
        """Put off its end."""
        self.hooks[hook.id] = replace(hook, ends_at=self._end(seconds))
        return self.hooks[hook.id]

    def expire(self) -> int:
        """End all subscriptions at once; gives how many there were."""
        count = len(self.hooks)
        self.hooks.clear()
        return count

    def _end(self, seconds: float | None) -> float | None:
        allowed = [s for s in (seconds, self.switches.longest_seconds) if s is not None]
        return time.time() + min(allowed) if allowed else None

    # Events

    def is_heard(self, collection: str) -> bool:
        """Whether anybody wants to know of the collection."""
        hooks = self.hooks.values()
        return any(hook.collection == collection and not hook.is_over for hook in hooks)

    def happened(self, collection: str, change: str, record: Mapping[str, Any], at: str) -> None:
        """Make deliveries of a change, for each who wants to know; they wait to be sent."""
        switches, draw = self.switches, self._random.random
        event = {"event": f"{collection}.{change}", "change": change, "at": at}
        about: dict[str, Any] = {"id": record["id"]}
        about |= {} if switches.id_only else {"record": dict(record)}
        with self.changed:
            for hook in [*self.hooks.values()]:
                if hook.collection != collection or hook.is_over:
                    continue
                dropped, again, false, late = (draw() for _ in range(4))
                if dropped < switches.dropped:
                    continue
                made = self._signed(hook.url, {**event, **about}, hook.secret)
                self._wait(made, late < switches.late)
                if again < switches.duplicate:
                    self._wait(made, late=True)
                if false < switches.forged:
                    lie = {**about, "record": {**record, "name": "forged"}}
                    self._wait(self._signed(hook.url, {**event, **lie}, "wrong"), late=False)
            self.changed.notify_all()

    def take(self, *, all: bool = True) -> list[Delivery]:
        """What is to be sent now, in its order; late ones too, though nothing overtook them yet."""
        with self.changed:
            taken = []
            while self._waiting and (all or self._waiting[0][0] <= self._place):
                taken.append(heappop(self._waiting)[2])
            return taken

    @property
    def waiting(self) -> int:
        """How many deliveries wait to be sent."""
        return len(self._waiting)

    def deliveries(
        self,
        events: Sequence[tuple[str, dict[str, Any]]],
        *,
        duplicate: float = 0,
        forged: float = 0,
        shuffled: bool = False,
    ) -> list[Delivery]:
        """A delivery for each event (its name and record) and each of `urls`, for you to send.

        Of `duplicate` and `forged`, such a share comes twice, or once more with a signature that
        isn't ours; `shuffled` puts them out of order.
        """
        made: list[Delivery] = []
        for name, record in events:
            for url in self.urls:
                event = {"event": name, "record": record}
                delivery = self._signed(url, event, SECRET)
                made.append(delivery)
                if self._random.random() < duplicate:
                    made.append(delivery)
                if self._random.random() < forged:
                    made.append(self._signed(url, event, "not the secret"))
        if shuffled:
            self._random.shuffle(made)
        return made

    def _wait(self, delivery: Delivery, late: bool) -> None:
        self._place += 1
        behind = self._random.randint(1, self.switches.late_by) + 0.5 if late else 0
        heappush(self._waiting, (self._place + behind, self._place, delivery))

    def _signed(self, url: str, event: Mapping[str, Any], secret: str) -> Delivery:
        self._made += 1
        body = json.dumps({"event_id": f"evt-{self._made}", **event}).encode()
        headers = {"Content-Type": "application/json", SIGNATURE: sign(body, secret)}
        return Delivery(url, headers, body)


def sign(body: bytes, secret: str = SECRET) -> str:
    """The signature of a body: HMAC-SHA256 in hex, after `sha256=`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
