"""Events out of what a webhook says, by the formulas of its declarations."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membrane_sync.elements.global_webhook import GlobalWebhook
from membrane_sync.elements.webhook import Receiving
from membrane_sync.events.endpoint import Subscriber
from membrane_sync.events.times import seconds_of
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports.events import Event, EventChange, EventSource

CHANGES: tuple[EventChange, ...] = ("created", "updated", "deleted")
_NOT_KEPT = re.compile("[\0\ud800-\udfff]")


class NotUnderstood(ValueError):
    """What came is genuine, and the declaration makes no sense of it."""


@dataclass(frozen=True)
class Told:
    """What one subscriber is told: what formulas see of it, and what's known of it already.

    `digest` stands for its content; two that say the same have the same one.
    """

    scope: Mapping[str, Any]
    digest: str
    selector: str = ""
    event_id: str = ""
    occurred_at: float | None = None
    dedupe_seconds: float | None = None


def told_to_all(webhook: GlobalWebhook, scope: Mapping[str, Any]) -> list[Told]:
    """What a global webhook's request says to whom; raises NotUnderstood."""
    found: list[Told] = []
    for item in _listed(_value(webhook.events, scope)):
        if not isinstance(item, Mapping) or item.get("selector") is None:
            raise NotUnderstood("`events` gives something that is no {selector, payload}")
        payload, seen = item.get("payload"), {**scope, **item}
        found.append(
            Told(
                scope={**scope, "body": payload},
                digest=digest(_json(payload).encode()),
                selector=_text(item["selector"], "the selector"),
                event_id=_event_id(webhook, seen),
                occurred_at=_occurred_at(webhook, seen),
                dedupe_seconds=webhook.dedupe_seconds,
            )
        )
    return found


def events_of(subscriber: Subscriber, told: Told, source: EventSource) -> list[Event]:
    """The events that it means to the subscriber; raises NotUnderstood."""
    scope = {**told.scope, **subscriber.known}
    if subscriber.event is None:
        items = [({"payload": value}, value) for value in _external_values(subscriber, scope)]
    else:
        items = [(item, item) for item in _record_items(subscriber, scope)]
    return [
        _event(subscriber, told, source, index, (value, {**scope, **item}))
        for index, (item, value) in enumerate(items)
    ]


def digest(content: bytes) -> str:
    """Stands for the content; short enough to be kept."""
    return hashlib.sha256(content).hexdigest()


def _external_values(subscriber: Subscriber, scope: Mapping[str, Any]) -> Sequence[Any]:
    external = subscriber.external
    if external is None or external.handle is None:
        return [scope.get("body")]
    return _listed(_value(external.handle, scope))


def _record_items(subscriber: Subscriber, scope: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    event = subscriber.event
    assert event is not None  # it's about records
    bodies = _external_values(subscriber, scope) if subscriber.external else [scope.get("body")]
    for body in bodies:
        handle = {"record": {"$var": "$.body"}} if event.handle is None else event.handle
        for item in _listed(_value(handle, {**scope, "body": body})):
            if not isinstance(item, dict):
                raise NotUnderstood("`handle` gives something that is no {type, record}")
            yield item


def _event(
    subscriber: Subscriber,
    told: Told,
    source: EventSource,
    index: int,
    item: tuple[Any, Mapping[str, Any]],
) -> Event:
    """The event of one item, which comes with what the formulas about it see."""
    value, scope = item
    subscription = subscriber.subscription
    base = Event(
        source,
        "external",
        subscriber.external.key if subscriber.external else "",
        subscription.tenant,
        subscription.connection,
        subscription.key,
    )
    given = {"payload": _json(value)} if subscriber.event is None else _record(subscriber, value)
    return _identified(subscriber, told, index, scope, _with(base, **given))


def _record(subscriber: Subscriber, item: Mapping[str, Any]) -> dict[str, Any]:
    event, collection = subscriber.event, subscriber.collection
    assert event is not None and collection is not None  # it's about records
    config = subscriber.subscription.config
    change = item.get("type") or config.get("change")
    if change not in CHANGES:
        raise NotUnderstood(f"`handle` gives a type that is none of {', '.join(CHANGES)}")
    record, id = item.get("record"), item.get("id")
    if record is not None and not isinstance(record, dict):
        raise NotUnderstood("`handle` gives a record that is no object")
    if id is None and record is not None:
        id = evaluate({"$var": collection.id}, record)
    return {
        "kind": "record",
        "name": config["stream"],
        "change": change,
        "external_id": _text(id, "the record's id"),
        "payload": "" if record is None or event.id_only else _json(record),
    }


def _identified(
    subscriber: Subscriber, told: Told, index: int, scope: Mapping[str, Any], event: Event
) -> Event:
    """With the time it happened, and by what it's recognised when it comes again.

    What has an id of a record alone is never taken for another: it says no more than that something
    happened to it, again maybe, and fetching it once more does no harm.
    """
    event_id, occurred_at = "", told.occurred_at
    window = told.dedupe_seconds
    for declared in subscriber.declarations:
        if not event_id and (event_id := _event_id(declared, scope)):
            window = declared.dedupe_seconds
        if window is None or "dedupe_seconds" in declared.model_fields_set:
            window = declared.dedupe_seconds
        if declared.occurred_at is not None and occurred_at is None:
            occurred_at = _occurred_at(declared, scope)
    if not event_id and told.event_id:
        event_id = f"{told.event_id}/{index}"
    if not event_id and event.payload:
        # One body may come by the URL of updates, and by that of deletions.
        event_id = f"sha256:{told.digest}/{index}/{event.change}"
    window = window if window is not None else Receiving().dedupe_seconds
    return _with(event, occurred_at=occurred_at, dedupe_key=event_id, dedupe_seconds=window)


def _with(event: Event, **values: Any) -> Event:
    # `dataclasses.replace` takes ten times as long, and this is done for each event.
    return Event(**{**event.__dict__, **values})


def _event_id(declared: Receiving, scope: Mapping[str, Any]) -> str:
    if declared.event_id is None:
        return ""
    found = _value(declared.event_id, scope)
    if found is MISSING or found is None:
        return ""
    return _text(found, "event_id") if isinstance(found, str | int) else _json(found)


def _occurred_at(declared: Receiving, scope: Mapping[str, Any]) -> float | None:
    if declared.occurred_at is None:
        return None
    try:
        return seconds_of(_value(declared.occurred_at, scope))
    except ValueError:
        raise NotUnderstood("`occurred_at` gives no time") from None


def _value(formula: Any, scope: Mapping[str, Any]) -> Any:
    try:
        return evaluate(formula, scope)
    except FormulaError as error:
        raise NotUnderstood(str(error)) from None


def _listed(value: Any) -> Sequence[Any]:
    if value is MISSING or value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(value: Any, what: str) -> str:
    """An id as text that databases can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise NotUnderstood(f"{what} is missing, or neither a text nor a whole number")
    if _NOT_KEPT.search(value):
        raise NotUnderstood(f"{what} has NUL or half a character in it")
    return value


def _json(value: Any) -> str:
    return json.dumps(None if value is MISSING else value)
