"""A connection of HTTP/2 for one request at a time, however many threads share the client.

httpcore lets threads share one, and h2's state isn't made for it: under load, a request fails by a
RuntimeError, or its stream is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import httpx


class Exclusive(httpx.BaseTransport):
    """Sends each request by a transport that no other one uses until its answer was read.

    `make` makes one; there are as many as requests were under way at once. The one that was given
    back last is taken first, so that its connection stays warm.
    """

    def __init__(self, make: Callable[[], httpx.BaseTransport]) -> None:
        self._make = make
        self._idle: list[httpx.BaseTransport] = []
        self._closed = False
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            taken = self._idle.pop() if self._idle else None
        inner = taken or self._make()
        try:
            response = inner.handle_request(request)
        except BaseException:
            self._give_back(inner)
            raise
        response.stream = _Taken(response.stream, lambda: self._give_back(inner))  # type: ignore[arg-type]
        return response

    def close(self) -> None:
        """Close those that are idle, and the others when they're given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inner in idle:
            inner.close()

    def _give_back(self, inner: httpx.BaseTransport) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._idle.append(inner)
        if closed:
            inner.close()


class _Taken(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, give_back: Callable[[], None]) -> None:
        self._stream = stream
        self._give_back: Callable[[], None] | None = give_back

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        give_back, self._give_back = self._give_back, None
        try:
            self._stream.close()
        finally:
            if give_back is not None:
                give_back()
