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
    Known,
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

    def known(self, stream: str, external_ids: Sequence[str]) -> Mapping[str, Known]:
        """What is there of these records, and of the events that were applied to them."""
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
        and IncompleteScan is raised.
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
    the credentials, `expires_at` is when they end, in seconds since 1970. `refusals` is how often
    in a row the app has refused these credentials, as far as the connection was tried. The
    `secret_fields` of the input are kept like credentials, and only given with them. `account` is
    what the app calls the account, where the connector can tell.
    """

    key: str
    integration: str
    tenant: str
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connected_at: datetime | None = None
    option: str = ""
    status: ConnectionStatus = "ready"
    reason: str = ""
    version: int = 0
    expires_at: float | None = None
    refusals: int = 0
    secret_fields: Sequence[str] = ()
    account: str = ""

    @property
    def plain_input(self) -> dict[str, Any]:
        """The input that may be shown."""
        return {n: value for n, value in self.input.items() if n not in self.secret_fields}

    @property
    def secrets(self) -> dict[str, Any]:
        """All that must not be shown, the credentials included."""
        hidden = {n: value for n, value in self.input.items() if n in self.secret_fields}
        return {"credentials": dict(self.credentials), "input": hidden}


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
    def offers_device(self) -> bool:
        """Whether a user without a browser can be served: `begin_device`, then `poll_device`."""
        ...

    @property
    def refreshable(self) -> bool:
        """Whether `refresh` can give new credentials without the user."""
        ...

    def begin(self, redirect_uri: str, state: str, typed: Mapping[str, Any] = ...) -> Authorization:
        """Where to send the user; comes back to `redirect_uri` with the `state`.

        `typed` is what the user gave for the option's input_schema; it's kept with the credentials.
        """
        ...

    def finish(
        self, answer: Mapping[str, str], redirect_uri: str, kept: Mapping[str, Any]
    ) -> Issued:
        """The credentials, by what the user came back with: the callback's query parameters.

        Whether its `state` is the one that was sent is for the caller to check before.
        """
        ...

    def begin_device(self, typed: Mapping[str, Any] = ...) -> DeviceCode:
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
class Kept:
    """Credentials as they are kept, and how long they'll live by the ledger's clock.

    `seconds_left` is counted from when they were read, `lifetime` from when they were issued; both
    are None where the credentials don't end, or nobody knows when.
    """

    version: int
    credentials: Mapping[str, Any] = field(repr=False)
    seconds_left: float | None = None
    lifetime: float | None = None


@dataclass(frozen=True)
class Claim:
    """The right to refresh one version of a connection's credentials, which nobody else has now.

    `attempts` counts refreshes that failed in a row. It's `doubtful` where an earlier one may have
    been answered by the app without anyone having stored the answer.
    """

    connection: str
    id: str
    version: int
    credentials: Mapping[str, Any] = field(repr=False)
    attempts: int = 0
    doubtful: bool = False


@dataclass(frozen=True)
class Pending:
    """No claim is to be had before so many seconds: another process has it, or the app is down.

    `error` says how the last refresh failed; empty while one is going on.
    """

    seconds: float
    error: str = ""


class CredentialStore(Protocol):
    """Credentials that are refreshed by one process at a time, whichever needs them first."""

    def read(self, connection: str) -> Kept:
        """The newest credentials; raises NotConnected or SecretError."""
        ...

    def claim(
        self, connection: str, version: int, seconds: float, *, force: bool = False
    ) -> Claim | Kept | Pending:
        """Claim the refresh of a version for so many seconds; gives newer ones if there are any.

        A claim that ran out, or whose process is dead, is taken over. Raises Defunct where the
        connection needs to be connected anew; with `force`, it's tried all the same, and no pause
        after failures is kept to.
        """
        ...

    def commit(self, claim: Claim, issued: Issued) -> Kept | None:
        """Store new credentials under the next version; None if the claim stands no more.

        A connection that had to be connected anew is ready again.
        """
        ...

    def release(self, claim: Claim, *, wait: float, error: str, doubtful: bool) -> None:
        """Give a claim back after a failure; nobody gets the next one before `wait` seconds."""
        ...

    def revoke(self, connection: str, version: int, reason: str) -> bool:
        """Mark a ready connection as to be connected anew, if it has this version yet."""
        ...

    def refuse(self, connection: str, version: int, reason: str) -> bool:
        """Count that the app refused this version; those that come close together count as one.

        After several in a row the connection is marked as to be connected anew: then it's True.
        """
        ...

    def accept(self, connection: str) -> None:
        """Note that the app takes the credentials: those it refused before don't count."""
        ...


