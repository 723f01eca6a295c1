"""`membrane check` of events: what could not be subscribed to, renewed, removed or understood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from membrane_sync.elements.data_collection import CollectionEvent, DataCollection
from membrane_sync.elements.external_event import ExternalEvent
from membrane_sync.elements.global_webhook import GlobalWebhook
from membrane_sync.elements.request import Request
from membrane_sync.elements.webhook import Subscribing
from membrane_sync.formulas import variables
from membrane_sync.project.families import drill_down
from membrane_sync.project.located import Steps


@dataclass(frozen=True)
class Found:
    """Something wrong at a place of the element, or, as a warning, something to know."""

    path: Steps
    message: str
    severity: str = "error"


CHANGES = ("all", "created", "updated", "deleted")
REQUESTS = ("subscribe", "unsubscribe", "refresh", "existing")
_OF_RECORDS = ("handle", "id_only", "not_found_retries")
_OF_WEBHOOKS = (*REQUESTS, "state", "expires_at", "signature", "selector", *_OF_RECORDS)


def collection_events(collection: DataCollection) -> Iterator[Found]:
    """What's wrong with the events of a collection."""
    declared = {change: getattr(collection.events, change) for change in CHANGES}
    events = {change: event for change, event in declared.items() if event is not None}
    if "all" in events and len(events) > 1:
        message = "`all` stands for the other three; declare it, or them"
        yield Found(("events", "all"), message)
    for change, event in events.items():
        for found in (*_of_type(collection, change, event), *_told(collection, event)):
            yield Found(("events", change, *found.path), found.message, found.severity)


def external_event(event: ExternalEvent) -> Iterator[Found]:
    """What's wrong with an event of the connector."""
    if event.type == "global_webhook" and event.global_webhook is None:
        yield Found(("type",), "say which global_webhook it comes by")
        return
    if event.type == "webhook" and event.global_webhook is not None:
        yield Found(("global_webhook",), "an event that comes by it is of type global_webhook")
    yield from _subscribing(event)


def global_webhook(webhook: GlobalWebhook) -> Iterator[Found]:
    """What to know of a global webhook."""
    if webhook.signature is None:
        message = "without a signature, anyone can send events to this URL, which can be guessed"
        yield Found((), message, "warning")


def requests_of(element: object) -> dict[Steps, Request]:
    """Every request by which subscriptions of an element are made, with its place."""
    found: dict[Steps, Request] = {}
    if isinstance(element, ExternalEvent):
        found |= {(name,): getattr(element, name) for name in REQUESTS}
    if isinstance(element, DataCollection):
        for change in CHANGES:
            event = getattr(element.events, change)
            for name in REQUESTS if event is not None else ():
                found["events", change, name] = getattr(event, name)
    return {path: request for path, request in found.items() if request is not None}


def _of_type(collection: DataCollection, change: str, event: CollectionEvent) -> Iterator[Found]:
    """Whether the event says what its type needs, and nothing that it doesn't heed."""
    if event.type == "webhook":
        yield from _subscribing(event)
    else:
        for name in _OF_WEBHOOKS:
            heeded = event.type == "connector_event" and name in _OF_RECORDS
            if name in event.model_fields_set and not heeded:
                yield Found((name,), f"{name} is for webhooks, and does nothing for {event.type}")
    if event.type == "connector_event" and event.event is None:
        yield Found(("type",), "say which external `event` tells of the records")
    if event.type != "connector_event" and event.event is not None:
        yield Found(("event",), "an `event` is for type connector_event")
    reason = _unread(collection, change, event)
    if reason:
        yield Found(("type",), reason)


def _unread(collection: DataCollection, change: str, event: CollectionEvent) -> str:
    """Why changes aren't found as it's said; empty if they are."""
    method = collection.list_
    cursor = method.cursor if method is not None else None
    if event.type == "delta_pull" and (cursor is None or not cursor.is_delta):
        return "delta_pull needs a list whose cursor is a delta token"
    if event.type == "pull_latest" and (cursor is None or cursor.is_delta):
        return "pull_latest needs a list with a cursor, by which the latest are found"
    if event.type == "full_scan" and change == "deleted" and not collection.deletes.full_scan:
        return "a full scan finds deletions only with deletes.full_scan"
    if event.type == "full_scan" and method is None:
        return "full_scan needs a list"
    return ""


def _told(collection: DataCollection, event: CollectionEvent) -> Iterator[Found]:
    """What a webhook says must lead to a record."""
    if event.type not in ("webhook", "connector_event"):
        return
    if event.handle is None and collection.events.all is event:
        yield Found(("type",), "`handle` must say what happened: {type, record}, or {type, id}")
    if event.id_only and collection.find_by_id is None:
        yield Found(("id_only",), "find_by_id is needed to fetch what only an id is told of")
    if "not_found_retries" in event.model_fields_set and collection.find_by_id is None:
        yield Found(("not_found_retries",), "find_by_id is needed to ask for a record again")
    drill = drill_down(collection)
    if drill is not None and not drill.unique_ids:
        message = "an event doesn't say below which parent its record is, and ids are unique there"
        yield Found(("type",), message)


def _subscribing(event: Subscribing) -> Iterator[Found]:
    """Whether it can be made, renewed and removed."""
    if event.subscribe is None and event.global_webhook is None:
        yield Found(("type",), "a webhook needs `subscribe`, or the global_webhook it comes by")
    if event.global_webhook is not None and event.selector is None:
        yield Found(("global_webhook",), "`selector` must say which of its events are meant")
    if event.selector is not None and event.global_webhook is None:
        yield Found(("selector",), "a selector is for events that come by a global_webhook")
    if any(used.startswith("$.input") for used in variables(event.selector)):
        message = (
            "$.input is what the tenant typed: unless the app refuses it for another account, they "
            "get that one's events; say what the app answers of its account, as $.state.account"
        )
        yield Found(("selector",), message, "warning")
    if event.refresh is not None and event.expires_at is None and event.lifetime_seconds is None:
        yield Found(("refresh",), "nobody knows when: say expires_at, or lifetime_seconds")
    for name in ("unsubscribe", "refresh"):
        if event.state is None and _reads(getattr(event, name), "$.state"):
            yield Found((name,), "it uses $.state, and `state` doesn't say what to keep")
    if event.global_webhook is not None:
        return
    if event.subscribe is not None:
        if event.subscribe.function is None and not _reads(event.subscribe, "$.webhook_url"):
            yield Found(("subscribe",), "it doesn't tell the app $.webhook_url")
        if event.unsubscribe is None:
            message = "without `unsubscribe`, the app goes on sending when nobody listens any more"
            yield Found(("subscribe",), message, "warning")
    if event.signature is None:
        message = "without a signature, whoever learns the webhook's URL can send events"
        yield Found(("type",), message, "warning")


def _reads(request: Request | None, name: str) -> bool:
    if request is None:
        return False
    parts = (request.path_parameters, request.query, request.headers, request.body)
    read = {used for part in (*parts, request.variables) for used in variables(part)}
    return any(used == "$" or used == name or used.startswith(f"{name}.") for used in read)
