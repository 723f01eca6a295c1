"""Events once more: those that failed, those that nothing asked for, and webhooks by their YAML.

replayed = Replay(log, internal_events).event(7)
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from membrane_sync.errors import InvalidInput, Rejected
from membrane_sync.events.internal import InternalEvents, Misfit, Told
from membrane_sync.ports.events import Event, EventLog


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

    def many(self, ids: Sequence[int]) -> Sequence[int]:
        """Let all of them wait again that can; gives the ids of those that now do."""
        return self._log.replay(ids)

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
