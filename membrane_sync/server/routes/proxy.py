"""Calls through a connection: any request to its app, with its credentials, which nobody sees."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import Path, Request
from starlette.responses import Response, StreamingResponse

from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.records import RawAnswer, RawRequest
from membrane_sync.server.envelope import REQUEST_ID, SAFE_HEADERS
from membrane_sync.server.routes.connections import ConnectionKey
from membrane_sync.server.scope import TENANT_HEADER, CurrentScope, scoped_router

router = scoped_router(tags=["proxy"])

FROM_APP = "X-Membrane-Answered-By"
"""Says `app` on what the app answered; what we answer ourselves doesn't have it."""

_PROXIED = re.compile(r"/connections/[^/]+/proxy/([^?]*)")
MOST_AT_ONCE = 40
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

_OF_THE_WIRE = {
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
}
"""Headers that are about one connection between two machines."""

_NOT_TO_THE_APP = _OF_THE_WIRE | {
    "authorization",
    "cookie",
    "content-length",
    "forwarded",
    "host",
    "origin",
    "referer",
    "via",
    "x-real-ip",
    TENANT_HEADER.lower(),
}
_NOT_TO_THE_APP_PREFIXES = ("x-forwarded-", "sec-", "x-membrane-")

_NOT_TO_THE_CALLER = _OF_THE_WIRE | {
    "alt-svc",
    "clear-site-data",
    "content-security-policy-report-only",
    "nel",
    "refresh",
    "report-to",
    "server",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "www-authenticate",
    REQUEST_ID.lower(),
    *(name.lower() for name in SAFE_HEADERS),
}
_NOT_TO_THE_CALLER_PREFIXES = ("access-control-", "x-membrane-")


async def call_app(
    request: Request,
    scope: CurrentScope,
    connection: ConnectionKey,
    path: Annotated[str, Path(description="Below the connector's base URL")],
) -> Response:
    """Send a request to the connection's app, and give its answer as it is."""
    wanted = RawRequest(
        request.method,
        _encoded_path(request, path),
        request.query_params.multi_items(),
        _without(request.headers.items(), _NOT_TO_THE_APP, _NOT_TO_THE_APP_PREFIXES),
        await request.body(),
    )
    limiter: CapacityLimiter = request.app.state.proxy_limiter
    answer = await to_thread.run_sync(
        partial(scope.accounts.exchange, connection, wanted), limiter=limiter
    )
    headers = _without(answer.headers, _NOT_TO_THE_CALLER, _NOT_TO_THE_CALLER_PREFIXES)
    largest: int = request.app.state.largest_answer
    _refuse_large(answer, largest)
    streamed = StreamingResponse(_body(answer, largest, limiter), status_code=answer.status)
    for name, value in headers:
        streamed.headers.append(name, value)
    streamed.headers[FROM_APP] = "app"
    return streamed


for _method in METHODS:
    router.add_api_route(
        "/connections/{connection}/proxy/{path:path}",
        call_app,
        methods=[_method],
        name=f"{_method.lower()}_through_connection",
        response_class=Response,
        summary=f"{_method} through the connection",
    )


def _encoded_path(request: Request, path: str) -> str:
    """The path as it was sent: decoded, `a%2Fb` would have become two segments."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    found = _PROXIED.search(raw.decode("latin-1"))
    return found[1] if found else path


def _without(
    headers: Iterable[tuple[str, str]], names: set[str], prefixes: tuple[str, ...]
) -> list[tuple[str, str]]:
    """The headers but for these, and but for those that `Connection` says are of the wire."""
    given = list(headers)
    named = {
        name.strip().lower()
        for header, value in given
        if header.lower() == "connection"
        for name in value.split(",")
    }
    return [
        (name, value)
        for name, value in given
        if name.lower() not in names | named and not name.lower().startswith(prefixes)
    ]


def _refuse_large(answer: RawAnswer, largest: int) -> None:
    lengths = [value for name, value in answer.headers if name.lower() == "content-length"]
    if any(length.isdecimal() and int(length[:20]) > largest for length in lengths):
        answer.close()
        raise _too_large(largest)


def _too_large(largest: int) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"the app's answer is larger than {largest:,} bytes",
        hint="ask for less, or raise largest_answer_bytes in the server's settings",
    )


async def _body(answer: RawAnswer, largest: int, limiter: CapacityLimiter) -> AsyncIterator[bytes]:
    """The pieces as they come; breaks off where they are too many."""
    taken = 0
    try:
        while piece := await to_thread.run_sync(_next, answer.pieces, limiter=limiter):
            taken += len(piece)
            if taken > largest:
                raise _too_large(largest)
            yield piece
    finally:
        answer.close()


def _next(pieces: Iterator[bytes]) -> bytes:
    return next((piece for piece in pieces if piece), b"")
