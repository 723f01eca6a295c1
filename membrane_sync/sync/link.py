"""4 link: which record of the product is this external record?"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.sync import Sync
from membrane_sync.ports import DEFAULT_INSTANCE, Destination, Lake, Owner
from membrane_sync.records import DeadLetter, Delivery, Link, LinkKey, MappedRecord

NAMESPACE = uuid.UUID("6f1c2f1e-2f0e-5b7a-9a53-1d6f3f1f0c11")
"""Namespace of the ids given to new records (RFC 9562, version 5)."""


@dataclass(frozen=True)
class Linked:
    """What to deliver, which external ids of it had no link before, and what can't be linked."""

    deliveries: Sequence[Delivery]
    new: frozenset[str]
    dead_letters: Sequence[DeadLetter]


def link(
    lake: Lake,
    destination: Destination,
    sync: Sync,
    table: DataLinkTable,
    schema: DataSchema,
    owner: Owner,
    records: Sequence[MappedRecord],
    instance_key: str = DEFAULT_INSTANCE,
) -> Linked:
    """A delivery for each mapped record, with the key of the product's record it corresponds to.

    In this order: the link it already has; the key that the mapping itself gives; the one row equal
    in the sync's match fields; else a new id. New ids derive from connection and external id, so
    that a crash between writing the row and writing its link can't make a second row.
    """
    key = LinkKey(table.key, instance_key)
    links = lake.links(key, [record.external_id for record in records])
    values = {r.external_id: json.loads(r.value) for r in records if r.value is not None}
    new = [i for i in values if i not in links]
    found = _matched(destination, sync, schema, owner, {i: values[i] for i in new})
    app_ids = {i: link.app_id for i, link in links.items()}
    rows = _Rows(sync.match)
    for external_id, value in values.items():
        app_ids[external_id] = (
            app_ids.get(external_id)
            or _given_key(schema, value)
            or rows.equal(value, found.get(external_id))
            or new_id(owner.connection, table.key, external_id, instance_key)
        )
        rows.write(value, app_ids[external_id])
    gone = {record.external_id for record in records if record.value is None}
    taken = _taken(lake, key, {i: app_ids[i] for i in new}, gone) if table.one_to_one else {}
    dead = [_taken_letter(sync, i, app_ids[i], other) for i, other in taken.items()]
    deliveries = _deliveries(records, values, app_ids, set(taken))
    return Linked(deliveries, frozenset(new) - taken.keys(), dead)


class _Rows:
    """The rows as a batch's records leave them, one after another.

    A record finds a row by `match` whether the row was written in its own batch or before it, so
    that where a batch ends makes no difference.
    """

    def __init__(self, match: Sequence[str]) -> None:
        self._match = match
        self._ids: dict[str, str] = {}
        self._values: dict[str, str] = {}

    def write(self, value: Mapping[str, Any], app_id: str) -> None:
        text = self._text(value)
        if self._ids.get(self._values.get(app_id, "")) == app_id:
            del self._ids[self._values[app_id]]
        self._values[app_id] = text
        if text:
            self._ids.setdefault(text, app_id)

    def equal(self, value: Mapping[str, Any], found: str | None) -> str | None:
        """The row with this value in the match fields; `found` is the one in the database."""
        text = self._text(value)
        if text in self._ids:
            return self._ids[text]
        return found if found is not None and self._values.get(found, text) == text else None

    def _text(self, value: Mapping[str, Any]) -> str:
        """The values to be equal in; empty if one is missing, for that equals nothing."""
        values = [value.get(field) for field in self._match]
        if not values or any(v is None or isinstance(v, dict | list) for v in values):
            return ""
        return json.dumps(values)


def new_id(
    connection: str, table: str, external_id: str, instance_key: str = DEFAULT_INSTANCE
) -> str:
    """The id of a new record: always the same for the same external record of an instance."""
    instance = [] if instance_key == DEFAULT_INSTANCE else [instance_key]
    return str(uuid.uuid5(NAMESPACE, json.dumps([connection, table, external_id, *instance])))


def intended_links(linked: Linked) -> list[Link]:
    """The new links, to be remembered before their rows are written."""
    return [Link(d.external_id, d.app_id) for d in linked.deliveries if d.external_id in linked.new]


def links_of(deliveries: Sequence[Delivery], written: Sequence[str]) -> list[Link]:
    """The links to remember for what the destination took."""
    taken = set(written)
    return [
        Link(d.external_id, d.app_id, external_hash=d.hash, app_hash=d.hash)
        for d in deliveries
        if d.values is not None and d.external_id in taken
    ]


def _deliveries(
    records: Sequence[MappedRecord],
    values: Mapping[str, Any],
    app_ids: Mapping[str, str],
    refused: set[str],
) -> list[Delivery]:
    deliveries = []
    for record in records:
        app_id = app_ids.get(record.external_id)
        if app_id is not None and record.external_id not in refused:
            value = values.get(record.external_id)
            delivery = Delivery(record.external_id, app_id, value, record.hash, record.seq)
            deliveries.append(delivery)
    return deliveries


def _given_key(schema: DataSchema, value: Mapping[str, Any]) -> str | None:
    assert schema.table is not None
    given = value.get(schema.table.key)
    return None if given is None or given == "" else str(given)


def _matched(
    destination: Destination,
    sync: Sync,
    schema: DataSchema,
    owner: Owner,
    values: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Rows in the product's database that are equal in the match fields."""
    if not sync.match or not values:
        return {}
    keys = destination.match(schema, owner, sync.match, list(values.values()))
    return {i: app_id for i, app_id in zip(values, keys, strict=True) if app_id is not None}


def _taken(lake: Lake, key: LinkKey, wanted: Mapping[str, str], gone: set[str]) -> dict[str, str]:
    """External ids whose record of the product already belongs to another external record.

    Not to one that is gone: what was deleted and made anew over there takes the record over.
    """
    linked = lake.linked_apps(key, list(wanted.values()))
    owners = {app_id: owner for app_id, owner in linked.items() if owner not in gone}
    taken: dict[str, str] = {}
    for external_id, app_id in wanted.items():
        owner = owners.setdefault(app_id, external_id)
        if owner != external_id:
            taken[external_id] = owner
    return taken


def _taken_letter(sync: Sync, external_id: str, app_id: str, other: str) -> DeadLetter:
    reason = (
        f"record {app_id} of the product is already linked to external record {other}, and the "
        "link table is one_to_one"
    )
    return DeadLetter("link", sync.key, external_id, "", reason, app_id)
