"""Requests that others wrote: what goes out, and which secrets don't come back."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import AppUnavailable, RateLimited
from membrane_sync.ports import ConnectionRecord, Kept
from membrane_sync.records import RawAnswer, RawRequest

SECRET = "planted-s3cret/+="
BASIC: dict[str, Any] = {
    "type": "basic",
    "username": {"$var": "$.credentials.username"},
    "password": {"$var": "$.credentials.password"},
}
IN_QUERY: dict[str, Any] = {
    "type": "api_key",
    "location": "query",
    "parameter": "key",
    "token": {"$var": "$.credentials.password"},
}
IN_COOKIE: dict[str, Any] = {**IN_QUERY, "location": "cookie"}
BEARER: dict[str, Any] = {"type": "bearer", "token": {"$var": "$.credentials.password"}}


def exchange(
    authentication: dict[str, Any],
    answer: Any,
    request: RawRequest | None = None,
    live: Any = None,
    **more: Any,
) -> RawAnswer:
    """The answer of an app that is given as a function of the request."""
    connector = Connector.model_validate(
        {
            "key": "crm",
            "base_url": "https://crm.example/api/",
            "authentication": authentication,
            **more,
        }
    )
    record = ConnectionRecord(
        "acme", "crm", "acme", credentials={"username": "ada.l", "password": SECRET}, version=1
    )
    api = HttpApi(connector, record, live=live, transport=httpx.MockTransport(answer))
    return api.exchange(request or RawRequest("GET", "things"))


def echo(request: httpx.Request) -> httpx.Response:
    """Repeats all that it was sent in its headers."""
    sent = [(f"x-{name}", value) for name, value in request.headers.items()]
    return httpx.Response(302, headers=[*sent, ("Location", str(request.url))])


@pytest.mark.parametrize("authentication", [BASIC, IN_QUERY, IN_COOKIE, BEARER])
def test_no_spelling_of_a_credential_comes_back(authentication: dict[str, Any]) -> None:
    headers = dict(exchange(authentication, echo).headers)
    encoded = base64.b64encode(f"ada.l:{SECRET}".encode()).decode()
    for spelling in (SECRET, str(httpx.QueryParams({"x": SECRET})).partition("=")[2], encoded):
        assert spelling not in str(headers)
    assert "***" in str(headers)


def test_what_the_authentication_sends_cannot_be_given_otherwise() -> None:
    seen: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    mine = RawRequest("GET", "things", [("key", "mine"), ("key", "two"), ("x", "1")])
    assert exchange(IN_QUERY, note, mine).status == 204
    assert sorted(seen[0].url.params.multi_items()) == [("key", SECRET), ("x", "1")]
    assert seen[0].url.path == "/api/things"


def test_the_body_is_given_as_it_came_over_the_wire() -> None:
    def compressed(request: httpx.Request) -> httpx.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        pieces = httpx.ByteStream(b"\x1f\x8b not really gzip")
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=pieces)

    answer = exchange(BEARER, compressed)
    assert b"".join(answer.pieces) == b"\x1f\x8b not really gzip"


def test_an_answer_that_breaks_off_says_so() -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"half"
            raise httpx.ReadError("gone")

    answer = exchange(BEARER, lambda _: httpx.Response(200, stream=Broken()))
    with pytest.raises(AppUnavailable, match="broke off"):
        list(answer.pieces)


class Refreshing:
    """Live credentials that another token can be had for once."""

    def __init__(self) -> None:
        self.version = 1

    def current(self) -> Kept:
        return Kept(self.version, {"password": f"token-{self.version}"})

    def refresh(self, used: int) -> bool:
        if self.version == 2:
            return False
        self.version = 2
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize(("good", "calls"), [("token-2", 2), ("no such token", 2)])
def test_expired_credentials_are_refreshed_once(good: str, calls: int) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200 if seen[-1] == f"Bearer {good}" else 401)

    given = exchange(BEARER, answer, RawRequest("POST", "x", content=b"{}"), Refreshing())
    assert given.status == (200 if good == "token-2" else 401)
    assert len(seen) == calls


def test_an_app_that_asks_to_wait_is_not_asked_again_before() -> None:
    connector = Connector.model_validate({"key": "crm", "base_url": "https://crm.example"})
    record = ConnectionRecord("acme", "crm", "acme")

    def busy(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "120"})

    api = HttpApi(connector, record, longest_wait=10, transport=httpx.MockTransport(busy))
    assert api.exchange(RawRequest("GET", "x")).status == 429
    with pytest.raises(RateLimited) as told:
        api.exchange(RawRequest("GET", "x"))
    assert 100 < (told.value.retry_after or 0) <= 120
