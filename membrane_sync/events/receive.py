"""What becomes of a webhook's request: refused, answered, or taken in with its events.

Nothing is stored here and nothing sent. A decision's answer may only be given once what it has to
keep is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from membrane_sync.elements.webhook import Challenge, Receiving, Reply
from membrane_sync.events.endpoint import Endpoint, Subscriber
from membrane_sync.events.items import NotUnderstood, Told, digest, events_of, told_to_all
from membrane_sync.events.request import Unreadable, WebhookRequest
from membrane_sync.events.signatures import Refused, proving_headers
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports.events import Arrival, Event, Webhook, WebhookStatus

SHORTEST_SECRET = 4
NO_EVENT = "the declaration finds no event in it"


@dataclass(frozen=True)
class WebhookAnswer:
    """What the sender is told."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Decision:
    """What to do with a request.

    With `refused`, the reason, nothing is kept, nor of a challenge, but for the `secret` that it
    gives. With `told`, which a global webhook says, `routed` gives what to keep.
    """

    answer: WebhookAnswer
    refused: str = ""
    webhook: Webhook | None = None
    events: Sequence[Event] = ()
    told: Sequence[Told] = ()
    secret: str = field(default="", repr=False)

    @property
    def arrival(self) -> Arrival | None:
        """What has to be kept before the answer is given."""
        return Arrival(self.webhook, self.events) if self.webhook is not None else None


def receive(endpoint: Endpoint, request: WebhookRequest, now: float) -> Decision:
    """Decide on a request that came to the endpoint; `now` is in seconds since 1970."""
    declared = endpoint.receiving
    if len(request.body) > declared.max_body_bytes:
        return _refusal(413, f"its body is larger than {declared.max_body_bytes:,} bytes")
    challenge = declared.challenge
    by_bytes = _proves_itself_unread(declared)
    if by_bytes and (reason := _disproved(endpoint, request, now)):
        return _refusal(401, reason)
    unreadable = ""
    try:
        scope = request.scope
    except Unreadable as error:
        unreadable, scope = str(error), {**request.without_body, "body": None}
    if challenge is not None and not challenge.signed and _asks(challenge, endpoint, scope):
        return _challenged(challenge, endpoint, scope)
    if not by_bytes and (reason := _disproved(endpoint, request, now, scope)):
        return _refusal(401, reason)
    if challenge is not None and challenge.signed and _asks(challenge, endpoint, scope):
        return _challenged(challenge, endpoint, scope)
    if request.method != "POST":
        return _refusal(405, f"it came by {request.method}, and is no challenge")
    if unreadable and endpoint.verify is None:
        return _refusal(400, unreadable)
    kept = _webhook(endpoint, request)
    answer = _accepted(declared.reply, {**scope, **_subscribers(endpoint)})
    return _read(endpoint, kept, scope, unreadable, answer)


def again(endpoint: Endpoint, webhook: Webhook) -> Decision:
    """Decide anew on one that was kept, which has proved itself: its declaration may be mended."""
    request = request_of(webhook)
    try:
        scope, unreadable = request.scope, ""
    except Unreadable as error:
        scope, unreadable = {**request.without_body, "body": None}, str(error)
    return _read(endpoint, webhook, scope, unreadable, WebhookAnswer())


def request_of(webhook: Webhook) -> WebhookRequest:
    """The request that a webhook was kept of, as far as it was kept."""
    request = WebhookRequest("POST", "", tuple(webhook.headers.items()), webhook.body)
    request.__dict__["query"] = dict(webhook.query)
    return request


def routed(decision: Decision, meant: Mapping[str, Sequence[Subscriber]]) -> Decision:
    """With the events of what was told to all, for the subscribers that each selector means."""
    assert decision.webhook is not None  # there's nothing told without one
    events: list[Event] = []
    problems: list[str] = []
    nobody: set[str] = set()
    for told in decision.told:
        subscribers = meant.get(told.selector, ())
        if not subscribers:
            nobody.add(told.selector)
        for subscriber in subscribers:
            try:
                events += events_of(subscriber, told, "global_webhook")
            except NotUnderstood as error:
                problems.append(f"{subscriber.subscription.connection}: {error}")
    status: WebhookStatus = "routed"
    if problems:
        status = "failed"
    elif not events:
        status = "unmatched"
    if nobody:
        problems.append(f"nobody is subscribed to {', '.join(sorted(nobody)[:10])}")
    elif not events and not problems:
        problems.append(NO_EVENT)
    webhook = replace(decision.webhook, status=status, error="; ".join(problems))
    return replace(decision, webhook=webhook, events=events)


