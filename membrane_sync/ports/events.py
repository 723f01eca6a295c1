"""What events need from outside: the inbox they wait in, and the subscriptions that bring them.

An event is one thing that happened, there or here. A webhook is one request that told of it, kept
as it came. Events wait in a queue for each connection, oldest first, until someone claims the queue
and applies them; a queue is claimed by one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

EventSource = Literal["webhook", "global_webhook", "internal", "outbox"]
"""By which way an event came."""

EventKind = Literal["record", "external", "internal"]
"""`record`: a record of a data collection changed, there. `external`, `internal`: another event of
the app's, or of the product's, by the key of its element."""

EventChange = Literal["", "created", "updated", "deleted"]

EventStatus = Literal["pending", "done", "dead", "ignored"]
"""`dead` after as many attempts as are declared; `ignored` if nothing here asks for it."""

WebhookStatus = Literal["routed", "unmatched", "failed"]
"""`unmatched` if no subscription is meant, `failed` if the declaration can't make sense of it."""


@dataclass(frozen=True)
class Webhook:
    """A request as it came in, whose sender has proved to be who it says.

    `name` is the subscription's key, or `app/key` of a global webhook; headers, in lower case, are
    without those that prove the sender. `id` and `received_at` are given by the inbox.
    """

    source: EventSource
    name: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    status: WebhookStatus = "routed"
    error: str = ""
    id: int = 0
    received_at: datetime | None = None


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    `name` is the stream of the collection for a `record`, else the element's key. `connection` is
    empty where only the tenant is known and nothing of theirs asks for it. `payload` is JSON text:
    the record as the app sent it, or what the event carries; empty for a record of which only the
    id is told. `occurred_at` is when it happened by the sender's word, in seconds since 1970, None
    if it doesn't say. `dedupe_key` is the same for the same event, however often it comes; empty
    for an event that can't be told from others. The inbox gives what comes after it.
    """

    source: EventSource
    kind: EventKind
    name: str
    tenant: str
    connection: str = ""
    subscription: str = ""
    change: EventChange = ""
    external_id: str = ""
    payload: str = ""
    occurred_at: float | None = None
    dedupe_key: str = ""
    dedupe_seconds: float = 0.0
    id: int = 0
    webhook: int | None = None
    status: EventStatus = "pending"
    attempts: int = 0
    runs: Sequence[str] = ()
    error: str = ""
    received_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def occurred(self) -> datetime | None:
        """When it happened by the sender's word; None if that's no moment either."""
        try:
            return (
                None if self.occurred_at is None else datetime.fromtimestamp(self.occurred_at, UTC)
            )
        except (ValueError, OverflowError, OSError):
            return None


@dataclass(frozen=True)
class Arrival:
    """What is put into the inbox together: a webhook, if that's how it came, and its events."""

    webhook: Webhook | None = None
    events: Sequence[Event] = ()


@dataclass(frozen=True)
class Put:
    """What became of an arrival: ids of its new events, and how many were there already."""

    webhook: int | None
    events: Sequence[int]
    duplicates: int = 0


@dataclass(frozen=True)
class EventQueue:
    """A connection whose events are claimed; `attempts` counts the failures since the last good."""

    connection: str
    attempts: int = 0
    deaths: int = 0
    """How often in a row its claim ran out: who had it died, or was frozen."""


@dataclass(frozen=True)
class Failure:
    """An event that couldn't be applied: when to try again, None for never, and why it failed."""

    event: int
    error: str
    again_at: float | None


@dataclass(frozen=True)
class Bookmark:
    """How far an outbox was read; `version` is that of the bookmark it's read on from, 0 at first.

    `place` tells tables apart: in another one, reading begins anew.
    """

    name: str
    place: str
    state: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


class Inbox(Protocol):
    """Where events wait, durably, until they took effect."""

    def bookmark(self, name: str) -> Bookmark | None:
        """How far an outbox was read; None before its first reading."""
        ...

    def put(self, arrivals: Sequence[Arrival], bookmark: Bookmark | None = None) -> Sequence[Put]:
        """Keep them, in one transaction, and wake their connections' queues.

        A bookmark is kept with them, or LockTimeout raised and nothing kept where somebody else has
        read on meanwhile.

        An event whose `dedupe_key` came within its `dedupe_seconds`, under the same name and
        connection, isn't kept again; nor is a webhook of which no event is new, unless it's
        unmatched or failed.
        """
        ...

    def waiting(self) -> int:
        """How many events wait, about."""
        ...

    def claim(
        self, most: int, batch_size: int, seconds: float, *, overdue: float = 0.0
    ) -> Sequence[str]:
        """Claim at most so many queues with events that are due; gives the names of batches.

        Nobody else gets a claimed queue until it's released, or `seconds` are over. It costs the
        same however many events wait or were there. With `overdue`, only those count that have been
        due for so many seconds.
        """
        ...

    def attend(self, seconds: float) -> None:
        """A worker says that it looks after the queues for so long from now on; 0 for no more."""
        ...

    def is_attended(self) -> bool:
        """Whether a worker looks after the queues."""
        ...

    def queues(self, batch: str) -> Sequence[EventQueue]:
        """The queues of a batch that are still claimed."""
        ...

    def renew(self, batch: str, seconds: float) -> None:
        """Keep the claim for so long from now on."""
        ...

    def pending(self, connection: str, limit: int, most_bytes: int = ...) -> Sequence[Event]:
        """The connection's next events that are due: as they came, and those to be tried again.

        At most so many, and no more once they have so many bytes; an event that says only an id
        counts as a record of some size, which is yet to be fetched. One is given, however large.
        """
        ...

    def settle(
        self,
        done: Sequence[int],
        failures: Sequence[Failure],
        run: str,
        *,
        ignored: Sequence[int] = (),
    ) -> None:
        """Say of events that they took effect, or failed; `run` is the one that applied them.

        The `ignored` are those that nothing here asks for.
        """
        ...

    def release(self, batch: str, connection: str, *, again_at: float | None = None) -> None:
        """Let go of a queue.

        With `again_at`, in seconds since 1970, it failed as a whole and rests until then; else it's
        due whenever one of its events is.
        """
        ...
