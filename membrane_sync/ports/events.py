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

from membrane_sync.ports import Tenant

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


@dataclass(frozen=True)
class OutboxRow:
    """A row of an outbox as it stands there; `number` is what its cursor column has."""

    number: Any
    tenant: Any
    payload: Any
    type: Any = None


@dataclass(frozen=True)
class Look:
    """Rows of an outbox, by number, and what was going on in its database.

    Of transactions, all before `oldest` had ended when the rows were read, and all that had begun
    by then are before `newest`; None where the database doesn't number them.
    """

    rows: Sequence[OutboxRow]
    oldest: int | None = None
    newest: int | None = None


class OutboxTable(Protocol):
    """A table in the product's database that holds its events."""

    @property
    def place(self) -> str:
        """Tells tables apart, without user and password."""
        ...

    def look(self, after: int | None, gaps: Sequence[tuple[int, int]], limit: int) -> Look:
        """At most so many rows: first those with a number within the gaps, then those after it."""
        ...

    def unhandled(self, limit: int) -> Sequence[OutboxRow]:
        """The next rows that weren't read, by what the rows themselves say."""
        ...

    def handle(self, numbers: Sequence[Any]) -> None:
        """Mark them as read, or delete them, as declared."""
        ...

    def close(self) -> None:
        """Give back the database connections."""
        ...


SubscriptionStatus = Literal["subscribed", "unsubscribed", "error"]


@dataclass(frozen=True)
class Subscription:
    """Whom an app tells of events: one for each distinct configuration of a connection.

    `config` says what for. Of kind `record` it has `collection`, `parameters`, `stream` and
    `change`: a key of the collection's `events`. Of kind `external`, `event` and `parameters`.
    `identity` is the same for what one subscription serves; a connection has one of each. `state`
    is what the app gave when it was subscribed to, and may be secret; so is `secret`, which signs
    its webhooks. `selector` is by which a global webhook finds it. `refresh_at` is when something
    is to be done about it. `given` are the secrets that the app made up, the newest first, of which
    it signs by any; it may give one until `secret_until`, None if it's not asked to.
    """

    key: str
    connection: str
    tenant: str
    config: Mapping[str, Any]
    status: SubscriptionStatus = "unsubscribed"
    global_webhook: str = ""
    selector: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    secret: str = ""
    refresh_at: float | None = None
    attempts: int = 0
    error: str = ""
    identity: str = ""
    given: Sequence[str] = ()
    secret_until: float | None = None

    @property
    def secrets(self) -> Sequence[str]:
        """What its webhooks may be signed by, the newest first."""
        return self.given or [self.secret]


class Subscriptions(Protocol):
    """All subscriptions of the ledger; what is secret in them is sealed."""

    def get(self, key: str) -> Subscription | None:
        """One by its key, which nobody can guess."""
        ...

    def of_keys(self, keys: Sequence[str]) -> Sequence[Subscription]:
        """Those of the keys that there are, at once."""
        ...

    def matching(
        self, global_webhook: str, selectors: Sequence[str]
    ) -> Mapping[str, Sequence[Subscription]]:
        """The subscriptions of every tenant that a global webhook's selectors mean, by selector."""
        ...

    def of_connection(self, connection: str) -> Sequence[Subscription]:
        """All that a connection has."""
        ...

    def add(self, subscription: Subscription) -> Subscription:
        """Keep a new one, unless the connection has one of its identity; gives what is there."""
        ...

    def keep(self, subscription: Subscription) -> None:
        """Keep it in the place of the one with its key, but for what the app gave of secrets."""
        ...

    def expect_secret(self, key: str, seconds: float | None) -> None:
        """Let the app give a secret, once, for so long from now on; None for no more."""
        ...

    def take_secret(self, key: str, secret: str) -> bool:
        """Keep the secret that an app gave; False, and nothing is kept, if none is expected.

        What it gave before is good for some minutes yet.
        """
        ...

    def drop(self, key: str) -> None:
        """Forget it."""
        ...


class Checkups(Protocol):
    """Whose subscriptions are to be looked at; each connection by one process at a time."""

    def expect(self, version: str) -> None:
        """Have all connections looked at that weren't under this version of the project."""
        ...

    def claim(self, version: str, most: int, seconds: float) -> Mapping[str, str]:
        """Claim connections that are due: their keys, each with the name of its claim.

        It costs the same however many aren't due.
        """
        ...

    def claim_one(self, connection: str, version: str, seconds: float) -> str | None:
        """Claim this one, due or not; None while someone else has it."""
        ...

    def renew(self, connection: str, claim: str, seconds: float) -> bool:
        """Keep the claim for so long from now on; False if it isn't ours any more."""
        ...

    def settle(self, connection: str, claim: str, due_at: float | None) -> None:
        """Let go; it's due again then, or at once if something about it changed meanwhile."""
        ...


@dataclass(frozen=True)
class ProductCall:
    """A request to the product's own API, for one tenant."""

    method: str
    url: str
    tenant: Tenant
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


class ProductApi(Protocol):
    """The product's own API."""

    def send(self, call: ProductCall) -> Any:
        """The body of its 2xx answer, None if there's none.

        Raises AppUnavailable, NotFound for a 404 or 410, or UnexpectedAnswer.
        """
        ...


@dataclass(frozen=True)
class ProductSubscription:
    """That the product was asked to tell of a tenant's internal events of one type.

    `version` is of the request that it was asked by, empty before; `state` what it answered. What
    is to be done is due at `due_at`, in seconds since 1970, None if nothing is.
    """

    tenant: str
    event: str
    version: str = ""
    state: Any = None
    attempts: int = 0
    error: str = ""
    due_at: float | None = None


class ProductSubscriptions(Protocol):
    """What the product was asked to tell of."""

    def of_tenant(self, tenant: str) -> Sequence[ProductSubscription]:
        """All of one tenant, by event."""
        ...

    def due(self, limit: int) -> Sequence[str]:
        """Tenants for whom something is due."""
        ...

    def touch(self, tenant: str) -> None:
        """Let all of the tenant be due: something may not be needed any more."""
        ...

    def claim(self, tenant: str, event: str, seconds: float) -> ProductSubscription | None:
        """One of them, made if there's none, for us alone for so long; None if it's another's."""
        ...

    def settle(self, subscription: ProductSubscription) -> None:
        """Keep it, and let go of it."""
        ...

    def drop(self, tenant: str, event: str) -> None:
        """Forget it."""
        ...
