"""What was read of the app: records, changes and cursors, committed together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from membrane_sync.records import (
    Answer,
    Batch,
    Change,
    DeadLetter,
    Known,
    Level,
    Link,
    LinkKey,
    MappedCounts,
    MappedRecord,
    Offset,
    Parent,
    StoreCounts,
)


class PageLog(Protocol):
    """The answers of one reading that isn't finished yet, so that another process can go on."""

    def begun(self) -> dict[str, Any] | None:
        """How the reading began; None if none was left unfinished."""
        ...

    def kept_at(self) -> datetime | None:
        """When something was last kept; None if nothing is."""
        ...

    def answers(self, after: int = 0) -> Iterator[tuple[str, Answer]]:
        """The kept answers `after` so many in their order, each with the name of its call."""
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
