"""How many webhooks came to which endpoint, counted by all servers in the ledger's database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from membrane_sync.ports.event_log import WebhookCount
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import webhook_counts
from membrane_sync.stores.sql_insert import inserting

_NUMBERS = (
    *("received", "duplicates", "unmatched", "failed", "challenges", "refused", "unavailable"),
)
LONGEST_REASON = 500


class SqlWebhookCounts:
    """Implements `ports.event_log.WebhookCounts`."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def add(self, counts: Sequence[WebhookCount]) -> None:
        if not counts:
            return
        moment = time.time()
        # In one order for everybody, so that two servers don't wait for one another.
        rows = [_row(count, moment) for count in sorted(counts, key=lambda one: one.endpoint)]
        with self._database.begin() as transaction:
            insert = inserting(transaction)(webhook_counts)
            given, there = insert.excluded, webhook_counts.c
            changes: dict[str, Any] = {name: there[name] + given[name] for name in _NUMBERS}
            is_refused = given.refused > 0
            for name in ("last_refused_at", "last_reason"):
                changes[name] = sa.case((is_refused, given[name]), else_=there[name])
            changes["changed_at"] = given.changed_at
            upsert = insert.on_conflict_do_update(index_elements=[there.endpoint], set_=changes)
            transaction.execute(upsert, rows)

    def counts(self, after: str, limit: int) -> Sequence[WebhookCount]:
        query = sa.select(webhook_counts).where(webhook_counts.c.endpoint > after)
        with self._database.begin() as transaction:
            found = transaction.execute(query.order_by(webhook_counts.c.endpoint).limit(limit))
            rows = [dict(row._mapping) for row in found]
        return [WebhookCount(**{n: v for n, v in r.items() if n != "changed_at"}) for r in rows]


def _row(count: WebhookCount, moment: float) -> dict[str, Any]:
    return {
        **asdict(count),
        "last_reason": count.last_reason[:LONGEST_REASON],
        "changed_at": moment,
    }
