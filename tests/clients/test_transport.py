"""The HTTP client: what it offers to the app, and what it shares."""

from __future__ import annotations

import gzip

import brotli
import httpx
import pytest

from membrane_sync.clients.transport import http_client, tls


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("br", brotli.compress)])
def test_compressed_answers_are_asked_for_and_read(coding: str, pack: object) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert coding in request.headers["Accept-Encoding"].split(", ")
        assert callable(pack)
        content = pack(b'{"data": []}')
        return httpx.Response(200, content=content, headers={"Content-Encoding": coding})

    transport = httpx.MockTransport(respond)
    with http_client({}, timeout_seconds=5, transport=transport) as client:
        assert client.get("https://app.test/").json() == {"data": []}


def test_http_2_is_offered() -> None:
    with http_client({}, timeout_seconds=5) as client:
        pool = client._transport._pool  # type: ignore[attr-defined]
        assert pool._http2 and pool._http1


def test_all_clients_share_the_certificates_that_were_read() -> None:
    with http_client({}, timeout_seconds=5) as client:
        assert client._transport._pool._ssl_context is tls()  # type: ignore[attr-defined]


def test_waits_are_bounded() -> None:
    with http_client({}, timeout_seconds=60) as client:
        assert client.timeout == httpx.Timeout(60, connect=15)
    with http_client({}, timeout_seconds=5) as client:
        assert client.timeout == httpx.Timeout(5)
