"""All that the core needs from outside, on one page.

`clients/` and `stores/` implement these; `bootstrap.py` alone knows which stands behind which.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.records import (
    Answer,
    Batch,
    Call,
    Change,
    DeadLetter,
    Delivery,
    Level,
    Link,
    LinkKey,
    MappedCounts,
    MappedRecord,
    Offset,
    Parent,
    Report,
    StoreCounts,
)


class Api(Protocol):
    """The external app, as one connection reaches it."""

    requests: int
    """How many requests were sent, repeats included."""

    skipped: int
    """How many answers were passed over by an error rule."""

    quota_left: int | None
    """How many requests the app allows yet, by its last word on it; None if it doesn't say."""

    def send(self, call: Call) -> Answer:
        """Send a call and return the app's 2xx answer; waits out rate limits and hiccups.

        A 304 comes back where the call has If-None-Match or If-Modified-Since. Raises
        NotAuthorized, Defunct, RateLimited, AppUnavailable or UnexpectedAnswer.
        """
        ...

    def close(self) -> None:
        """Give back the sockets."""
        ...


class PageLog(Protocol):
    """The answers of one reading that isn't finished yet, so that another process can go on."""

    def begun(self) -> dict[str, Any] | None:
        """How the reading began; None if none was left unfinished."""
        ...

    def kept_at(self) -> datetime | None:
        """When something was last kept; None if nothing is."""
        ...

    def answers(self) -> Iterator[tuple[str, Answer]]:
        """The kept answers in their order, each with the name of its call."""
        ...

    def begin(self, header: Mapping[str, Any], answers: Iterable[tuple[str, Answer]] = ()) -> None:
        """Begin anew, with these answers; what was kept before is gone. All of it, or nothing."""
        ...

    def keep(self, call: str, answer: Answer) -> None:
        """Keep one more answer; once it returns, a killed process doesn't take it along.

        Where there's no room for it, this answer and all later ones aren't kept, and the reading
        goes on.
        """
        ...

    def shorten(self, answers: int) -> None:
        """Keep only the first so many."""
        ...

    def clear(self) -> None:
        """Forget all of it."""
        ...

    def close(self) -> None:
        """Let go of it; what is kept stays."""
        ...


class Lake(Protocol):
    """One connection's records, cursors, mapped records, links and dead letters.

    Each method that writes is one transaction: all of it is there after a crash, or none.
    """

    def cursor(self, stream: str) -> Any:
        """The stored cursor of a stream; None before its first sync."""
        ...

    def store(self, batch: Batch) -> StoreCounts:
        """Write a page's records, their changes, its dead letters and its cursor."""
        ...

    def pages(self, stream: str, reading: str) -> int | None:
        """How many pages of this reading are committed; None if it was a scan that is finished."""
        ...

    def page_log(self, stream: str) -> PageLog:
        """Where a reading of the stream keeps the answers that another process would need."""
        ...

    def finish_scan(
        self,
        stream: str,
        scan: str,
        max_share: float,
        run_id: str,
        *,
        expected: int | None = None,
    ) -> StoreCounts:
        """Delete what a complete full scan didn't see; raises Fatal if that's over `max_share`.

        A single record may always go, whatever its share. `expected` is how many records the app
        said it has, the least that it said while it was read: with fewer seen, nothing is deleted,
        and Retryable is raised.
        """
        ...

    def note_scan(self, stream: str) -> None:
        """Note that a full scan by which nothing is deleted came to its end."""
        ...

    def parents(
        self, stream: str, above: Sequence[Level], *, since: int | None = None, reading: str = ""
    ) -> Collection[Parent]:
        """The records that the stream's lists are below, those that aren't deleted, by their ids.

        `above` are the levels from the nearest on. Those that the `reading` is done with are left
        out. With `since`, a place in the change feed, only those are given that changed after it
        and after their list was read, or whose list wasn't read to its end. What is given can be
        gone through while the lake is written.
        """
        ...

    def latest_change(self, stream: str, after: int = 0) -> int:
        """The feed's newest entry of a stream; `after` if there's none after it."""
        ...

    def orphan(
        self, stream: str, above: str, *, since: int | None, delete: bool, run_id: str
    ) -> StoreCounts:
        """Forget parents that are gone from the stream `above`, and delete their children.

        With `since`, of those that changed after this place in the feed; else of all. Without
        `delete`, the children stay as they are.
        """
        ...

    def move(self, offset: Offset) -> None:
        """Write how far a consumer of the feed has come."""
        ...

    def scanned_at(self, stream: str) -> datetime | None:
        """When the stream's last complete full scan was finished; None before the first."""
        ...

    def note(self, stream: str, name: str) -> Any:
        """A small value that was kept beside a stream; None if there's none of this name."""
        ...

    def keep_note(self, stream: str, name: str, value: Any) -> None:
        """Keep a value, of JSON's types, in the place of the last one; None drops it."""
        ...

    def declare(self, stream: str, schema: Mapping[str, Any]) -> None:
        """From now on the stream's records have these fields; those that are there, too."""
        ...

    def changes(self, stream: str, after: int, limit: int) -> Sequence[Change]:
        """The next entries of the change feed, oldest first, with the records' present payload."""
        ...

    def offset(self, consumer: str) -> Offset:
        """How far a consumer has come; seq 0 at first."""
        ...

    def keep_mapped(
        self,
        sync: str,
        records: Sequence[MappedRecord],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        schema: Mapping[str, Any],
        *,
        waiting: Sequence[str] = (),
    ) -> MappedCounts:
        """Write mapped records that differ from what is there, dead letters and the offset.

        Of these records, those of `waiting` are remembered as to be mapped again, others no more.
        """
        ...

    def waiting(self, sync: str, stream: str, after: str, limit: int) -> Sequence[Change]:
        """The next records to be mapped again, by their ids from `after` on; their seq is 0."""
        ...

    def find_records(
        self, stream: str, fields: Sequence[Sequence[str | int]], values: Sequence[Sequence[str]]
    ) -> Sequence[str | None] | None:
        """For each row of values, the id of the record that has them, as texts, in these fields.

        Fields are steps into the record. Of several records it is the oldest in the lake; deleted
        ones are left out. None if the stream was never stored.
        """
        ...

    def mapped(self, sync: str, after: int, limit: int) -> Sequence[MappedRecord]:
        """The next mapped records by seq, deleted ones included."""
        ...

    def refused(self, sync: str, limit: int) -> Sequence[MappedRecord]:
        """Mapped records with a dead letter of link or push, by seq."""
        ...

    def links(self, key: LinkKey, external_ids: Sequence[str]) -> Mapping[str, Link]:
        """The links of these external records."""
        ...

    def linked_apps(self, key: LinkKey, app_ids: Sequence[str]) -> Mapping[str, str]:
        """The external id that each of these app ids is linked to."""
        ...

    def keep_links(
        self,
        key: LinkKey,
        links: Sequence[Link],
        unlink: Sequence[str],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        handled: Sequence[str],
    ) -> None:
        """Write and remove links, dead letters and the offset; `handled` are the ids it's about."""
        ...


