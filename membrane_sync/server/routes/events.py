"""What happened, and what became of it; what came in by webhooks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Path, Query
from pydantic import BaseModel, Field

from membrane_sync.elements.base import KEY_PATTERN
from membrane_sync.errors import Fatal
from membrane_sync.ports.event_log import EventFilter
from membrane_sync.ports.events import (
    Event,
    EventChange,
    EventKind,
    EventSource,
    EventStatus,
    Webhook,
    WebhookStatus,
)
from membrane_sync.server.routes.pages import Cursor, Limit, Page, page
from membrane_sync.server.scope import CurrentScope, CurrentWorkspace, scoped_router

router = scoped_router(tags=["events"])

GREATEST_ID = 2**63 - 1

R = TypeVar("R", Event, Webhook)

EventId = Annotated[int, Path(ge=1, le=GREATEST_ID, description="Id of the event")]
WebhookId = Annotated[int, Path(ge=1, le=GREATEST_ID, description="Id of the webhook")]
Name = Annotated[str, Query(max_length=255)]


class EventOut(BaseModel):
    """An event without what it carries, which may be personal."""

    id: int
    source: EventSource
    kind: EventKind
    name: str = Field(description="The collection of a record, or the key of the event")
    tenant: str
    connection: str = Field(description="Empty, if nothing of the tenant's asks for it")
    change: EventChange
    external_id: str
    status: EventStatus
    attempts: int
    error: str
    runs: list[str] = Field(description="The runs that applied it, or tried to")
    occurred_at: datetime | None
    received_at: datetime | None
    finished_at: datetime | None


class WebhookOut(BaseModel):
    """A request that told of events, without its body."""

    id: int
    source: EventSource
    name: str = Field(description="The subscription's key, or app and key of a global webhook")
    status: WebhookStatus
    error: str
    received_at: datetime | None


class WebhookWhole(WebhookOut):
    """A request as it came, without the headers by which its sender proved itself."""

    headers: dict[str, str]
    query: dict[str, str]
    body: str
    encoding: Literal["text", "base64"] = Field(description="How `body` is written")


class EventWhole(EventOut):
    """An event with what it carries, and the webhook that brought it."""

    payload: Any = None
    webhook: WebhookWhole | None = None


class Replayed(BaseModel):
    """The ids of the events that wait now."""

    events: list[int]


@router.get("/events")
def list_events(
    scope: CurrentScope,
    limit: Limit = 50,
    cursor: Cursor = "",
    connection: Annotated[str, Query(pattern=f"{KEY_PATTERN}|^$")] = "",
    status: EventStatus | None = None,
    kind: EventKind | None = None,
    name: Name = "",
    external_id: Name = "",
    since: datetime | None = None,
) -> Page[EventOut]:
    """Events, the newest first."""
    moment = None if since is None else _in_utc(since).timestamp()
    which = EventFilter(connection, status, kind, _text(name), _text(external_id), moment)

    def read(before: int, most: int) -> Sequence[Event]:
        return scope.events.events(before, most, which)

    return _page(read, _shown, cursor, limit)


@router.get("/events/{event}")
def read_event(scope: CurrentScope, event: EventId) -> EventWhole:
    """One event, and what it carries."""
    found, webhook = scope.events.event(event), scope.events.webhook(event)
    return EventWhole(
        **_shown(found).model_dump(),
        payload=_payload(found.payload),
        webhook=None if webhook is None else _whole(webhook),
    )


@router.post("/events/{event}/replay", status_code=202)
def replay_event(scope: CurrentScope, event: EventId) -> Replayed:
    """Let an event take effect once more, as if it had just come."""
    return Replayed(events=list(scope.replay.event(event)))


@router.get("/incoming-webhooks")
def list_incoming_webhooks(
    workspace: CurrentWorkspace,
    limit: Limit = 50,
    cursor: Cursor = "",
    status: WebhookStatus | None = None,
) -> Page[WebhookOut]:
    """Webhooks that are kept, the newest first: `unmatched` and `failed` ones came to nothing."""

    def read(before: int, most: int) -> Sequence[Webhook]:
        return workspace.webhooks.webhooks(before, most, status)

    return _page(read, _outline, cursor, limit)


@router.get("/incoming-webhooks/{webhook}")
def read_incoming_webhook(workspace: CurrentWorkspace, webhook: WebhookId) -> WebhookWhole:
    """One webhook as it came."""
    return _whole(workspace.webhooks.webhook(webhook))


@router.post("/incoming-webhooks/{webhook}/replay", status_code=202)
def replay_incoming_webhook(workspace: CurrentWorkspace, webhook: WebhookId) -> Replayed:
    """Take a webhook in once more, by the project as it is now: its declaration may be mended."""
    return Replayed(events=list(workspace.webhook_replay.webhook(webhook).events))


def _page(
    read: Callable[[int, int], Sequence[R]], shown: Callable[[R], Any], cursor: str, limit: int
) -> Page[Any]:
    """A page after a cursor that is an id."""

    def read_after(key: str, most: int) -> Sequence[R]:
        if key and not (key.isascii() and key.isdecimal() and int(key) <= GREATEST_ID):
            raise Fatal("this `cursor` is none of ours", hint="take `next_cursor` as it came")
        return read(int(key or 0), most)

    return page(read_after, shown, lambda found: str(found.id), cursor, limit)


def _shown(event: Event) -> EventOut:
    names = set(EventOut.model_fields) - {"runs", "occurred_at"}
    return EventOut(
        **{name: getattr(event, name) for name in names},
        runs=list(event.runs),
        occurred_at=event.occurred,
    )


def _outline(webhook: Webhook) -> WebhookOut:
    return WebhookOut(**{name: getattr(webhook, name) for name in WebhookOut.model_fields})


def _whole(webhook: Webhook) -> WebhookWhole:
    encoding: Literal["text", "base64"] = "text"
    try:
        body = webhook.body.decode()
    except UnicodeDecodeError:
        encoding, body = "base64", base64.b64encode(webhook.body).decode()
    return WebhookWhole(
        **_outline(webhook).model_dump(),
        headers=dict(webhook.headers),
        query=dict(webhook.query),
        body=body,
        encoding=encoding,
    )


def _payload(text: str) -> Any:
    """What the text says; the text itself, where it's not what JSON is to everybody."""
    try:
        return json.loads(text, parse_constant=_refuse) if text else None
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(value: str) -> str:
    if not value.isprintable():
        raise Fatal("a filter must be printable characters on one line")
    return value
