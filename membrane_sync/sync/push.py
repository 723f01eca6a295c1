"""5 push: create, update or delete the product's records, and remember the links at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema, Table
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import DestinationError, Fatal
from membrane_sync.ports import DEFAULT_INSTANCE, Destination, Lake, Outcome, Owner
from membrane_sync.records import DeadLetter, Delivery, LinkKey, MappedRecord, Offset, Report
from membrane_sync.sync.link import Linked, intended_links, link, links_of
from membrane_sync.sync.store import Progress

BATCH = 1_000
SAMPLE = 100
"""So many linked rows are looked for, to see whether the table still holds what was written."""


def link_and_push(
    lake: Lake,
    destination: Destination,
    sync: Sync,
    table: DataLinkTable,
    schema: DataSchema,
    owner: Owner,
    report: Report,
    progress: Progress = lambda _v, _r: None,
    instance_key: str = DEFAULT_INSTANCE,
    *,
    look: bool = True,
) -> None:
    """Bring the mapped records that changed since the last time into the product's database.

    The database and the lake can't commit together. So new links are remembered first, then rows
    are written by keys that don't change, then links and offset are committed: after a crash in
    between, the same rows are written once more, to the same content, and none is forgotten. If
    the table or its database is another than the last time, or the rows are no longer there, all
    records are written. What was refused is tried once more by each run, after the rest. Without
    `look`, where nothing changed, nobody looks whether the rows are there.
    """
    if schema.table is None:
        raise DestinationError(
            f"data schema {schema.key!r} names no table", hint="add `table` to the data schema"
        )
    if sync.delete == "soft" and not schema.table.deleted_column:
        raise DestinationError(
            f"sync {sync.key!r} deletes softly, but table {schema.table.name!r} has no "
            "deleted_column",
            hint="add `deleted_column` to the data schema's table",
        )
    key = LinkKey(table.key, instance_key)
    destination.prepare(schema)
    offset = _offset(lake, sync, key, schema.table, destination.place)
    unchanged = not (look or lake.mapped(sync.key, offset.seq, 1))
    if offset.seq and not unchanged and _are_gone(lake, destination, sync, key, schema, owner):
        offset = replace(offset, seq=0)
        lake.keep_links(key, (), (), (), offset, ())
    for records, reached in _batches(lake, sync, offset):
        linked = link(lake, destination, sync, table, schema, owner, records, instance_key)
        if linked.new:
            lake.keep_links(key, intended_links(linked), (), (), offset, ())
        outcome = push(destination, sync, schema, owner, linked.deliveries)
        offset = reached
        gone = _gone(linked, outcome)
        dead = [*linked.dead_letters, *_refusals(sync, outcome)]
        handled = [record.external_id for record in records]
        links = links_of(linked.deliveries, outcome.written)
        unlink = [*gone, *sorted(linked.new & outcome.refused.keys())]
        lake.keep_links(key, links, unlink, dead, offset, handled)
        _count(report, linked, outcome, len(gone), len(dead))
        progress("push", report)


def push(
    destination: Destination,
    sync: Sync,
    schema: DataSchema,
    owner: Owner,
    deliveries: Sequence[Delivery],
) -> Outcome:
    """Write one batch; where the sync ignores deletions, rows stay."""
    if sync.delete == "ignore":
        kept = [delivery for delivery in deliveries if delivery.values is not None]
        return destination.write(schema, owner, kept)
    return destination.write(schema, owner, deliveries, soft=sync.delete == "soft")


def _offset(lake: Lake, sync: Sync, links: LinkKey, table: Table, place: str) -> Offset:
    """How far this table has been written; from the beginning if it's another.

    The version ends with the link table's key, to know it again after it was renamed.
    """
    shape = table.model_dump_json(exclude={"create"}) + place
    version = f"{hashlib.sha256(shape.encode()).hexdigest()[:16]}/{links.table}"
    offset = lake.offset(f"push:{sync.key}")
    former = offset.version.partition("/")[2]
    if former and former != links.table and _linked(lake, sync, replace(links, table=former)):
        raise Fatal(
            f"sync {sync.key!r} has its links in link table {former!r}, and now names "
            f"{links.table!r}: without them, each record would get a second row",
            hint=f"name {former!r} again: a link table that has links can't be renamed",
        )
    return offset if offset.version == version else Offset(offset.consumer, 0, version)


def _batches(
    lake: Lake, sync: Sync, offset: Offset
) -> Iterator[tuple[Sequence[MappedRecord], Offset]]:
    """What changed, then what an earlier run could not deliver; each with how far it brings us."""
    refused = lake.refused(sync.key, BATCH)
    again = [record for record in refused if record.seq <= offset.seq]
    while records := lake.mapped(sync.key, offset.seq, BATCH):
        offset = replace(offset, seq=records[-1].seq)
        yield records, offset
        if len(records) < BATCH:
            break
    if again:
        yield again, offset


def _are_gone(
    lake: Lake, destination: Destination, sync: Sync, key: LinkKey, schema: DataSchema, owner: Owner
) -> bool:
    """Was the table dropped or emptied? Some of the rows that it must have tell for all."""
    linked = _linked(lake, sync, key)
    return bool(linked) and not destination.holds(schema, owner, linked)


def _linked(lake: Lake, sync: Sync, key: LinkKey) -> list[str]:
    """The product's ids of a few mapped records that have links; empty if none has."""
    after = 0
    while records := lake.mapped(sync.key, after, SAMPLE):
        alive = [record.external_id for record in records if record.value is not None]
        if links := lake.links(key, alive):
            return [link.app_id for link in links.values()]
        after = records[-1].seq
    return []


def _gone(linked: Linked, outcome: Outcome) -> list[str]:
    return [
        delivery.external_id
        for delivery in linked.deliveries
        if delivery.values is None and delivery.external_id not in outcome.refused
    ]


def _refusals(sync: Sync, outcome: Outcome) -> list[DeadLetter]:
    return [
        DeadLetter("push", sync.key, external_id, "", reason)
        for external_id, reason in outcome.refused.items()
    ]


def _count(report: Report, linked: Linked, outcome: Outcome, gone: int, failed: int) -> None:
    report.linked += len(linked.new - outcome.refused.keys())
    report.unlinked += gone
    report.delivered += len(outcome.written)
    report.removed += len(outcome.removed)
    report.failed += failed
