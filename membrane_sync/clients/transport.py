"""The HTTP client: HTTP/2 and compression where the app offers them, one TLS setting for all."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache

import httpx

from membrane_sync.clients.concurrency import MOST

AGENT = "membrane-sync"
CONNECT_SECONDS = 15.0
"""An app that takes longer to accept a connection isn't there; an answer may take longer."""
KEPT_ALIVE_SECONDS = 60.0


def http_client(
    headers: Mapping[str, str],
    *,
    timeout_seconds: float,
    transport: httpx.BaseTransport | None = None,
    verify: ssl.SSLContext | None = None,
) -> httpx.Client:
    """A client that keeps its connections open; sends `headers` with each request.

    `verify` is for a client certificate; without it, all clients share one TLS setting.
    """
    return httpx.Client(
        headers={"User-Agent": AGENT, "Accept": "application/json", **headers},
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_SECONDS)),
        limits=httpx.Limits(
            max_connections=None,
            max_keepalive_connections=MOST,
            keepalive_expiry=KEPT_ALIVE_SECONDS,
        ),
        http2=True,
        verify=verify or tls(),
        transport=transport,
    )


@cache
def tls() -> ssl.SSLContext:
    """The TLS setting without a client certificate; to read its certificates takes long."""
    return httpx.create_ssl_context()
