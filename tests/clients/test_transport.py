"""The HTTP client: what it offers to the app, and what it shares."""

from __future__ import annotations

import gzip

import brotli
import httpx
import pytest

from membrane_sync.clients.exclusive import Exclusive
from membrane_sync.clients.transport import direct_transport, http_client, tls


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


def test_all_clients_share_the_certificates_that_were_read() -> None:
    with http_client({}, timeout_seconds=5) as client:
        made = client._transport._make()  # type: ignore[attr-defined]
        assert made._pool._ssl_context is tls()


def test_a_proxy_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert direct_transport() is None
    with (
        http_client({}, timeout_seconds=5) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get("https://app.test/")


def test_waits_are_bounded() -> None:
    with http_client({}, timeout_seconds=60) as client:
        assert client.timeout == httpx.Timeout(60, connect=15)
    with http_client({}, timeout_seconds=5) as client:
        assert client.timeout == httpx.Timeout(5)


def test_a_transport_is_used_by_one_request_at_a_time_and_closed_at_last() -> None:
    made: list[Inner] = []

    class Inner(httpx.BaseTransport):
        def __init__(self) -> None:
            made.append(self)
            self.answers, self.closed = 0, False

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/broken":
                raise httpx.ConnectError("broken")
            self.answers += 1
            return httpx.Response(200, content=iter([b"x"]))

        def close(self) -> None:
            self.closed = True

    with httpx.Client(transport=Exclusive(Inner)) as client:
        with client.stream("GET", "http://app.test/a"), client.stream("GET", "http://app.test/b"):
            assert len(made) == 2
        with pytest.raises(httpx.ConnectError):
            client.get("http://app.test/broken")
        client.get("http://app.test/c")
        assert [inner.answers for inner in made] == [2, 1] or [i.answers for i in made] == [1, 2]
        held = client.stream("GET", "http://app.test/d")
        held.__enter__()
    assert sorted(inner.closed for inner in made) == [False, True], "one is read still"
    held.__exit__(None, None, None)
    assert all(inner.closed for inner in made)
