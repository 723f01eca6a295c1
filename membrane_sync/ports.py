"""All that the core needs from outside, on one page.

`clients/` and `stores/` implement these; `bootstrap.py` alone knows which stands behind which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.records import (
    Answer,
    Batch,
    Call,
    Change,
    DeadLetter,
    Delivery,
    Link,
    LinkKey,
    MappedCounts,
    MappedRecord,
    Offset,
    Report,
    StoreCounts,
)


class Api(Protocol):
    """The external app, as one connection reaches it."""

    requests: int
    """How many requests were sent, repeats included."""

    def send(self, call: Call) -> Answer:
        """Send a call and return the app's 2xx answer; waits out rate limits and hiccups.

        Raises NotAuthorized, RateLimited, AppUnavailable or UnexpectedAnswer.
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

    def answers(self) -> Iterator[tuple[str, Answer]]:
        """The kept answers in their order, each with the name of its call."""
        ...

    def begin(self, header: Mapping[str, Any]) -> None:
        """Begin anew: what was kept before is gone."""
        ...

    def keep(self, call: str, answer: Answer) -> None:
        """Keep one more answer; once it returns, a killed process doesn't take it along."""
        ...

    def shorten(self, answers: int) -> None:
        """Keep only the first so many."""
        ...

    def clear(self) -> None:
        """Forget all of it."""
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

    def pages(self, stream: str, reading: str) -> int:
        """How many pages of this reading are committed."""
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

    def scanned_at(self, stream: str) -> datetime | None:
        """When the stream's last complete full scan was finished; None before the first."""
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
    ) -> MappedCounts:
        """Write mapped records that differ from what is there, dead letters and the offset."""
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


@dataclass(frozen=True)
class ConnectionRecord:
    """A connection as the ledger knows it; `credentials` are decrypted and never shown."""

    key: str
    integration: str
    tenant: str
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connected_at: datetime | None = None


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

    def last_runs(self) -> Sequence[RunRecord]:
        """The newest run of each connection and sync."""
        ...


class Vault(Protocol):
    """Keeps secrets unreadable at rest."""

    def seal(self, secrets: Mapping[str, Any], owner: str) -> str:
        """Encrypt; the text can only be opened for the same owner."""
        ...

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        """Decrypt; raises SecretError for another key or owner."""
        ...


class Locks(Protocol):
    """Keeps two runs of one connection apart."""

    def hold(self, connection: str, what: str) -> AbstractContextManager[None]:
        """Hold the connection; waits a bounded time, then LockTimeout names the holder."""
        ...
