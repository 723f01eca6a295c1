"""Around every request: an id, a bound on its body, safe headers, and no defect that gets out."""

from __future__ import annotations

import logging
import time
import traceback
from secrets import token_hex

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from membrane_sync.server.failures import failure

REQUEST_ID = "X-Request-Id"

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-site",
}
"""Sent with each answer that doesn't have its own."""

log = logging.getLogger("membrane_sync.server")


class Envelope:
    """ASGI middleware, the outermost one."""

    def __init__(self, app: ASGIApp, largest_request: int) -> None:
        self._app = app
        self._largest = largest_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        letter = _Letter(scope, receive, send, self._largest)
        try:
            if letter.is_too_large():
                await failure(
                    413,
                    "too_large",
                    f"the body is larger than {self._largest:,} bytes",
                    "send less, or raise largest_request_bytes in the server's settings",
                    request_id=letter.id,
                )(scope, receive, letter.send)
            else:
                await self._app(scope, letter.receive, letter.send)
        except Exception as error:
            await letter.apologise(error)
        letter.note()


class _Letter:
    """One request on its way in, and its answer on its way out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, largest: int) -> None:
        self.id = token_hex(8)
        self._scope, self._receive, self._send = scope, receive, send
        self._largest = largest
        self._received = 0
        self._status = 0
        self._began = time.monotonic()
        scope.setdefault("state", {})["request_id"] = self.id

    def is_too_large(self) -> bool:
        """Whether it says so itself."""
        length = Headers(scope=self._scope).get("content-length", "0")
        return length.isdecimal() and int(length[:20]) > self._largest

    async def receive(self) -> Message:
        """The next piece; raises HTTPException once it's more than is taken."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._largest:
            raise HTTPException(413, f"the body is larger than {self._largest:,} bytes")
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer; its headers go out with what makes them safe."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.id
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def apologise(self, error: Exception) -> None:
        """A defect: its place goes to the log, its words don't, since they may hold secrets."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}:{place.lineno}"
        log.error("%s %s: %s at %s", self.id, self._route(), type(error).__name__, where)
        if self._status:
            raise ConnectionAbortedError(f"request {self.id} broke off") from None
        await failure(
            500,
            "defect",
            "something went wrong that isn't the request's fault",
            "the server's log says where: look for the request_id",
            request_id=self.id,
        )(self._scope, self._receive, self.send)

    def note(self) -> None:
        """A line in the log; of the path it has the pattern, since paths may hold secrets."""
        took = (time.monotonic() - self._began) * 1000
        log.info("%s %s %s %.0f ms", self.id, self._route(), self._status, took)

    def _route(self) -> str:
        route = self._scope.get("route")
        return f"{self._scope['method']} {getattr(route, 'path', '(no route)')}"
