"""Webhooks of the app: signed, and on bad days twice, late, out of order or forged."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.request import Request, urlopen

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


class Webhooks:
    """Makes deliveries of events; whoever calls it sends them when they like, or not."""

    def __init__(self, seed: int) -> None:
        self.urls: list[str] = []
        self._random = Random(seed)  # noqa: S311
        self._made = 0

    def deliveries(
        self,
        events: Sequence[tuple[str, dict[str, Any]]],
        *,
        duplicate: float = 0,
        forged: float = 0,
        shuffled: bool = False,
    ) -> list[Delivery]:
        """A delivery for each event (its name and record) and subscriber.

        Of `duplicate` and `forged`, such a share comes twice, or once more with a signature that
        isn't ours; `shuffled` puts them out of order.
        """
        made: list[Delivery] = []
        for name, record in events:
            for url in self.urls:
                delivery = self._delivery(url, name, record, SECRET)
                made.append(delivery)
                if self._random.random() < duplicate:
                    made.append(delivery)
                if self._random.random() < forged:
                    made.append(self._delivery(url, name, record, "not the secret"))
        if shuffled:
            self._random.shuffle(made)
        return made

    def _delivery(self, url: str, name: str, record: dict[str, Any], secret: str) -> Delivery:
        self._made += 1
        event = {"event_id": f"evt-{self._made}", "event": name, "record": record}
        body = json.dumps(event).encode()
        headers = {"Content-Type": "application/json", SIGNATURE: sign(body, secret)}
        return Delivery(url, headers, body)


def sign(body: bytes, secret: str = SECRET) -> str:
    """The signature of a body: HMAC-SHA256 in hex, after `sha256=`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