class LiveCredentials(Protocol):
    """A connection's credentials as they are now, for many threads and requests."""

    def current(self) -> Kept:
        """Credentials to send a request with, refreshed if they are about to end.

        Raises Defunct, or Retryable where they have ended and can't be refreshed now.
        """
        ...

    def refresh(self, used: int) -> bool:
        """See to it that there are others than those of version `used`, which the app refused.

        False if there are none and can be none. Raises Defunct or Retryable.
        """
        ...

    def accepted(self) -> None:
        """The app took them."""
        ...

    def refused(self, used: int, reason: str) -> None:
        """The app refused this version, and no refresh helped."""
        ...

    def revoked(self, used: int, reason: str) -> None:
        """The app said that nothing but connecting anew helps."""
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

    def living(self) -> Mapping[str, Sequence[str]]:
        """The keys of all connections that aren't archived, by integration; costs little."""
        ...

    def connection(self, key: str) -> ConnectionRecord:
        """One connection with its credentials; raises NotConnected or SecretError."""
        ...

    def known(self, key: str) -> ConnectionRecord:
        """One connection without its credentials, which needn't be readable; or NotConnected."""
        ...

    def connect(self, record: ConnectionRecord) -> None:
        """Create the connection, or replace its credentials and input; a paused one stays so."""
        ...

    def set_status(
        self,
        key: str,
        status: ConnectionStatus,
        reason: str = "",
        *,
        among: Collection[ConnectionStatus] | None = None,
    ) -> bool:
        """Note how the connection stands; False where it stands otherwise than `among` these.

        Looks and writes in one step. Raises NotConnected where there's none.
        """
        ...

    def archive(self, key: str, reason: str = "", *, version: int | None = None) -> bool:
        """Wipe its credentials, and note that it's archived; raises NotConnected.

        False where its credentials are others by now than those of the `version`, if one is given.
        Whoever has got new credentials meanwhile can't store them any more: the version rises.
        """
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
class Tenant:
    """One customer of the product; `fields` is what the product says of it."""

    key: str
    name: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


