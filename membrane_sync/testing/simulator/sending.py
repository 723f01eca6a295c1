"""Sends the app's webhooks while it's served, one after another, as they're made."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread

import httpx

from membrane_sync.testing.simulator.webhooks import Delivery, Webhooks

IDLE_SECONDS = 0.2
"""After so long without a new one, late ones are sent too, though nothing overtook them."""

PATIENCE = 10.0


class Sender:
    """A thread that sends what waits; one that isn't answered 2xx is sent again, if that's set."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; what waits is left."""
        self._stopped.set()
        with self._webhooks.changed:
            self._webhooks.changed.notify_all()
        self._thread.join(timeout=2 * PATIENCE)

    def _run(self) -> None:
        with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
            while not self._stopped.is_set():
                with self._webhooks.changed:
                    is_new = self._webhooks.changed.wait(IDLE_SECONDS)
                deliver(self._webhooks, self._webhooks.take(all=not is_new), client, self._stopped)


def deliver(
    webhooks: Webhooks,
    deliveries: Sequence[Delivery],
    client: httpx.Client,
    stopped: Event | None = None,
) -> None:
    """Send these in their order, each as often as it may be, until it's taken."""
    stopped = stopped or Event()
    for delivery in deliveries:
        for attempt in range(webhooks.switches.attempts):
            if stopped.is_set() or (attempt and stopped.wait(webhooks.switches.again_seconds)):
                return
            try:
                status = client.post(
                    delivery.url, content=delivery.body, headers=delivery.headers
                ).status_code
            except httpx.HTTPError:
                status = 0
            webhooks.answers[status] += 1
            if 200 <= status < 300 or status in (401, 404, 410):
                break
