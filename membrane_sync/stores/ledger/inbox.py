"""Events that wait in the ledger's database, a queue for each connection.

A queue's row is locked by whoever adds events to it and by whoever lets go of it, so that it's due
whenever one of its events is. To claim is to look at queues, not at events: it costs the same
however many wait, or were there.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from membrane_sync.errors import LockTimeout
from membrane_sync.ports.events import Arrival, Bookmark, Event, EventQueue, Failure, Put, Webhook
from membrane_sync.stores.ledger.bulk import among, inserted, upserted
from membrane_sync.stores.ledger.connection_table import resting
from membrane_sync.stores.ledger.database import LedgerDatabase
from membrane_sync.stores.ledger.event_tables import (
    event_queues,
    event_workers,
    events,
    outboxes,
    seen_events,
    webhooks,
)
from membrane_sync.stores.ledger.leases import now
from membrane_sync.stores.sql_insert import inserting

Item = TypeVar("Item")

SETTLED_AT_ONCE = 500
"""Ids in one statement; databases bound the number of its parameters."""

LONGEST_ERROR = 2_000

MOST_BYTES = 8_000_000
READ_AT_ONCE = 200
"""Rows that are in memory while it isn't known yet how large they are."""

FETCHED_BYTES = 16_000
"""What an event counts for that says only an id: its record has yet to be fetched."""


