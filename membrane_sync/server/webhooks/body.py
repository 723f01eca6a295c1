"""The body of a request, in bounds of size, of time, and of what all of them take together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from membrane_sync.server.webhooks.group import Busy

BODY_SECONDS = 20.0
MOST_BYTES = 128 * 2**20
"""Held by all requests together."""


class TooLarge(Exception):
    """The body is larger than the declaration allows."""


class TooSlow(Exception):
    """The body didn't come in time, or not to its end."""


class Bodies:
    """Reads bodies, and knows how much of them is in memory."""

    def __init__(self, seconds: float = BODY_SECONDS, most_bytes: int = MOST_BYTES) -> None:
        self.seconds = seconds
        self.most_bytes = most_bytes
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request, largest: int) -> AsyncIterator[bytes]:
        """The whole body, for as long as it's needed; raises TooLarge, TooSlow or Busy."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > largest:
            raise TooLarge
        pieces: list[bytes] = []
        try:
            await self._read(request, largest, pieces)
            yield b"".join(pieces)
        finally:
            self.held -= sum(map(len, pieces))

    async def _read(self, request: Request, largest: int, pieces: list[bytes]) -> None:
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                async for piece in request.stream():
                    size += len(piece)
                    self.held += len(piece)
                    pieces.append(piece)
                    if size > largest:
                        raise TooLarge
                    if self.held > self.most_bytes:
                        raise Busy
        except (TimeoutError, ClientDisconnect):
            raise TooSlow from None
