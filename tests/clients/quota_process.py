"""A process that sends as many requests as the quota lets it, for a while, or one of each tenant.

    python -m tests.clients.quota_process LEDGER_URL APP_URL TENANT [TENANT…] [interactive/TENANT…]

Says that it's ready, then reads the time to begin and the time to end. At the end it says for how
many seconds the machine let it, or the database that it asked, not run though they could have; of
several tenants, before that, how long each one's request took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.ports import ConnectionRecord, Grant, Party, Quota
from membrane_sync.records import Call
from membrane_sync.stores.sql_quotas import SqlQuotas

FORGIVEN = 0.2
"""So late a slot may be used, and so long may the ledger take to answer."""

LEFT = "X-Left"

LIMITS = [{"requests": 10, "per_seconds": 1, "burst": 3, "scope": "app"}]


@contextmanager
def _watching(stalled: list[float], expected: float = 0.0) -> Iterator[None]:
    """Note by how much what's done takes longer than it should, and than is forgiven."""
    began = time.monotonic()
    yield
    late = time.monotonic() - began - expected
    if late > FORGIVEN:
        stalled.append(late)


class _Watched(SqlQuotas):
    def __init__(self, url: str, stalled: list[float]) -> None:
        super().__init__(url)
        self._stalled = stalled

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        with _watching(self._stalled):
            return super().reserve(quotas, party, count)


class Stamped(httpx.HTTPTransport):
    """Tells the server when the request left, by the clock of the machine that both are on."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers[LEFT] = str(time.time())
        return super().handle_request(request)


class Sender:
    """A tenant's client as a process of its own has it, which notes where it could not run."""

    def __init__(self, ledger: str, app: str, party: Party) -> None:
        self.stalled: list[float] = []
        self._path = f"/{party.tenant}"
        connector = Connector.model_validate({"key": "app", "base_url": app, "rate_limits": LIMITS})
        quotas = _Watched(ledger, self.stalled)
        self._api = HttpApi(
            connector,
            ConnectionRecord(party.tenant, "app", party.tenant),
            quotas=quotas,
            priority=party.priority,
            sleep=self._sleep,
            transport=Stamped(),
        )
        # Opens the database: what's measured is the sharing, not sixteen logins at once.
        quotas.reserve([Quota("login", 1_000, 1, 10)], party)
        self.stalled.clear()

    def _sleep(self, seconds: float) -> None:
        with _watching(self.stalled, seconds):
            time.sleep(seconds)

    def send(self) -> float:
        """How long one request took, with the wait for its turn."""
        began = time.monotonic()
        self._api.send(Call("GET", self._path))
        return time.monotonic() - began


def main(ledger: str, app: str, *parties: str) -> None:
    senders = [Sender(ledger, app, _party(party)) for party in parties]
    print("ready", flush=True)
    begin, end = map(float, input().split())
    time.sleep(max(0.0, begin - time.time()))
    if len(senders) > 1:
        with ThreadPoolExecutor(len(senders)) as pool:
            print(*pool.map(Sender.send, senders))
    else:
        while time.time() < end:
            senders[0].send()
    print(max(sum(sender.stalled) for sender in senders), flush=True)
    # Not closed: a process that is killed gives nothing back either.


def _party(name: str) -> Party:
    tenant = name.removeprefix("interactive/")
    return Party(tenant, "bulk" if tenant == name else "interactive")


if __name__ == "__main__":
    main(*sys.argv[1:])
