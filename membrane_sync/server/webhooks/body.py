"""The body of a request, in bounds of size, of time, and of what all of them take together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from membrane_sync.server.webhooks.group import Busy

BODY_SECONDS = 20.0
MOST_BYTES = 128 * 2**20
"""Held by all requests together."""
SHARE = 4
"""Those to one endpoint hold a part of that: whoever floods it leaves room for the others."""


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
        self._held_of: Counter[str] = Counter()

    @asynccontextmanager
    async def read(self, request: Request, largest: int, endpoint: str) -> AsyncIterator[bytes]:
        """The whole body, for as long as it's needed; raises TooLarge, TooSlow or Busy."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > largest:
            raise TooLarge
        pieces: list[bytes] = []
        try:
            await self._read(request, largest, endpoint, pieces)
            yield b"".join(pieces)
        finally:
            self._hold(endpoint, -sum(map(len, pieces)))
            if not self._held_of[endpoint]:
                del self._held_of[endpoint]

    async def _read(
        self, request: Request, largest: int, endpoint: str, pieces: list[bytes]
    ) -> None:
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                async for piece in request.stream():
                    size += len(piece)
                    self._hold(endpoint, len(piece))
                    pieces.append(piece)
                    if size > largest:
                        raise TooLarge
                    if self._is_full(endpoint):
                        raise Busy
        except (TimeoutError, ClientDisconnect):
            raise TooSlow from None

    def _hold(self, endpoint: str, size: int) -> None:
        self.held += size
        self._held_of[endpoint] += size

    def _is_full(self, endpoint: str) -> bool:
        share = max(self.most_bytes // SHARE, 1)
        return self._held_of[endpoint] > share or self.held > self.most_bytes
