"""The ledger's tables of webhooks, events, their queues and subscriptions."""

from __future__ import annotations

import sqlalchemy as sa

from membrane_sync.stores.ledger.database import metadata
from membrane_sync.stores.ledger.sealed import sealed_column

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite counts up by itself only what is called INTEGER."""

webhooks = sa.Table(
    "membrane_webhooks",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("received_at", sa.Double, nullable=False, index=True),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("query", sa.JSON, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)

events = sa.Table(
    "membrane_events",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("webhook", sa.BigInteger),
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("tenant", sa.String(255), nullable=False),
    sa.Column("connection", sa.String(100), nullable=False),
    sa.Column("subscription", sa.String(100), nullable=False),
    sa.Column("change", sa.String(20), nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.Double),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    # Ids with a space before each.
    sa.Column("runs", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("finished_at", sa.Double),
    sqlite_autoincrement=True,
)
_pending = events.c.status == "pending"
sa.Index(
    "membrane_events_pending",
    events.c.connection,
    events.c.due_at,
    events.c.id,
    sqlite_where=_pending,
    postgresql_where=_pending,
)
sa.Index("membrane_events_status", events.c.status, events.c.id)
sa.Index("membrane_events_finished", events.c.finished_at)
sa.Index("membrane_events_tenant", events.c.tenant, events.c.id)

webhook_counts = sa.Table(
    "membrane_webhook_counts",
    metadata,
    sa.Column("endpoint", sa.Text, primary_key=True),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("unmatched", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("challenges", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
    sa.Column("unavailable", sa.BigInteger, nullable=False),
    sa.Column("last_refused_at", sa.Double),
    sa.Column("last_reason", sa.Text, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False, index=True),
)

seen_events = sa.Table(
    "membrane_seen_events",
    metadata,
    # Stands for the name, the connection and the event's own key, which may be too long.
    sa.Column("key", sa.LargeBinary(20), primary_key=True),
    sa.Column("until", sa.Double, nullable=False, index=True),
)

event_queues = sa.Table(
    "membrane_event_queues",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    # When the first of its events is due; null while none waits.
    sa.Column("due_at", sa.Double, index=True),
    sa.Column("batch", sa.String(32), nullable=False, index=True),
    sa.Column("claimed_until", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
)

event_workers = sa.Table(
    "membrane_event_workers",
    metadata,
    # One row for all workers: until when one of them looks after the queues.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("until", sa.Double, nullable=False),
)

subscriptions = sa.Table(
    "membrane_subscriptions",
    metadata,
    sa.Column("key", sa.String(100), primary_key=True),
    sa.Column("connection", sa.String(100), nullable=False, index=True),
    sa.Column("tenant", sa.String(255), nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("global_webhook", sa.String(255), nullable=False),
    sa.Column("selector", sa.String(255), nullable=False),
    sealed_column("state", "{connection}/subscription"),
    sealed_column("secret", "{connection}/subscription"),
    sa.Column("refresh_at", sa.Double, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("identity", sa.String(100), nullable=False),
    # What the app gave: only `take_secret` writes it.
    sealed_column("given", "{connection}/subscription", server_default=""),
    sa.Column("secret_until", sa.Double),
)
sa.Index(
    "membrane_subscriptions_selected",
    subscriptions.c.global_webhook,
    subscriptions.c.selector,
)
sa.Index(
    "membrane_subscriptions_single",
    subscriptions.c.connection,
    subscriptions.c.identity,
    unique=True,
)

checkups = sa.Table(
    "membrane_subscription_checkups",
    metadata,
    sa.Column("connection", sa.String(100), primary_key=True),
    sa.Column("version", sa.String(64), nullable=False),
    # When its subscriptions are to be looked at; null while nothing is to be done about them.
    sa.Column("due_at", sa.Double, index=True),
    # Empty while nobody has claimed it.
    sa.Column("claim", sa.String(32), nullable=False),
)

outboxes = sa.Table(
    "membrane_outboxes",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("place", sa.String(255), nullable=False),
    sa.Column("state", sa.JSON, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

product_subscriptions = sa.Table(
    "membrane_product_subscriptions",
    metadata,
    sa.Column("tenant", sa.String(255), primary_key=True),
    sa.Column("event", sa.String(100), primary_key=True),
    sa.Column("version", sa.String(64), nullable=False),
    sealed_column("state", "{tenant}/product"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("due_at", sa.Double, index=True),
    sa.Column("claimed_until", sa.Double, nullable=False),
)
