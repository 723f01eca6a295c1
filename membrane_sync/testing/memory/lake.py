"""The lake in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from membrane_sync.content import same_content
from membrane_sync.errors import Fatal, IncompleteScan
from membrane_sync.records import (
    Batch,
    Change,
    ChangeKind,
    DeadLetter,
    Known,
    Level,
    Link,
    LinkKey,
    MappedCounts,
    MappedRecord,
    Mark,
    Offset,
    Parent,
    RawRecord,
    StoreCounts,
)
from membrane_sync.testing.memory.below import Below
from membrane_sync.testing.memory.page_log import MemoryPageLog


@dataclass(frozen=True)
class _Entry:
    seq: int
    external_id: str
    kind: ChangeKind


class MemoryLake:
    """Implements `ports.Lake`; `writes` counts the rows it wrote, `dead_letters` holds them all.

    `schemas` are those that were declared for a stream.
    """

    def __init__(self) -> None:
        self.writes = 0
        self.dead_letters: list[DeadLetter] = []
        self._cursors: dict[str, Any] = {}
        self._records: dict[str, dict[str, RawRecord]] = {}
        self._feed: dict[str, list[_Entry]] = {}
        self._scans: dict[str, tuple[str, set[str]]] = {}
        self._before_scan: dict[str, int] = {}
        self._scanned_at: dict[str, datetime] = {}
        self._offsets: dict[str, Offset] = {}
        self._mapped: dict[str, dict[str, MappedRecord]] = {}
        self._links: dict[LinkKey, dict[str, Link]] = {}
        self._waiting: dict[str, set[str]] = {}
        self._tombstones: dict[str, set[tuple[str, str]]] = {}
        self._pages: dict[str, tuple[str, int | None]] = {}
        self._logs: dict[str, MemoryPageLog] = {}
        self._notes: dict[tuple[str, str], Any] = {}
        self.schemas: dict[str, Mapping[str, Any]] = {}
        self._marks: dict[str, dict[str, Mark]] = {}
        self._changed_at: dict[tuple[str, str], float] = {}
        self._below = Below()
        self._seq = 0

    def records(self, stream: str) -> dict[str, str]:
        """The payloads of the records that aren't deleted, by external id."""
        stored = self._records.get(stream, {})
        return {i: record.payload for i, record in stored.items() if not record.deleted}

    def cursor(self, stream: str) -> Any:
        return self._cursors.get(stream)

    def store(self, batch: Batch) -> StoreCounts:
        latest = {record.external_id: record for record in batch.records}
        if batch.part:
            told = self._tombstones.setdefault(batch.stream, set())
            latest = {i: r for i, r in latest.items() if (i, r.payload) not in told}
            told.update((record.external_id, record.payload) for record in batch.records)
        if batch.scan:
            self._before_scan.setdefault(batch.stream, self._seq)
        kinds = {i: self._keep(batch.stream, record, batch.ignored) for i, record in latest.items()}
        if batch.scan:
            refused = {letter.external_id for letter in batch.dead_letters}
            self._mark_seen(batch.stream, batch.scan, latest, refused)
        if batch.marks:
            self._keep_marks(batch.stream, batch.marks, latest)
        self._replace_dead_letters("pull", batch.stream, list(latest), batch.dead_letters)
        if batch.cursor is not None:
            self._cursors[batch.stream + batch.part] = batch.cursor
            self.writes += 1
        self.writes += self._below.keep(batch)
        if batch.reading:
            self._pages[batch.stream + batch.part] = (batch.reading, batch.pages)
        counted = list(kinds.values())
        return StoreCounts(
            created=counted.count("created"),
            updated=counted.count("updated"),
            deleted=counted.count("deleted"),
            unchanged=counted.count(None),
            failed=len({letter.external_id for letter in batch.dead_letters}),
            missed=sum(kinds.get(i) in ("created", "updated") for i in set(batch.known)),
        )

    def known(self, stream: str, external_ids: Sequence[str]) -> Mapping[str, Known]:
        stored, marks = self._records.get(stream, {}), self._marks.get(stream, {})
        found: dict[str, Known] = {}
        for name in external_ids:
            record, mark = stored.get(name), marks.get(name)
            if record is not None:
                changed_at = self._changed_at[stream, name]
                found[name] = Known(record.payload, record.deleted, changed_at, mark)
            elif mark is not None:
                found[name] = Known(mark=mark)
        return found

    def _keep_marks(
        self, stream: str, marks: Sequence[Mark], records: Mapping[str, RawRecord]
    ) -> None:
        at = datetime.now(UTC).timestamp()
        kept = self._marks.setdefault(stream, {})
        kept.update((mark.external_id, replace(mark, at=at)) for mark in marks)
        if stream in self._scans:
            scan, _ = self._scans[stream]
            self._mark_seen(stream, scan, records, set())
        self.writes += len(marks)

    def pages(self, stream: str, reading: str) -> int | None:
        name, pages = self._pages.get(stream, ("", 0))
        return pages if name == reading else 0

    def page_log(self, stream: str) -> MemoryPageLog:
        return self._logs.setdefault(stream, MemoryPageLog())

    def finish_scan(
        self,
        stream: str,
        scan: str,
        max_share: float,
        run_id: str,  # noqa: ARG002 – nothing here tells runs apart
        *,
        expected: int | None = None,
    ) -> StoreCounts:
        name, seen = self._scans.get(stream, ("", set()))
        if expected is not None and (len(seen) if name == scan else 0) < expected:
            raise IncompleteScan(
                f"the full scan of {stream} saw {len(seen)} of the {expected} records that the app "
                "says it has; nothing was deleted"
            )
        gone = [i for i in self.records(stream) if name != scan or i not in seen]
        self._refuse_mass_deletion(stream, gone, max_share)
        for external_id in gone:
            gone_one = self._records[stream][external_id]._replace(deleted=True)
            self._keep(stream, gone_one)
        self._scans.pop(stream, None)
        self._before_scan.pop(stream, None)
        self.note_scan(stream)
        return StoreCounts(deleted=len(gone))

    def note_scan(self, stream: str) -> None:
        self._scanned_at[stream] = datetime.now(UTC)
        name, _ = self._pages.get(stream, ("", 0))
        self._pages[stream] = (name, None)

    def parents(
        self, stream: str, above: Sequence[Level], *, since: int | None = None, reading: str = ""
    ) -> Collection[Parent]:
        records = {level.stream: self.records(level.stream) for level in above}
        changed = None if since is None else self._changed(above[0].stream, since)
        return self._below.parents(stream, above, records, changed, reading)

    def latest_change(self, stream: str, after: int = 0) -> int:
        return max([after, *self._changed(stream, after).values()])

    def orphan(
        self,
        stream: str,
        above: str,
        *,
        since: int | None,
        delete: bool,
        run_id: str,  # noqa: ARG002 – nothing here tells runs apart
    ) -> StoreCounts:
        gone = None if since is None else set(self._changed(above, since))
        alive = self.records(above)
        orphans = self._below.orphans(stream, gone, alive) & set(self.records(stream))
        for external_id in orphans if delete else ():
            record = self._records[stream][external_id]._replace(deleted=True)
            self._keep(stream, record)
        self._below.forget(stream, alive)
        return StoreCounts(deleted=len(orphans) if delete else 0)

    def move(self, offset: Offset) -> None:
        self._move(offset)

    def _changed(self, stream: str, after: int) -> dict[str, int]:
        return {e.external_id: e.seq for e in self._feed.get(stream, []) if e.seq > after}

    def scanned_at(self, stream: str) -> datetime | None:
        return self._scanned_at.get(stream)

    def note(self, stream: str, name: str) -> Any:
        return self._notes.get((stream, name))

    def keep_note(self, stream: str, name: str, value: Any) -> None:
        self._notes[stream, name] = json.loads(json.dumps(value))
        self.writes += 1

    def declare(self, stream: str, schema: Mapping[str, Any]) -> None:
        self.schemas[stream] = schema

    def changes(self, stream: str, after: int, limit: int) -> Sequence[Change]:
        alive = self.records(stream)
        entries = [entry for entry in self._feed.get(stream, []) if entry.seq > after][:limit]
        return [Change(e.seq, e.external_id, e.kind, alive.get(e.external_id)) for e in entries]

    def offset(self, consumer: str) -> Offset:
        return self._offsets.get(consumer, Offset(consumer))

    def keep_mapped(
        self,
        sync: str,
        records: Sequence[MappedRecord],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        schema: Mapping[str, Any],  # noqa: ARG002 – the JSON is all there is
        *,
        waiting: Sequence[str] = (),
    ) -> MappedCounts:
        latest = {record.external_id: record for record in records}
        handled = {*latest, *(letter.external_id for letter in dead_letters)}
        self._waiting[sync] = (self._waiting.get(sync, set()) - handled) | set(waiting)
        changed = [record for record in latest.values() if self._differs(sync, record)]
        for record in changed:
            present = self._mapped.setdefault(sync, {})
            present.pop(record.external_id, None)
            present[record.external_id] = replace(record, seq=self._next())
        self._replace_dead_letters("map", sync, list(latest), dead_letters)
        self._move(offset)
        deleted = sum(record.value is None for record in changed)
        return MappedCounts(len(changed) - deleted, len(latest) - len(changed), deleted)

    def mapped(self, sync: str, after: int, limit: int) -> Sequence[MappedRecord]:
        return [r for r in self._mapped.get(sync, {}).values() if r.seq > after][:limit]

    def waiting(self, sync: str, stream: str, after: str, limit: int) -> Sequence[Change]:
        alive = self.records(stream)
        ids = sorted(i for i in self._waiting.get(sync, set()) if i > after)[:limit]
        return [Change(0, i, "updated", alive.get(i)) for i in ids]

    def find_records(
        self, stream: str, fields: Sequence[Sequence[str | int]], values: Sequence[Sequence[str]]
    ) -> Sequence[str | None] | None:
        if stream not in self._records:
            return None
        found: dict[tuple[str | None, ...], str] = {}
        for external_id, payload in sorted(self.records(stream).items()):
            record = json.loads(payload)
            found.setdefault(tuple(_text_at(record, field) for field in fields), external_id)
        return [found.get(tuple(row)) for row in values]

    def refused(self, sync: str, limit: int) -> Sequence[MappedRecord]:
        ids = {
            letter.external_id
            for letter in self.dead_letters
            if letter.verb in ("link", "push") and letter.element == sync
        }
        return [r for r in self._mapped.get(sync, {}).values() if r.external_id in ids][:limit]

    def links(self, key: LinkKey, external_ids: Sequence[str]) -> Mapping[str, Link]:
        present = self._links.get(key, {})
        return {i: present[i] for i in external_ids if i in present}

    def linked_apps(self, key: LinkKey, app_ids: Sequence[str]) -> Mapping[str, str]:
        present = self._links.get(key, {}).values()
        return {link.app_id: link.external_id for link in present if link.app_id in app_ids}

    def keep_links(
        self,
        key: LinkKey,
        links: Sequence[Link],
        unlink: Sequence[str],
        dead_letters: Sequence[DeadLetter],
        offset: Offset,
        handled: Sequence[str],
    ) -> None:
        present = self._links.setdefault(key, {})
        for external_id in unlink:
            self.writes += present.pop(external_id, None) is not None
        present.update({link.external_id: link for link in links})
        self.writes += len(links)
        for verb in ("link", "push"):
            letters = [letter for letter in dead_letters if letter.verb == verb]
            self._replace_dead_letters(
                verb, offset.consumer.removeprefix("push:"), handled, letters
            )
        self._move(offset)

    def _keep(
        self, stream: str, record: RawRecord, ignored: Sequence[str] = ()
    ) -> ChangeKind | None:
        kind = self._kind(stream, record, ignored)
        if kind is not None:
            stored = self._records.setdefault(stream, {})
            before = stored.get(record.external_id)
            if record.deleted and before is not None:
                record = before._replace(deleted=True)
            stored[record.external_id] = record
            self._changed_at[stream, record.external_id] = datetime.now(UTC).timestamp()
            entry = _Entry(self._next(), record.external_id, kind)
            self._feed.setdefault(stream, []).append(entry)
        return kind

    def _kind(self, stream: str, record: RawRecord, ignored: Sequence[str]) -> ChangeKind | None:
        stored = self._records.get(stream, {}).get(record.external_id)
        if stored is None or stored.deleted:
            return None if record.deleted else "created"
        if record.deleted:
            return "deleted"
        same = same_content(stored.payload, record.payload, ignored)
        return None if same else "updated"

    def _mark_seen(
        self, stream: str, scan: str, records: Mapping[str, RawRecord], refused: set[str]
    ) -> None:
        name, seen = self._scans.get(stream, (scan, set()))
        present = {i for i, record in records.items() if not record.deleted} | refused
        self._scans[stream] = (scan, (seen if name == scan else set()) | present)

    def _differs(self, sync: str, record: MappedRecord) -> bool:
        stored = self._mapped.get(sync, {}).get(record.external_id)
        if record.value is None:
            return stored is not None and stored.value is not None
        return stored is None or stored.value is None or stored.hash != record.hash

    def _refuse_mass_deletion(self, stream: str, gone: Sequence[str], max_share: float) -> None:
        """Raise Fatal if more would go than the share of all records, or of those of old."""
        began = self._before_scan.get(stream, self._seq)
        entries = self._feed.get(stream, [])
        fresh = {e.external_id for e in entries if e.seq > began and e.kind == "created"}
        alive = self.records(stream).keys()
        for went, all_ in (({*gone} - fresh, alive - fresh), ({*gone}, alive)):
            if went and len(went) / len(all_) > max_share:
                raise Fatal(
                    f"the full scan of {stream} would delete {len(went)} of {len(all_)} records, "
                    f"more than its max_share of {max_share:.0%}; nothing was deleted"
                )

    def _next(self) -> int:
        self.writes += 1
        self._seq += 1
        return self._seq

    def _move(self, offset: Offset) -> None:
        self._offsets[offset.consumer] = offset
        self.writes += 1

    def _replace_dead_letters(
        self, verb: str, element: str, handled: Sequence[str], letters: Sequence[DeadLetter]
    ) -> None:
        ids = {*handled, *(letter.external_id for letter in letters)}
        self.dead_letters = [
            letter
            for letter in self.dead_letters
            if (letter.verb, letter.element) != (verb, element) or letter.external_id not in ids
        ]
        self.dead_letters += [replace(letter, element=element) for letter in letters]
        self.writes += len(letters)


def _text_at(record: Any, field: Sequence[str | int]) -> str | None:
    for step in field:
        held = record if isinstance(record, dict) else {}
        record = record[int(step)] if isinstance(record, list) else held.get(str(step))
    return record if record is None or isinstance(record, str) else json.dumps(record)