@dataclass(frozen=True)
class Owner:
    """Whose rows are written: fills the tenant and connection columns."""

    tenant: str
    connection: str


@dataclass(frozen=True)
class Outcome:
    """What a destination did with a batch: ids it took, and what it refused, by external id."""

    written: Sequence[str] = ()
    removed: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Destination(Protocol):
    """A database of the product."""

    @property
    def place(self) -> str:
        """Tells databases apart, without user and password: another one gets all records."""
        ...

    def prepare(self, schema: DataSchema) -> None:
        """Make sure the table is there and has the schema's columns, or raise DestinationError."""
        ...

    def match(
        self,
        schema: DataSchema,
        owner: Owner,
        fields: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Sequence[str | None]:
        """For each row, the key of the one existing row equal in all `fields`, or None.

        Rows of other tenants and connections are left out.
        """
        ...

    def holds(self, schema: DataSchema, owner: Owner, app_ids: Sequence[str]) -> bool:
        """Is any row with one of these keys there?"""
        ...

    def write(
        self,
        schema: DataSchema,
        owner: Owner,
        deliveries: Sequence[Delivery],
        *,
        soft: bool = False,
    ) -> Outcome:
        """Delete, then upsert, by key, in one transaction; what it refuses holds up nothing else.

        A row that belongs to another tenant or connection is refused; one without a connection
        belongs to whoever writes it. Of one external id twice, the last counts.
        """
        ...


ConnectionStatus = Literal["ready", "paused", "reconnect_needed", "archived"]
"""Whether a connection's syncs run; only a `ready` one's do.

`paused` by a person, `reconnect_needed` since its credentials are of no use any more, `archived`
when it was disconnected: then its credentials are gone, and its key stays taken.
"""


@dataclass(frozen=True)
class ConnectionRecord:
    """A connection as the ledger knows it; `credentials` are decrypted and never shown.

    `option` is the key of the connector's authentication option, empty for the connector's only
    one; `reason` says in words why the status isn't `ready`. `version` rises with each change of
    the credentials, `expires_at` is when they end, in seconds since 1970.
    """

    key: str
    integration: str
    tenant: str
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connected_at: datetime | None = None
    option: str = ""
    status: ConnectionStatus = "ready"
    reason: str = ""
    version: int = 0
    expires_at: float | None = None


@dataclass(frozen=True)
class Issued:
    """Credentials that an app has just given out, or that were typed in.

    `expires_in` is in seconds from when they came; None where they don't end, or nobody knows when.
    """

    credentials: Mapping[str, Any] = field(repr=False)
    expires_in: float | None = None


@dataclass(frozen=True)
class Authorization:
    """An authorization that a user has to give in a browser, at `url`.

    `kept` is what `finish` needs once the user is back (the PKCE verifier, a request token): it's
    secret, and belongs to the one who began.
    """

    url: str
    kept: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class DeviceCode:
    """A code that a user types in at `verification_url`, within `expires_in` seconds."""

    user_code: str
    verification_url: str
    expires_in: float
    interval: float
    """Seconds to leave between two calls of `poll_device`."""
    complete_url: str = ""
    """The same address with the code in it, where the app gives one."""
    kept: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Authenticator(Protocol):
    """One way to authenticate, ready to get credentials for one connection's input.

    All raise NotAuthorized where the app refuses (Defunct where nothing but connecting anew helps),
    Retryable where it can't be asked now, and Fatal where the integration lacks a parameter.
    """

    @property
    def needs_browser(self) -> bool:
        """Whether the user has to go to the app's own page: `begin`, then `finish`."""
        ...

    @property
    def refreshable(self) -> bool:
        """Whether `refresh` can give new credentials without the user."""
        ...

    def begin(self, redirect_uri: str, state: str) -> Authorization:
        """Where to send the user; comes back to `redirect_uri` with the `state`."""
        ...

    def finish(
        self, answer: Mapping[str, str], redirect_uri: str, kept: Mapping[str, Any]
    ) -> Issued:
        """The credentials, by what the user came back with: the callback's query parameters.

        Whether its `state` is the one that was sent is for the caller to check before.
        """
        ...

    def begin_device(self) -> DeviceCode:
        """Start an authorization on a device without a browser."""
        ...

    def poll_device(self, code: DeviceCode) -> Issued | float:
        """The credentials, or the seconds until one may ask again."""
        ...

    def issue(self, typed: Mapping[str, Any]) -> Issued:
        """Credentials that take no browser: typed in, or got for it by a call (log in, grant)."""
        ...

    def refresh(self, credentials: Mapping[str, Any]) -> Issued:
        """New credentials for old ones, wholly: what doesn't change is in them, too.

        Called by one process at a time for a connection. Raises Defunct where the app says that the
        old ones are of no use any more.
        """
        ...

    def disconnect(self, credentials: Mapping[str, Any]) -> None:
        """Tell the app that they are no longer used, if it can be told."""
        ...


@dataclass(frozen=True)
class RunRecord:
    """One sync of one connection, finished or not; `error` is empty if it went well."""

    id: str
    connection: str
    sync: str
    started_at: datetime
    finished_at: datetime | None = None
    report: Report | None = None
    error: str = ""


DEFAULT_INSTANCE = "default"
"""The instance of an element that a connection has, unless it asks for more of them by name."""


@dataclass(frozen=True)
class Override:
    """A value that a connection has of its own, set at run time, over what the files say.

    An element is identified by kind, key, connection and `instance_key`. `path` holds keys alone;
    an item of a list whose items have keys is named by its own. `parent` is the hash of what the
    files said at the path when it was made, so that a change on both sides can be told.
    """

    connection: str
    kind: str
    key: str
    path: tuple[str, ...]
    value: Any = None
    removed: bool = False
    parent: str = ""
    instance_key: str = DEFAULT_INSTANCE
    made_at: datetime | None = None


class Ledger(Protocol):
    """Connections, their encrypted credentials, their overrides, and runs."""

    def connections(self, integration: str = "") -> Sequence[ConnectionRecord]:
        """All connections, in order of key, without credentials."""
        ...

    def connection(self, key: str) -> ConnectionRecord:
        """One connection with its credentials; raises NotConnected or SecretError."""
        ...

    def connect(self, record: ConnectionRecord) -> None:
        """Create the connection, or replace its credentials and input."""
        ...

    def set_status(self, key: str, status: ConnectionStatus, reason: str = "") -> None:
        """Note how the connection stands; raises NotConnected where there's none."""
        ...

    def disconnect(self, key: str) -> None:
        """Forget the connection, its credentials and its overrides; raises NotConnected."""
        ...

    def overrides(self, connection: str) -> Sequence[Override]:
        """All overrides of a connection, in order of kind, key, instance and path."""
        ...

    def override(self, connection: str, overrides: Sequence[Override]) -> None:
        """Keep them, all or none; each takes the place of those at its path and below it.

        Raises NotConnected.
        """
        ...

    def reset_overrides(
        self,
        connection: str,
        kind: str,
        key: str,
        path: Sequence[str] = (),
        instance_key: str = DEFAULT_INSTANCE,
    ) -> int:
        """Drop those at a path and below it, or all of the element; gives how many there were."""
        ...

    def record_run(self, run: RunRecord) -> None:
        """Write a run's beginning, and the same run again at its end."""
        ...

    def record_runs(self, runs: Sequence[RunRecord]) -> None:
        """Write several runs in one transaction."""
        ...

    def run(self, id: str, sync: str, connection: str) -> RunRecord | None:
        """One run; None if there is none."""
        ...

    def forget_runs(self, before: datetime) -> int:
        """Forget runs that began earlier, but for the newest of each connection and sync."""
        ...

    def last_runs(self) -> Sequence[RunRecord]:
        """The newest run of each connection and sync."""
        ...


@dataclass(frozen=True)
class Quota:
    """A number of requests that all who name the same `key` share, in any `per_seconds`.

    With a `burst` it's paced: requests are spread evenly, but for so many after a pause. Without
    one it's counted: requests go as they come until it's used up.
    """

    key: str
    requests: int
    per_seconds: float
    burst: int | None = None

    @property
    def kept_for_late(self) -> int:
        """How many of the burst aren't granted, so that requests may leave as many slots late."""
        return min(2, (self.burst or 0) // 2)


Priority = Literal["interactive", "bulk"]


@dataclass(frozen=True)
class Party:
    """Who asks: parties of the same weight get equal shares of a quota that is short."""

    tenant: str
    priority: Priority = "bulk"


@dataclass(frozen=True)
class Grant:
    """Leave to send `count` requests: the first in `wait` seconds, then one every `every` seconds.

    With a `count` of 0 there's none now: ask again in `wait` seconds.
    """

    count: int
    wait: float
    every: float = 0.0
    reason: str = ""


class Quotas(Protocol):
    """Who may send when, agreed among all processes."""

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        """Leave to send up to `count` requests under all the quotas at once."""
        ...

    def give_back(self, quotas: Sequence[Quota], count: int) -> None:
        """Return requests of a grant that won't be sent."""
        ...

    def hold(self, quotas: Sequence[Quota], seconds: float) -> None:
        """Grant nothing under these quotas before so many seconds have passed."""
        ...


@dataclass(frozen=True)
class Timetable:
    """When a sync is due: every so many seconds, or by a cron expression."""

    sync: str
    every_seconds: int | None = None
    cron: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class DueItem:
    """One sync of one connection that a batch has claimed; `attempts` counts this one too."""

    connection: str
    timetable: Timetable
    attempts: int
    finished_at: datetime | None = None
    """When it was last finished, in one way or another."""

    @property
    def sync(self) -> str:
        """The sync's key."""
        return self.timetable.sync


@dataclass(frozen=True)
class Settled:
    """What became of a claimed item: when it's due again, and how it went, in one word."""

    connection: str
    sync: str
    due_at: float
    attempts: int
    result: str


class Due(Protocol):
    """What is due when, for all syncs of all connections; moments are seconds since 1970."""

    def unplanned(self, version: str, limit: int) -> Sequence[ConnectionRecord]:
        """Connections that are new, or whose timetables may be others since they were planned."""
        ...

    def plan(self, connection: str, tables: Sequence[Timetable], version: str) -> None:
        """Keep a row for each of the connection's timetables, and no other row."""
        ...

    def claim(self, most: int, batch_size: int, seconds: float) -> Sequence[str]:
        """Claim what is due for `seconds`, oldest first; gives the names of the new batches.

        All of one connection's items are in one batch. One whose claim ran out more than once may
        be what kills its batches: its connection gets a batch of its own.
        """
        ...

    def items(self, batch: str) -> Sequence[DueItem]:
        """The items that the batch still has claimed, by connection and sync."""
        ...

    def renew(self, batch: str, seconds: float) -> None:
        """Claim what the batch has not settled yet for so much longer."""
        ...

    def settle(self, batch: str, settled: Sequence[Settled]) -> None:
        """Give items back, unless another batch has claimed them meanwhile."""
        ...


class Vault(Protocol):
    """Keeps secrets unreadable at rest."""

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        """Encrypt; the text can only be opened for the same owner."""
        ...

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        """Decrypt; raises SecretError for another key or owner."""
        ...


class Lease(Protocol):
    """The right to write for a connection, held by one process until it's released or runs out."""

    connection: str
    epoch: int
    """Higher at each acquisition, for ever."""
    taken_over: bool
    """The last holder never released it: it's dead, or it may wake up and write."""

    def check(self) -> None:
        """Renew it; raises Fenced if another process has taken it over."""
        ...


class Leases(Protocol):
    """Keeps two runs of one connection apart, also if one of them is frozen and wakes up late."""

    def hold(
        self, connection: str, purpose: str, wait_seconds: float
    ) -> AbstractContextManager[Lease]:
        """Hold the connection, and renew it in the background.

        Waits for others, then raises LockTimeout, which names the holder. A holder that's dead, or
        did not renew in time, is taken over.
        """
        ...