class Tenants(Protocol):
    """The product's customers, as its tokens and its backend tell of them."""

    def tenants(self, after: str, limit: int) -> Sequence[Tenant]:
        """The next tenants by key, after one of them, or after the empty text from the first."""
        ...

    def tenant(self, key: str) -> Tenant:
        """One tenant; raises NotFound."""
        ...

    def keep(
        self, key: str, *, name: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> Tenant:
        """The tenant, made if there's none; with this name and these fields where they're given."""
        ...

    def forget(self, key: str) -> None:
        """Forget what is said of it, and its events, but not its connections; raises NotFound."""
        ...


class TenantLedger(Protocol):
    """Connections as one tenant sees them: of another's it says that they aren't there.

    There's no way in it to name another tenant. Of the workspace, `tenant` is None: it sees all.
    """

    tenant: str | None

    def connections(
        self,
        after: str,
        limit: int,
        *,
        integration: str = "",
        status: ConnectionStatus | None = None,
    ) -> Sequence[ConnectionRecord]:
        """The next connections by key, after one of them or from the first, without credentials."""
        ...

    def connection(self, key: str) -> ConnectionRecord:
        """One connection without its credentials; raises NotConnected."""
        ...

    def opened(self, key: str) -> ConnectionRecord:
        """One connection with its credentials; raises NotConnected or SecretError."""
        ...

    def rename(self, key: str, name: str) -> None:
        """Give it another name for people; raises NotConnected."""
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

    def pause(self, key: str, seconds: float) -> None:
        """Let all who go by this key know that the app wants to be left alone for so long."""
        ...

    def paused(self, key: str) -> float:
        """For how many more seconds; what another process said may be a second old."""
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

    def replan(self, connection: str) -> None:
        """Have the connection's timetables looked at again: they may be others by now."""
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

    @property
    def newest(self) -> str:
        """The name of the key that seals now."""
        ...

    @property
    def known(self) -> Sequence[str]:
        """The names of all keys at hand, the newest first."""
        ...

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        """Encrypt; the text can only be opened for the same owner."""
        ...

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        """Decrypt; raises SecretError for a key that isn't at hand, and for another owner."""
        ...

    def key_of(self, sealed: str) -> str:
        """The name of the key that a text was sealed with; `?` if no vault of ours has."""
        ...

    def forget(self, sealed: str, owner: str) -> None:
        """Let go of what is kept elsewhere for a text that nobody needs any more."""
        ...


class SecretStore(Protocol):
    """A store of secrets outside: the setting `vault` names one.

    An `owner`'s `entry` is written once and never changes. Raises Retryable where the store can't
    be reached, and SecretError where it refuses.
    """

    def put(self, owner: str, entry: str, secrets: Mapping[str, Any]) -> None:
        """Keep an entry."""
        ...

    def get(self, owner: str, entry: str) -> Mapping[str, Any] | None:
        """What was kept; None if there's no such entry."""
        ...

    def delete(self, owner: str, entry: str) -> None:
        """Forget an entry, whether it's there or not."""
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


RequestStatus = Literal["pending", "success", "cancelled", "error"]


@dataclass(frozen=True)
class ConnectionRequest:
    """A product's request that a tenant connects an account; moments are seconds since 1970.

    `connection` is the key that the account gets, or has already. Whoever has the link may answer
    it; only a hash of what is secret in the link is kept. `error` is a stable word for what went
    wrong last. `browser` tells the browser that answers it, `origin` the page that opened the link
    as a popup.
    """

    id: str
    tenant: str
    integration: str
    connection: str
    token_hash: str = field(repr=False)
    created_at: float
    expires_at: float
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    option: str = ""
    redirect_uri: str = ""
    custom_state: str = ""
    status: RequestStatus = "pending"
    error: str = ""
    browser: str = ""
    origin: str = ""
    away_until: float = 0.0
    """The user was sent to the app's own page, and has until then to come back; 0 if not."""
    enters_code: bool = False
    """What the user is away for is to enter a code: nobody is sent back by the app."""


class ConnectionRequests(Protocol):
    """Requests to connect an account, and what is on its way of them."""

    def add(self, request: ConnectionRequest) -> None:
        """Keep a new one; those that ended long ago are forgotten."""
        ...

    def find(self, id: str) -> ConnectionRequest | None:
        """The request of this id."""
        ...

    def find_by_token(self, token_hash: str) -> ConnectionRequest | None:
        """The request that a link belongs to."""
        ...

    def opened_by(self, id: str, origin: str) -> None:
        """Note which page opened the link as a popup."""
        ...

    def claim(self, id: str, browser: str, now: float, seconds: float) -> bool:
        """Begin an attempt, if the request is pending and no other attempt is under way."""
        ...

    def release(self, id: str, error: str = "") -> None:
        """End an attempt that came to nothing."""
        ...

    def send_off(self, id: str, state_hash: str, until: float, kept: Mapping[str, Any]) -> None:
        """The user goes to the app, to be back `until` then with the state; ends the attempt."""
        ...

    def show_code(self, id: str, until: float, kept: Mapping[str, Any]) -> None:
        """The user has until then to enter a code at the app; ends the attempt."""
        ...

    def waiting(self, id: str, browser: str, now: float) -> Mapping[str, Any] | None:
        """What was kept for a code that isn't overdue, and shown to this browser; it stays kept."""
        ...

    def look(self, id: str, now: float, seconds: float) -> bool:
        """As `claim`, but what is kept for a code stays."""
        ...

    def take_back(
        self, state_hash: str, browser: str, now: float, seconds: float
    ) -> tuple[ConnectionRequest, Mapping[str, Any]] | None:
        """Whose state this is, and what was kept for it; begins an attempt.

        Each state is given out once, to the browser that was sent off with it; none that's
        overdue, or of a request that has ended.
        """
        ...

    def revoke(self, id: str, now: float) -> bool:
        """End the request for good, unless it has ended or an attempt is under way."""
        ...

    def settle(self, id: str, status: RequestStatus, error: str = "") -> bool:
        """End the request; False if it was ended before."""
        ...

    def attempts(self, subject: str, period: int) -> int:
        """Count one more attempt of the subject in a period of time, and say how many there are."""
        ...