class SqlInbox:
    """Implements `ports.events.Inbox` in the ledger's database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def bookmark(self, name: str) -> Bookmark | None:
        query = sa.select(outboxes).where(outboxes.c.name == name)
        with self._database.begin() as transaction:
            row = transaction.execute(query).one_or_none()
        return None if row is None else Bookmark(*row)

    def put(self, arrivals: Sequence[Arrival], bookmark: Bookmark | None = None) -> Sequence[Put]:
        with self._database.begin() as transaction:
            if bookmark is not None:
                _move(transaction, bookmark)
            moment = now(transaction)
            news = _new_events(transaction, arrivals, moment)
            names = _keep_webhooks(transaction, arrivals, news, moment)
            rows = [
                event_row(event, name, moment)
                for name, fresh in zip(names, news, strict=True)
                for event in fresh
            ]
            ids = iter(inserted(transaction, events, rows))
            wake(transaction, {r["connection"] for r in rows if r["status"] == "pending"}, moment)
            return [
                Put(name, [next(ids) for _ in fresh], len(arrival.events) - len(fresh))
                for arrival, name, fresh in zip(arrivals, names, news, strict=True)
            ]

    def waiting(self) -> int:
        query = sa.select(sa.func.count()).select_from(events)
        with self._database.reading() as transaction:
            found = transaction.execute(query.where(events.c.status == "pending"))
            return int(found.scalar_one())

    def claim(
        self, most: int, batch_size: int, seconds: float, *, overdue: float = 0.0
    ) -> Sequence[str]:
        with self._database.begin() as transaction:
            moment = now(transaction)
            queue = event_queues.c
            query = sa.select(queue.connection).where(
                queue.due_at <= moment - overdue,
                queue.claimed_until <= moment,
                queue.connection.not_in(resting),
            )
            query = query.order_by(queue.due_at).limit(most).with_for_update(skip_locked=True)
            found = transaction.execute(query).scalars().all()
            batches = []
            for some in pieces(found, batch_size):
                batch = uuid.uuid4().hex
                claimed = sa.update(event_queues).where(queue.connection.in_(some))
                claimed = claimed.values(
                    batch=batch,
                    claimed_until=moment + seconds,
                    deaths=sa.case((queue.batch != "", queue.deaths + 1), else_=0),
                )
                transaction.execute(claimed)
                batches.append(batch)
            return batches

    def queues(self, batch: str) -> Sequence[EventQueue]:
        queue = event_queues.c
        query = sa.select(queue.connection, queue.attempts, queue.deaths).where(
            queue.batch == batch
        )
        with self._database.reading() as transaction:
            return [EventQueue(*row) for row in transaction.execute(query.order_by("connection"))]

    def renew(self, batch: str, seconds: float) -> None:
        with self._database.begin() as transaction:
            until = now(transaction) + seconds
            claimed = sa.update(event_queues).where(event_queues.c.batch == batch)
            transaction.execute(claimed.values(claimed_until=until))

    def pending(self, connection: str, limit: int, most_bytes: int = MOST_BYTES) -> Sequence[Event]:
        with self._database.reading() as transaction:
            query = sa.select(events).where(
                events.c.status == "pending",
                events.c.connection == connection,
                events.c.due_at <= now(transaction),
            )
            query = query.order_by(events.c.due_at, events.c.id).limit(limit)
            with transaction.execute(query, execution_options={"yield_per": READ_AT_ONCE}) as found:
                rows = [*_first(found, most_bytes)]
        return [event_of(row) for row in rows]

    def attend(self, seconds: float) -> None:
        with self._database.begin() as transaction:
            insert = inserting(transaction)(event_workers)
            row = {"id": 1, "until": now(transaction) + seconds}
            upsert = insert.values(row).on_conflict_do_update(
                index_elements=[event_workers.c.id], set_={"until": row["until"]}
            )
            transaction.execute(upsert)

    def is_attended(self) -> bool:
        with self._database.begin() as transaction:
            found = transaction.execute(sa.select(event_workers.c.until)).scalar_one_or_none()
            return found is not None and found > now(transaction)

    def settle(
        self,
        done: Sequence[int],
        failures: Sequence[Failure],
        run: str,
        *,
        ignored: Sequence[int] = (),
    ) -> None:
        runs = events.c.runs + f" {run}" if run else events.c.runs
        with self._database.begin() as transaction:
            moment = now(transaction)
            for status, settled in (("done", done), ("ignored", ignored)):
                if settled:
                    finished = {"status": status, "error": "", "finished_at": moment, "runs": runs}
                    update = sa.update(events).where(among(transaction, events.c.id, settled))
                    transaction.execute(update.values(finished))
            for failure in failures:
                failed: dict[str, Any] = {"error": failure.error[:LONGEST_ERROR], "runs": runs}
                failed["attempts"] = events.c.attempts + 1
                if failure.again_at is None:
                    failed |= {"status": "dead", "finished_at": moment}
                else:
                    failed |= {"due_at": failure.again_at}
                update = sa.update(events).where(events.c.id == failure.event)
                transaction.execute(update.values(failed))

    def release(self, batch: str, connection: str, *, again_at: float | None = None) -> None:
        here = sa.and_(event_queues.c.connection == connection, event_queues.c.batch == batch)
        waiting = sa.select(sa.func.min(events.c.due_at)).where(
            events.c.status == "pending", events.c.connection == connection
        )
        with self._database.begin() as transaction:
            lock = sa.select(event_queues.c.attempts).where(here).with_for_update()
            attempts = transaction.execute(lock).scalar_one_or_none()
            if attempts is None:
                return  # the claim ran out, and the queue is someone else's
            # Only now that nobody else adds to it: what was added before must be seen.
            due_at = transaction.execute(waiting).scalar_one()
            if again_at is not None and due_at is not None:
                due_at = max(due_at, again_at)
            values = {"batch": "", "claimed_until": 0.0, "due_at": due_at, "deaths": 0}
            values["attempts"] = 0 if again_at is None else attempts + 1
            transaction.execute(sa.update(event_queues).where(here).values(values))


def _first(rows: Iterable[sa.Row[Any]], most_bytes: int) -> Iterator[sa.Row[Any]]:
    for row in rows:
        yield row
        most_bytes -= len(row.payload) or FETCHED_BYTES
        if most_bytes <= 0:
            return


def pieces(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _move(transaction: sa.Connection, bookmark: Bookmark) -> None:
    values: dict[str, Any] = {"place": bookmark.place, "state": dict(bookmark.state)}
    values["version"] = bookmark.version + 1
    if bookmark.version:
        here = outboxes.c.name == bookmark.name, outboxes.c.version == bookmark.version
        change = sa.update(outboxes).where(*here).values(values)
    else:
        change = inserting(transaction)(outboxes).on_conflict_do_nothing()
        change = change.values(name=bookmark.name, **values)
    if transaction.execute(change.returning(outboxes.c.name)).one_or_none() is None:
        raise LockTimeout(
            f"another process reads the outbox of {bookmark.name!r}",
            hint="nothing was lost: what it has read is in the inbox",
        )


def _new_events(
    transaction: sa.Connection, arrivals: Sequence[Arrival], moment: float
) -> list[list[Event]]:
    """Those of each arrival that weren't there already; from now on, they are."""
    until: dict[bytes, float] = {}
    for arrival in arrivals:
        for event in arrival.events:
            if event.dedupe_key:
                until.setdefault(_seen_key(event), moment + event.dedupe_seconds)
    fresh = _note_seen(transaction, until, moment)

    def is_new(event: Event) -> bool:
        if not event.dedupe_key:
            return True
        key = _seen_key(event)
        found = key in fresh
        fresh.discard(key)  # the same event may be in here twice
        return found

    return [[event for event in arrival.events if is_new(event)] for arrival in arrivals]


