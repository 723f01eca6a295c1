"""The URLs that webhooks come to, and what the product's backend may know of them.

They're open to everybody: whoever sends something proves itself by what its declaration says.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime
from operator import attrgetter
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from membrane_sync.bootstrap import Runtime
from membrane_sync.errors import MembraneError
from membrane_sync.events.endpoint import Endpoint
from membrane_sync.events.intake import Taken
from membrane_sync.events.receive import WebhookAnswer
from membrane_sync.events.request import WebhookRequest
from membrane_sync.ports.event_log import WebhookCount, WebhookCounts
from membrane_sync.server.failures import failure, request_id_of
from membrane_sync.server.routes.pages import Cursor, Limit, Page, page
from membrane_sync.server.scope import CurrentWorkspace, scoped_router
from membrane_sync.server.webhooks.body import Bodies, TooLarge, TooSlow
from membrane_sync.server.webhooks.group import MOST_WAITING, Busy, Group
from membrane_sync.server.webhooks.tally import Tally

RETRY_AFTER_SECONDS = 2

Key = Annotated[str, Path(max_length=200)]
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")

_SAID = {
    400: ("bad_request", "the request can't be read"),
    401: ("not_authenticated", "the request doesn't prove whom it's from"),
    404: ("not_found", "there's nothing here"),
    405: ("method_not_allowed", "send events by POST"),
    408: ("too_slow", "the body didn't come in time"),
    413: ("too_large", "the body is too large"),
    500: ("defect", "something went wrong that isn't the request's fault"),
    503: ("busy", "it can't be taken in now; send it again"),
}


class Webhooks:
    """Takes in the webhooks of one server."""

    def __init__(self, runtime: Runtime, most_waiting: int = MOST_WAITING) -> None:
        self.bodies = Bodies()
        self.counts: WebhookCounts = runtime.ledger.webhook_counts
        self.tally = Tally(self.counts.add)
        self._base = runtime.settings.connect.public_url
        self._recipients = runtime.events.intake.recipients
        self._taking = Group(runtime.events.intake.take, "webhooks", most_waiting=most_waiting)
        self._finding = Group(self._recipients.read, "endpoints", most_waiting=most_waiting)

    @property
    def waiting(self) -> int:
        """How many have come and aren't being kept yet."""
        return self._taking.waiting

    @property
    def most_waiting(self) -> int:
        """How many may wait; what comes then is sent away to come again."""
        return self._taking.most_waiting

    @most_waiting.setter
    def most_waiting(self, most: int) -> None:
        self._taking.most_waiting = most

    async def close(self) -> None:
        """Keep what has come, and end."""
        await self._finding.close()
        await self._taking.close()
        await self.tally.close()

    async def to_subscription(self, http: Request, key: str) -> Response:
        """A request to a subscription's own URL."""
        endpoint = self._recipients.remembered(key)
        if endpoint is None and _KEY.fullmatch(key):
            try:
                found = await self._finding.take(key)
            except Busy:
                return _failed(http, 503)
            if isinstance(found, MembraneError):
                raise found
            endpoint = found
        return await self._answered(http, endpoint)

    async def to_everybody(self, http: Request, app: str, key: str) -> Response:
        """A request to an app's one URL for all tenants."""
        found = self._recipients.remembered(f"{app}/{key}")
        return await self._answered(http, found or self._recipients.global_webhook(app, key))

    async def _answered(self, http: Request, endpoint: Endpoint | None) -> Response:
        if endpoint is None:
            return _failed(http, 404)
        taken = await self._taken(http, endpoint)
        self.tally.add(endpoint.title, taken)
        if taken.outcome in ("taken", "challenge"):
            answer = taken.answer
            return Response(answer.body, answer.status, dict(answer.headers))
        return _failed(http, taken.answer.status)

    async def _taken(self, http: Request, endpoint: Endpoint) -> Taken:
        most = endpoint.receiving.max_body_bytes
        try:
            async with self.bodies.read(http, most, endpoint.name) as body:
                request = WebhookRequest(http.method, self._url(http), _headers(http), body)
                return await self._taking.take((endpoint, request))
        except TooLarge:
            reason = f"its body is larger than {most:,} bytes"
            return Taken("refused", WebhookAnswer(413), reason)
        except TooSlow:
            return Taken("refused", WebhookAnswer(408), "its body didn't come in time")
        except Busy:
            return Taken("unavailable", WebhookAnswer(503), "too many wait")

    def _url(self, http: Request) -> str:
        """The URL that its sender knows: what proxies call us doesn't count."""
        raw: bytes = http.scope.get("raw_path") or http.scope["path"].encode()
        query: bytes = http.scope["query_string"]
        path = raw.decode("latin-1").partition("?")[0]
        return f"{self._base}{path}" + (f"?{query.decode('latin-1')}" if query else "")


