"""What became of events and webhooks, to be looked at afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from membrane_sync.ports.events import Event, EventKind, EventStatus, Webhook, WebhookStatus


@dataclass(frozen=True)
class EventFilter:
    """Which events: those that fit in all that is said; `since` is in seconds since 1970."""

    connection: str = ""
    status: EventStatus | None = None
    kind: EventKind | None = None
    name: str = ""
    external_id: str = ""
    since: float | None = None


class EventLog(Protocol):
    """All events that somebody may see, and what became of them.

    There's no way in it to name another tenant. Of the workspace, `tenant` is None: it sees all.
    """

    tenant: str | None

    def events(self, before: int, limit: int, which: EventFilter = ...) -> Sequence[Event]:
        """The next older events than the one of this id, or the newest with 0; newest first.

        Their payloads are left out.
        """
        ...

    def event(self, id: int) -> Event:
        """One event, with its payload; raises NotFound."""
        ...

    def webhook(self, event: int) -> Webhook | None:
        """The webhook that brought an event; None if none did, or it's kept no more.

        To a tenant, one that may tell of other tenants too isn't given. Raises NotFound where
        there's no such event.
        """
        ...

    def counts(self) -> Mapping[str, int]:
        """How many events there are of each status; it looks at all of them."""
        ...

    def replay(self, ids: Sequence[int]) -> Sequence[int]:
        """Let them wait again as if they had just come; gives those that now do.

        Events of no connection, and those of an archived one, stay as they are.
        """
        ...

    def retell(self, id: int, events: Sequence[Event]) -> Sequence[int]:
        """Put one or more events in the place of one that has no connection; gives their ids.

        Raises NotFound, also if someone else has done so meanwhile.
        """
        ...


class WebhookLog(Protocol):
    """Webhooks as they came in; those of all tenants, since one may be of several."""

    def webhooks(
        self, before: int, limit: int, status: WebhookStatus | None = None
    ) -> Sequence[Webhook]:
        """The next older webhooks, or the newest with 0; newest first, without their bodies."""
        ...

    def webhook(self, id: int) -> Webhook:
        """One webhook as it came; raises NotFound."""
        ...

    def settle(self, id: int, status: WebhookStatus, error: str = "") -> None:
        """Say what became of it when it was taken in once more; raises NotFound."""
        ...


@dataclass
class WebhookCount:
    """How many webhooks came to one endpoint, and what became of them.

    What was `refused` proved nothing, and nothing is kept of it but why; what was `unavailable` was
    sent away to come again. Moments are in seconds since 1970.
    """

    endpoint: str
    received: int = 0
    duplicates: int = 0
    unmatched: int = 0
    failed: int = 0
    challenges: int = 0
    refused: int = 0
    unavailable: int = 0
    last_refused_at: float | None = None
    last_reason: str = ""


class WebhookCounts(Protocol):
    """Counts of webhooks, of all servers together."""

    def add(self, counts: Sequence[WebhookCount]) -> None:
        """Add to what is counted of these endpoints, in one transaction."""
        ...

    def counts(self, after: str, limit: int) -> Sequence[WebhookCount]:
        """Those of the next endpoints, by name."""
        ...