def _note_seen(
    transaction: sa.Connection, until: Mapping[bytes, float], moment: float
) -> set[bytes]:
    if not until:
        return set()
    rows = [{"key": key, "until": moment} for key, moment in until.items()]
    is_over = seen_events.c.until <= moment
    key, changes = seen_events.c.key, {"until": None}
    return upserted(
        transaction, seen_events, rows, key=key, changes=changes, where=is_over, tell=True
    )


def _seen_key(event: Event) -> bytes:
    whose = [event.source, event.name, event.connection, event.tenant, event.dedupe_key]
    text = "\0".join(whose)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()


def _keep_webhooks(
    transaction: sa.Connection,
    arrivals: Sequence[Arrival],
    news: Sequence[Sequence[Event]],
    moment: float,
) -> list[int | None]:
    """The id of each arrival's webhook; None for one that brought nothing new."""
    kept = [
        arrival.webhook
        if arrival.webhook and (fresh or arrival.webhook.status != "routed")
        else None
        for arrival, fresh in zip(arrivals, news, strict=True)
    ]
    ids = iter(inserted(transaction, webhooks, [_webhook_row(w, moment) for w in kept if w]))
    return [next(ids) if webhook else None for webhook in kept]


def wake(transaction: sa.Connection, connections: set[str], moment: float) -> None:
    """Make the queues due; each is locked until the transaction ends, due before or not."""
    if not connections:
        return
    is_later = sa.or_(event_queues.c.due_at.is_(None), event_queues.c.due_at > moment)
    is_resting = event_queues.c.attempts > 0
    due_at = sa.case((sa.and_(is_later, ~is_resting), moment), else_=event_queues.c.due_at)
    changes = {"due_at": sa.func.coalesce(due_at, moment)}
    idle = {"due_at": moment, "batch": "", "claimed_until": 0.0, "attempts": 0}
    rows = [{"connection": connection, **idle} for connection in connections]
    key = event_queues.c.connection
    upserted(transaction, event_queues, rows, key=key, changes=changes)


def _webhook_row(webhook: Webhook, moment: float) -> dict[str, Any]:
    return {
        "source": webhook.source,
        "name": webhook.name,
        "received_at": moment,
        "headers": dict(webhook.headers),
        "query": dict(webhook.query),
        "body": webhook.body,
        "status": webhook.status,
        "error": webhook.error[:LONGEST_ERROR],
    }


def event_row(event: Event, webhook: int | None, moment: float) -> dict[str, Any]:
    """An event as a new row has it."""
    return {
        "webhook": webhook if event.webhook is None else event.webhook,
        "source": event.source,
        "kind": event.kind,
        "name": event.name,
        "tenant": event.tenant,
        "connection": event.connection,
        "subscription": event.subscription,
        "change": event.change,
        "external_id": event.external_id,
        "payload": event.payload,
        "occurred_at": event.occurred_at,
        "received_at": moment,
        "status": event.status,
        "due_at": moment,
        "attempts": 0,
        "runs": "",
        "error": event.error[:LONGEST_ERROR],
        "finished_at": None if event.status == "pending" else moment,
    }


def event_of(row: Any) -> Event:
    """An event as its row has it."""
    found = row._mapping
    return Event(
        **{name: found[name] for name in _EVENT_FIELDS},
        runs=tuple(row.runs.split()),
        received_at=datetime.fromtimestamp(row.received_at, UTC),
        finished_at=row.finished_at and datetime.fromtimestamp(row.finished_at, UTC),
    )


_EVENT_FIELDS = (
    *("id", "webhook", "source", "kind", "name", "tenant", "connection", "subscription"),
    *("change", "external_id", "payload", "occurred_at", "status", "attempts", "error"),
)
