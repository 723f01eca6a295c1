"""What apps are to tell of a connection's events, and how that stands."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from membrane_sync.server.routes.connections import ConnectionKey
from membrane_sync.server.scope import CurrentScope, scoped_router

router = scoped_router(tags=["connections"])


class SubscriptionOut(BaseModel):
    """A subscription; never its URL or secret, by which events could be forged."""

    about: str = Field(description="A data collection, or an external event")
    change: str = Field(description="created, updated, deleted or all; empty for external events")
    status: str = Field(description="subscribed, unsubscribed or error")
    global_webhook: str
    renews_at: datetime | None = Field(description="When something is to be done about it")
    attempts: int = Field(description="How often it failed since it last went well")
    error: str


class SubscriptionsOut(BaseModel):
    """All subscriptions of a connection."""

    items: list[SubscriptionOut]


@router.get("/connections/{connection}/subscriptions")
def list_subscriptions(scope: CurrentScope, connection: ConnectionKey) -> SubscriptionsOut:
    """What the connection's app tells of; what isn't told is found by polls."""
    scope.ledger.connection(connection)
    items = []
    for one in scope.accounts.subscriptions(connection):
        at = None if one.renews_at is None else datetime.fromtimestamp(one.renews_at, UTC)
        items.append(SubscriptionOut(**{**vars(one), "renews_at": at}))
    return SubscriptionsOut(items=items)
