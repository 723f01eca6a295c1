"""What happened in the product, as its backend or a tenant's page tells of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Header, Path
from pydantic import BaseModel, Field

from membrane_sync.elements.base import KEY_PATTERN
from membrane_sync.server.scope import CurrentScope, scoped_router
from membrane_sync.server.values import Values

router = scoped_router(tags=["events"])

MOST_AT_ONCE = 1_000
"""Events in one batch."""

EventType = Annotated[str, Path(pattern=KEY_PATTERN, description="Key of the internal event")]
Batch = Annotated[list[Values], Field(min_length=1, max_length=MOST_AT_ONCE)]
OnceKey = Annotated[
    str, Header(max_length=255, description="The same, if the same is told once more")
]


class Taken(BaseModel):
    """What was kept: it's in the ledger, and takes effect soon."""

    events: list[int] = Field(description="Ids of the new events, in the order of the payloads")
    duplicates: int = Field(description="How many were there already")


@router.post("/internal-events/{type}", status_code=202)
def publish_internal_event(
    scope: CurrentScope,
    type: EventType,
    body: Annotated[Values | Batch, Body(description="An event's payload, or a list of them")],
    idempotency_key: OnceKey = "",
    webhook_id: OnceKey = "",
) -> Taken:
    """Tell of an event, or of several at once: all of them are kept, or none.

    A tenant's are that tenant's. With an API key, the header X-Membrane-Tenant names the tenant,
    or the type's formula does, for each event its own.
    """
    payloads = body if isinstance(body, list) else [body]
    key = idempotency_key or webhook_id
    done = scope.internal_events.publish(type, payloads, tenant=scope.tenant or "", key=key)
    return Taken(events=list(done.events), duplicates=done.duplicates)
