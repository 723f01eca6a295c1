"""5 push: create, update or delete the product's records, and remember the links at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import DestinationError
from membrane_sync.ports import Destination, Lake, Outcome, Owner
from membrane_sync.records import DeadLetter, Delivery, LinkKey, MappedRecord, Report
from membrane_sync.sync.link import link, links_of
from membrane_sync.sync.store import Progress

BATCH = 1_000


def link_and_push(
    lake: Lake,
    destination: Destination,
    sync: Sync,
    table: DataLinkTable,
    schema: DataSchema,
    owner: Owner,
    report: Report,
    progress: Progress = lambda _v, _r: None,
) -> None:
    """Bring the mapped records that changed since the last time into the product's database.

    The database and the lake can't commit together. So rows are written first, by keys that don't
    change, and then links and offset in one transaction: after a crash in between, the same rows
    are written once more, to the same content.
    """
    if schema.table is None:
        raise DestinationError(
            f"data schema {schema.key!r} names no table", hint="add `table` to the data schema"
        )
    offset = lake.offset(f"push:{sync.key}")
    prepared = False
    while records := lake.mapped(sync.key, offset.seq, BATCH):
        if not prepared:
            destination.prepare(schema)
            prepared = True
        deliveries, dead = link(lake, destination, sync, table, schema, owner, records)
        outcome = push(destination, sync, schema, owner, deliveries)
        dead += _refusals(sync, outcome)
        offset = replace(offset, seq=records[-1].seq)
        links = links_of(deliveries, outcome.written)
        handled = [record.external_id for record in records]
        lake.keep_links(LinkKey(table.key), links, outcome.removed, dead, offset, handled)
        _count(report, records, outcome, dead)
        progress("push", report)


def push(
    destination: Destination,
    sync: Sync,
    schema: DataSchema,
    owner: Owner,
    deliveries: Sequence[Delivery],
) -> Outcome:
    """Write one batch; where the sync ignores deletions, rows stay and only links go."""
    if sync.delete != "ignore":
        return destination.write(schema, owner, deliveries, soft=sync.delete == "soft")
    kept = [delivery for delivery in deliveries if delivery.values is not None]
    gone = [delivery.external_id for delivery in deliveries if delivery.values is None]
    outcome = destination.write(schema, owner, kept)
    return replace(outcome, removed=[*outcome.removed, *gone])


def _refusals(sync: Sync, outcome: Outcome) -> list[DeadLetter]:
    return [
        DeadLetter("push", sync.key, external_id, "", reason)
        for external_id, reason in outcome.refused.items()
    ]


def _count(
    report: Report, records: Sequence[MappedRecord], outcome: Outcome, dead: Sequence[DeadLetter]
) -> None:
    report.linked += len(outcome.written)
    report.delivered += len(outcome.written)
    report.unlinked += len(outcome.removed)
    report.removed += len(outcome.removed)
    report.failed += len(dead)
