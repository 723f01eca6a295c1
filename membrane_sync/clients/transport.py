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
from membrane_sync.clients.unpacking import bound, whole

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
) -> Client:
    """A client that keeps its connections open; sends `headers` with each request.

    `verify` is for a client certificate; without it, all clients share one TLS setting. With
    `hosts`, it calls no others. Through a proxy, it speaks HTTP/1.1.
    """
    if transport is None:
        transport = direct_transport(verify) if hosts is None else guarded_transport(hosts, verify)
    client = Client(
        headers={"User-Agent": AGENT, "Accept": "application/json", **headers},
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_SECONDS)),
        limits=_limits(),
        verify=verify or tls(),
        transport=transport,
        event_hooks={"response": [bound]},
    )
    client.direct = transport
    return client


class _Cookies(httpx.Cookies):
    """Looks for cookies where an answer sets one: httpx makes a request of urllib's for each."""

    def extract_cookies(self, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class Client(httpx.Client):
    """httpx's, and a shorter way through it; make one with `http_client`."""

    direct: httpx.BaseTransport | None = None
    """The transport of all requests; None where it depends on the host, as with a proxy."""

    @cached_property
    def cookies(self) -> httpx.Cookies:
        return _Cookies()

    def exchange(self, request: httpx.Request, auth: httpx.Auth | None) -> httpx.Response:
        """Send a request; of the answer only the headers came yet, and redirects aren't followed.

        The same as `send` does, but for what it does for redirects, its hooks and its log: that
        takes a quarter of the CPU of a request.
        """
        if self.direct is None:
            return self.send(request, auth=auth, stream=True)
        if self.is_closed:
            raise RuntimeError("the client was closed")
        if auth is None:
            return self._answer(self.direct, request)
        flow = auth.sync_auth_flow(request)
        try:
            request = next(flow)
            while True:
                response = self._answer(self.direct, request)
                try:
                    request = flow.send(response)
                    whole(response)
                except StopIteration:
                    return response
                except BaseException:
                    response.close()
                    raise
        finally:
            flow.close()

    def _answer(self, transport: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
        response = transport.handle_request(request)
        try:
            response.request = request
            self.cookies.extract_cookies(response)
            bound(response)
        except BaseException:
            response.close()
            raise
        return response


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