def _read(
    endpoint: Endpoint,
    webhook: Webhook,
    scope: Mapping[str, Any],
    unreadable: str,
    answer: WebhookAnswer,
) -> Decision:
    try:
        if unreadable:
            raise NotUnderstood(unreadable)
        if endpoint.declared_global is not None:
            told = told_to_all(endpoint.declared_global, scope)
            return Decision(answer, webhook=_as_routed(webhook), told=told)
        assert endpoint.subscriber is not None  # it's somebody's, or everybody's
        said = Told(scope, digest(webhook.body))
        events = events_of(endpoint.subscriber, said, "webhook")
    except NotUnderstood as error:
        return Decision(answer, webhook=replace(webhook, status="failed", error=str(error)))
    if not events:
        unmatched = replace(webhook, status="unmatched", error=NO_EVENT)
        return Decision(answer, webhook=unmatched)
    return Decision(answer, webhook=_as_routed(webhook), events=events)


def _as_routed(webhook: Webhook) -> Webhook:
    is_so = webhook.status == "routed" and not webhook.error
    return webhook if is_so else replace(webhook, status="routed", error="")


def _proves_itself_unread(declared: Receiving) -> bool:
    """Whether the bytes say whom it's from: whoever proves nothing must not have them parsed."""
    asks_unsigned = declared.challenge is not None and not declared.challenge.signed
    return not asks_unsigned and (declared.signature is None or declared.signature.token is None)


def _disproved(
    endpoint: Endpoint, request: WebhookRequest, now: float, scope: Mapping[str, Any] | None = None
) -> str:
    """Why the request isn't from whom it should be; empty if it is."""
    signature = endpoint.receiving.signature
    if endpoint.verify is None or signature is None:
        return ""
    token = None
    if signature.token is not None:
        token = evaluate(signature.token, scope, strict=False)
    try:
        endpoint.verify(request, endpoint.secrets, now, None if token is MISSING else token)
    except Refused as refused:
        return str(refused)
    return ""


def _asks(challenge: Challenge, endpoint: Endpoint, scope: Mapping[str, Any]) -> bool:
    found = evaluate(challenge.when, {**scope, **endpoint.known}, strict=False)
    return found is not MISSING and bool(found)


def _challenged(challenge: Challenge, endpoint: Endpoint, scope: Mapping[str, Any]) -> Decision:
    seen = {**scope, **endpoint.known}
    secret = ""
    if challenge.secret is not None:
        found = evaluate(challenge.secret, seen, strict=False)
        if not isinstance(found, str) or not _GIVEN_SECRET.fullmatch(found):
            return _refusal(400, "its challenge gives no secret, or none of 8 characters or more")
        secret = found
    try:
        return Decision(_answer(challenge, seen), secret=secret)
    except FormulaError as error:
        return _refusal(400, f"the answer to its challenge can't be made: {error}")


def _accepted(reply: Reply, scope: Mapping[str, Any]) -> WebhookAnswer:
    try:
        return _answer(reply, scope)
    except FormulaError:
        return WebhookAnswer()  # it's taken in, whatever was to be said about it


def _answer(reply: Reply, scope: Mapping[str, Any]) -> WebhookAnswer:
    headers = evaluate(reply.headers, scope) if reply.headers else {}
    said = {str(n): str(v) for n, v in (headers if isinstance(headers, dict) else {}).items()}
    for name, value in said.items():
        if not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise FormulaError("headers", "", None, f"gives a header {name!r} that can't be sent")
    body = None if reply.body is None else evaluate(reply.body, scope)
    if body is None or body is MISSING:
        return WebhookAnswer(reply.status, said)
    named = {name.lower() for name in said}
    if isinstance(body, str):
        kind = {} if "content-type" in named else {"Content-Type": "text/plain; charset=utf-8"}
        return WebhookAnswer(reply.status, {**kind, **said}, body.encode("utf-8", "replace"))
    kind = {} if "content-type" in named else {"Content-Type": "application/json"}
    return WebhookAnswer(reply.status, {**kind, **said}, json.dumps(body).encode())


_GIVEN_SECRET = re.compile(r"[\x21-\x7e]{8,1000}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def _webhook(endpoint: Endpoint, request: WebhookRequest) -> Webhook:
    """The request as it's kept: without what proves its sender."""
    proving = proving_headers(endpoint.receiving.signature)
    secrets = [secret for secret in endpoint.secrets if len(secret) >= SHORTEST_SECRET]

    def kept(values: Mapping[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in values.items()
            if name not in proving and not any(secret in value for secret in secrets)
        }

    return Webhook(
        endpoint.source, endpoint.name, request.body, kept(request.named), kept(request.query)
    )


def _subscribers(endpoint: Endpoint) -> Mapping[str, Any]:
    return endpoint.subscriber.known if endpoint.subscriber is not None else {}


def _refusal(status: int, reason: str) -> Decision:
    return Decision(WebhookAnswer(status), refused=reason)