def _headers(http: Request) -> list[tuple[str, str]]:
    raw: list[tuple[bytes, bytes]] = http.scope["headers"]
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def _failed(http: Request, status: int) -> Response:
    code, message = _SAID[status]
    headers: dict[str, str] = {}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif status == 405:
        headers["Allow"] = "POST"
    elif status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is of no use
    return failure(status, code, message, request_id=request_id_of(http), headers=headers)


class WebhookCountOut(BaseModel):
    """What came to one endpoint, at all servers together.

    What is `refused` proved nothing, and nothing is kept of it; what is `unavailable` was sent away
    to come again.
    """

    endpoint: str
    received: int
    duplicates: int
    unmatched: int
    failed: int
    challenges: int
    refused: int
    unavailable: int
    last_refused_at: datetime | None
    last_reason: str


class _OpenRoute(APIRoute):
    """A route in the API's document, whose function takes the request as it is.

    To look at parameters and results takes FastAPI longer than all the rest.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        response: Response = await self.endpoint(request, **request.path_params)
        await response(scope, receive, send)


def webhook_router(webhooks: Webhooks) -> APIRouter:
    """The open routes, and the one that tells the product's backend what came by them."""
    router = APIRouter(tags=["webhooks"], route_class=_OpenRoute)
    counts = scoped_router(tags=["webhooks"])

    @router.post("/webhooks/{key}", response_class=Response)
    async def receive_webhook(request: Request, key: Key) -> Response:
        """Events of one subscription, from the app; 2xx once they're kept."""
        return await webhooks.to_subscription(request, key)

    @router.get("/webhooks/{key}", response_class=Response)
    async def answer_challenge(request: Request, key: Key) -> Response:
        """What the app asks before it sends events."""
        return await webhooks.to_subscription(request, key)

    @router.post("/global-webhooks/{app}/{key}", response_class=Response)
    async def receive_global_webhook(request: Request, app: Key, key: Key) -> Response:
        """Events of an app, of all tenants; 2xx once they're kept."""
        return await webhooks.to_everybody(request, app, key)

    @router.get("/global-webhooks/{app}/{key}", response_class=Response)
    async def answer_global_challenge(request: Request, app: Key, key: Key) -> Response:
        """What the app asks before it sends events."""
        return await webhooks.to_everybody(request, app, key)

    @counts.get("/webhook-counts")
    async def read_webhook_counts(
        _: CurrentWorkspace, limit: Limit = 50, cursor: Cursor = ""
    ) -> Page[WebhookCountOut]:
        """How many webhooks came, and what became of them; other servers tell within seconds."""
        await webhooks.tally.flush()
        read = webhooks.counts.counts
        key = attrgetter("endpoint")
        return await run_in_threadpool(page, read, _shown, key, cursor, limit)

    router.include_router(counts)
    return router


def _shown(count: WebhookCount) -> WebhookCountOut:
    return WebhookCountOut(**asdict(count))
