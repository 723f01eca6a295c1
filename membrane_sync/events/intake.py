"""Takes in webhooks, many in one transaction: each is decided on, and what's to be kept is kept."""

from __future__ import annotations

import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from membrane_sync.errors import MembraneError, Retryable
from membrane_sync.events.endpoint import Endpoint
from membrane_sync.events.receive import Decision, WebhookAnswer, again, receive, routed
from membrane_sync.events.recipients import Recipients
from membrane_sync.events.request import WebhookRequest
from membrane_sync.ports.events import Arrival, Inbox, Put, Webhook

log = logging.getLogger("membrane_sync.webhooks")

Outcome = Literal["taken", "challenge", "refused", "unavailable", "defect"]


@dataclass(frozen=True)
class Taken:
    """What became of a request; only then may its answer be given.

    `put` says what was new of one that was `taken`. One that's `unavailable` isn't kept, and may
    come again.
    """

    outcome: Outcome
    answer: WebhookAnswer
    reason: str = ""
    put: Put | None = None
    status: str = ""


class Intake:
    """Decides on requests, and keeps them in the inbox."""

    def __init__(self, recipients: Recipients, inbox: Inbox) -> None:
        self.recipients = recipients
        self._inbox = inbox

    def take(self, requests: Sequence[tuple[Endpoint, WebhookRequest]]) -> list[Taken]:
        """What becomes of each; all that have to be kept are, in one transaction."""
        now = time.time()
        decisions = [self._decided(endpoint, request, now) for endpoint, request in requests]
        endpoints = [endpoint for endpoint, _ in requests]
        decisions = self._routed(endpoints, decisions)
        arrivals = [d.arrival for d in decisions if isinstance(d, Decision) and d.arrival]
        puts = iter(self._put(arrivals))
        return [
            d if isinstance(d, Taken) else _taken(d, next(puts) if d.arrival else None)
            for d in decisions
        ]

    def decide_again(self, webhook: Webhook) -> Decision | None:
        """What its declaration now makes of a webhook that was kept; None if there's none.

        Nothing is kept: the events are for the inbox, under the webhook's id.
        """
        app, _, key = webhook.name.partition("/")
        if webhook.source == "global_webhook":
            endpoint: Endpoint | MembraneError | None = self.recipients.global_webhook(app, key)
        else:
            endpoint = self.recipients.read([webhook.name])[0]
        if isinstance(endpoint, MembraneError):
            raise endpoint
        if endpoint is None:
            return None
        decision = again(endpoint, webhook)
        found = self._routed([endpoint], [decision])[0]
        return found if isinstance(found, Decision) else None

    def _decided(self, endpoint: Endpoint, request: WebhookRequest, now: float) -> Decision | Taken:
        try:
            decision = receive(endpoint, request, now)
            if decision.answer.status == 401 and (newer := self.recipients.renewed(endpoint)):
                decision = receive(newer, request, now)
            if decision.secret and not self.recipients.take_secret(endpoint, decision.secret):
                return Taken("refused", WebhookAnswer(401), "no secret is expected from the app")
            return decision
        except Retryable as error:
            return _unavailable(error)
        except Exception as error:  # One request must not take those beside it along.
            return _defect(endpoint.title, error)

    def _routed(
        self, endpoints: Sequence[Endpoint], decisions: Sequence[Decision | Taken]
    ) -> list[Decision | Taken]:
        """With the events of those that global webhooks told of."""
        found = list(decisions)
        waiting: dict[str, list[int]] = defaultdict(list)
        for index, decision in enumerate(decisions):
            is_global = endpoints[index].declared_global is not None
            if isinstance(decision, Decision) and decision.webhook is not None and is_global:
                waiting[endpoints[index].name].append(index)
        for name, indexes in waiting.items():
            told = [(index, d) for index in indexes if isinstance(d := decisions[index], Decision)]
            try:
                selectors = [one.selector for _, decision in told for one in decision.told]
                meant = self.recipients.meant(name, selectors)
                for index, decision in told:
                    if decision.webhook is not None and decision.webhook.status == "routed":
                        found[index] = routed(decision, meant)
            except Retryable as error:
                for index, _ in told:
                    found[index] = _unavailable(error)
        return found

    def _put(self, arrivals: Sequence[Arrival]) -> list[Put | Taken]:
        if not arrivals:
            return []
        try:
            return [*self._inbox.put(arrivals)]
        except Retryable as error:
            return [_unavailable(error) for _ in arrivals]
        except Exception as error:
            if len(arrivals) == 1:
                return [_defect("one webhook", error)]
            # One of them can't be kept; the others must not pay for it.
            return [put for arrival in arrivals for put in self._put([arrival])]


def _taken(decision: Decision, put: Put | Taken | None) -> Taken:
    if isinstance(put, Taken):
        return put
    if decision.refused:
        return Taken("refused", decision.answer, decision.refused)
    if decision.webhook is None:
        return Taken("challenge", decision.answer)
    webhook = decision.webhook
    return Taken("taken", decision.answer, webhook.error, put, webhook.status)


def _unavailable(error: Exception) -> Taken:
    log.error("webhooks can't be kept: %s", error)
    return Taken("unavailable", WebhookAnswer(503), str(error))


def _defect(where: str, error: Exception) -> Taken:
    """Its place goes to the log; its words don't, since they may hold what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    log.error("a webhook of %s met a defect: %s at %s", where, type(error).__name__, place)
    return Taken("defect", WebhookAnswer(500), type(error).__name__)
