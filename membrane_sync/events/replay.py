"""Events once more: those that failed, those that nothing asked for, and webhooks by their YAML.

replayed = Replay(log, internal_events).event(7)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from membrane_sync.errors import InvalidInput, MembraneError, NotFound, Rejected
from membrane_sync.events.intake import Intake
from membrane_sync.events.internal import InternalEvents, Misfit, Told
from membrane_sync.ports.event_log import EventFilter, EventLog, WebhookLog
from membrane_sync.ports.events import Arrival, Event, Inbox, Put

PAGE = 500


@dataclass(frozen=True)
class Replayed:
    """The ids of events that wait now, and why others don't."""

    events: Sequence[int]
    refused: Mapping[int, str]


class Replay:
    """Lets events of a log take effect once more."""

    def __init__(self, log: EventLog, internal: InternalEvents) -> None:
        self._log = log
        self._internal = internal

    def event(self, id: int) -> Sequence[int]:
        """Let one wait again; gives its id, and others where more than one asks for it now.

        One that nothing asked for is checked and spread anew. Raises NotFound, InvalidInput where
        it still doesn't fit, and Rejected where it can't take effect.
        """
        event = self._log.event(id)
        if not event.connection and event.kind == "internal":
            return self._told_again(event)
        done = self._log.replay([id])
        if not done:
            gone = f"connection {event.connection!r}" if event.connection else "no connection"
            raise Rejected(
                f"event {id} is of {gone}, and can't take effect",
                hint="connect it again, if it's archived: then its events can be replayed",
            )
        return done

    def all(self, which: EventFilter, most: int) -> Replayed:
        """Let so many wait again, in their order; of those that fit, the newest."""
        found: list[Event] = []
        while len(found) < most:
            before = found[-1].id if found else 0
            page = self._log.events(before, min(PAGE, most - len(found)), which)
            if not page:
                break
            found += page
        found.reverse()
        done = list(self._log.replay([event.id for event in found if event.connection]))
        refused: dict[int, str] = {}
        for event in found:
            if not event.connection:
                try:
                    done += self.event(event.id)
                except MembraneError as error:
                    refused[event.id] = error.message
        return Replayed(sorted(done), refused)

    def _told_again(self, event: Event) -> Sequence[int]:
        kind = self._internal.kind(event.name)
        try:
            told = Told(json.loads(event.payload), event.tenant)
            events = kind.events(told, event.source)
        except ValueError:
            raise InvalidInput({"payload": "is no JSON"}) from None
        except Misfit as misfit:
            raise InvalidInput(misfit.fields, hint="is the event's YAML as it should be?") from None
        if not events[0].connection:
            raise Rejected(
                f"event {event.id} is of tenant {event.tenant!r}, and nothing of theirs asks for "
                f"{event.name!r}",
                hint="name it among the triggers of a sync, and replay it then",
            )
        return self._log.retell(event.id, events)


class WebhookReplay:
    """Takes in webhooks that were kept once more, by the project as it is now."""

    def __init__(self, webhooks: WebhookLog, intake: Intake, inbox: Inbox) -> None:
        self._webhooks = webhooks
        self._intake = intake
        self._inbox = inbox

    def webhook(self, id: int) -> Put:
        """Put what it tells of into the inbox; what is there already isn't kept again.

        Raises NotFound where there's none, or nothing is subscribed to it any more, and Rejected
        where it still comes to nothing: it's kept as it was, with the reason.
        """
        webhook = self._webhooks.webhook(id)
        decision = self._intake.decide_again(webhook)
        if decision is None or decision.webhook is None:
            raise NotFound(
                f"nothing takes in webhook {id} of {webhook.name!r}",
                hint="its subscription, or its declaration, is gone",
            )
        # Its events first: whoever is killed in between replays it again, and they're known.
        events = [replace(event, webhook=id) for event in decision.events]
        (put,) = self._inbox.put([Arrival(events=events)])
        decided = decision.webhook
        self._webhooks.settle(id, decided.status, decided.error)
        if decided.status != "routed":
            raise Rejected(
                f"webhook {id} is {decided.status}: {decided.error}",
                hint="mend its declaration, or subscribe to what it tells of",
            )
        return put
