"""The HTTP client: HTTP/2 and compression where the app offers them, one TLS setting for all."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from functools import cache, cached_property
from urllib.request import getproxies

import httpx

from membrane_sync.clients.concurrency import MOST
from membrane_sync.clients.exclusive import Exclusive
from membrane_sync.clients.hosts import Guarded, Hosts
from membrane_sync.clients.unpacking import bound

AGENT = "membrane-sync"
CONNECT_SECONDS = 15.0
"""An app that takes longer to accept a connection isn't there; an answer may take longer."""
KEPT_ALIVE_SECONDS = 60.0

for _name in ("httpcore.http11", "httpcore.http2", "hpack.hpack", "hpack.table", "hpack.huffman"):
    # They write down headers as they come, in which an app may repeat what nobody knows to be a
    # secret yet: a token that it has just given out.
    logging.getLogger(_name).addFilter(lambda record: record.levelno > logging.DEBUG)


def http_client(
    headers: Mapping[str, str],
    *,
    timeout_seconds: float,
    transport: httpx.BaseTransport | None = None,
    verify: ssl.SSLContext | None = None,
    hosts: Hosts | None = None,
) -> httpx.Client:
    """A client that keeps its connections open; sends `headers` with each request.

    `verify` is for a client certificate; without it, all clients share one TLS setting. With
    `hosts`, it calls no others. Through a proxy, it speaks HTTP/1.1.
    """
    if transport is None:
        transport = direct_transport(verify) if hosts is None else guarded_transport(hosts, verify)
    return _Client(
        headers={"User-Agent": AGENT, "Accept": "application/json", **headers},
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_SECONDS)),
        limits=_limits(),
        verify=verify or tls(),
        transport=transport,
        event_hooks={"response": [bound]},
    )


class _Cookies(httpx.Cookies):
    """Looks for cookies where an answer sets one: httpx makes a request of urllib's for each."""

    def extract_cookies(self, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class _Client(httpx.Client):
    @cached_property
    def cookies(self) -> httpx.Cookies:
        return _Cookies()


def guarded_transport(
    hosts: Hosts, verify: ssl.SSLContext | None = None
) -> httpx.BaseTransport | None:
    """A transport that calls these hosts alone; None where a proxy decides what may be called."""
    inner = direct_transport(verify)
    return None if inner is None else Guarded(inner, hosts)


def direct_transport(verify: ssl.SSLContext | None = None) -> httpx.BaseTransport | None:
    """A transport that threads may share; None where there's a proxy to go through."""
    if {"http", "https", "all"} & set(getproxies()):
        return None
    trusted, limits = verify or tls(), _limits()
    return Exclusive(lambda: httpx.HTTPTransport(verify=trusted, http2=True, limits=limits))


def _limits() -> httpx.Limits:
    return httpx.Limits(
        max_connections=None,
        max_keepalive_connections=MOST,
        keepalive_expiry=KEPT_ALIVE_SECONDS,
    )


@cache
def tls() -> ssl.SSLContext:
    """The TLS setting without a client certificate; to read its certificates takes long."""
    return httpx.create_ssl_context()
