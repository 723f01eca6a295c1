"""The HTTP client: what it offers to the app, and what it shares."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import brotli
import httpx
import pytest

from membrane_sync.clients.exclusive import Exclusive
from membrane_sync.clients.transport import direct_transport, http_client, tls
from membrane_sync.clients.unpacking import whole
from membrane_sync.errors import UnexpectedAnswer


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


class Closing(httpx.SyncByteStream):
    """The body of an answer; notes whether it was closed."""

    def __init__(self, content: bytes) -> None:
        self.content, self.closed = content, False

    def __iter__(self) -> Iterator[bytes]:
        yield self.content

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("direct", [True, False])
def test_both_ways_go_through_authentication_and_close_what_they_opened(direct: bool) -> None:
    """Digest sends a request twice, and needs the first answer closed before."""
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
    bodies: list[Closing] = []

    def respond(request: httpx.Request) -> httpx.Response:
        assert all(body.closed for body in bodies)
        signed = request.headers.get("Authorization", "").startswith("Digest ")
        bodies.append(Closing(b"in" if signed else b"out"))
        headers = {} if signed else {"WWW-Authenticate": challenge}
        return httpx.Response(200 if signed else 401, headers=headers, stream=bodies[-1])

    with http_client({}, timeout_seconds=5, transport=httpx.MockTransport(respond)) as client:
        if not direct:
            client.direct = None
        request = client.build_request("GET", "https://app.test/")
        assert whole(client.exchange(request, httpx.DigestAuth("ada", "pw"))) == b"in"
    assert [body.closed for body in bodies] == [True, True]


@pytest.mark.parametrize("direct", [True, False])
def test_an_answer_that_cannot_be_unpacked_is_closed(direct: bool) -> None:
    body = Closing(b"?")
    answer = httpx.Response(200, headers={"Content-Encoding": "zstd"}, stream=body)
    transport = httpx.MockTransport(lambda _: answer)
    with http_client({}, timeout_seconds=5, transport=transport) as client:
        if not direct:
            client.direct = None
        with pytest.raises(UnexpectedAnswer):
            client.exchange(client.build_request("GET", "https://app.test/"), None)
    assert body.closed


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
