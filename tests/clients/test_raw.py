"""Requests that others wrote: what goes out, and which secrets don't come back."""

from __future__ import annotations

import base64
import gzip
import json
import random
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import AppUnavailable, RateLimited, UnexpectedAnswer
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


def say(content: bytes, *, size: int = 7, **headers: str) -> Any:
    """An app that answers so, a few bytes at a time."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return iter(pieces)

    return lambda _: httpx.Response(200, headers=named, stream=Stream())


def test_no_credential_comes_back_in_a_body() -> None:
    encoded = base64.b64encode(f"ada.l:{SECRET}".encode()).decode()
    sent = {"Authorization": f"Basic {encoded}", "password": SECRET, "user": "ada.l"}
    content = json.dumps({"you": sent, "debug": json.dumps(sent), "url": quote(SECRET)}).encode()
    answer = exchange(BASIC, say(content, Content_Length=str(len(content))))
    body = b"".join(answer.pieces)
    assert len(body) == len(content) and ("content-length", str(len(content))) in answer.headers
    assert json.loads(body)["you"] == {
        "Authorization": "*" * len(f"Basic {encoded}"),
        "password": "*" * len(SECRET),
        "user": "ada.l",
    }
    assert "planted" not in body.decode() and encoded[16:-4] not in body.decode()


def test_what_the_authentication_made_of_credentials_does_not_come_back_either() -> None:
    """Signatures and tokens that are made for one request."""

    def repeat(request: httpx.Request) -> httpx.Response:
        said = json.dumps({"token": request.headers["Authorization"]}).encode()
        answered: httpx.Response = say(said)(request)
        return answered

    made = {"$concat": [{"$var": "$.credentials.username"}, "-made-for-this"]}
    answer = exchange({**BEARER, "token": made}, repeat)
    assert json.loads(b"".join(answer.pieces)) == {"token": "*" * len("Bearer ada.l-made-for-this")}


def test_a_body_that_is_no_text_is_given_as_it_came() -> None:
    content = random.Random(4711).randbytes(300_000)
    answer = exchange(BEARER, say(content, size=4096))
    assert b"".join(answer.pieces) == content


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
def test_a_body_that_is_compressed_unasked_is_looked_into(coding: str) -> None:
    content = json.dumps({"you": SECRET, "and": "x" * 500_000}).encode()
    pack = zlib.compress if coding == "deflate" else gzip.compress
    parts = [pack(content)] if coding == "deflate" else [pack(content[:9]), pack(content[9:])]
    answer = exchange(BEARER, say(b"".join(parts), size=100, Content_Encoding=coding))
    pieces = list(answer.pieces)
    assert b"".join(pieces) == content.replace(SECRET.encode(), b"*" * len(SECRET))
    assert max(map(len, pieces)) < 200_000, "however small it had become"
    assert "content-encoding" not in dict(answer.headers)


def test_compressed_bodies_are_not_asked_for() -> None:
    seen: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Accept-Encoding"])
        return httpx.Response(200)

    exchange(BEARER, note, RawRequest("GET", "things", headers=[("accept-encoding", "br, gzip")]))
    assert seen == ["identity"]


def test_what_cannot_be_looked_into_is_not_given_on() -> None:
    with pytest.raises(UnexpectedAnswer, match="compressed"):
        exchange(BEARER, say(b"...", Content_Encoding="br"))
    cut = gzip.compress(b"x" * 1000)[:-9]
    for damaged, said in ((cut, "broke off"), (b"no gzip", "damaged")):
        with pytest.raises(AppUnavailable, match=said):
            list(exchange(BEARER, say(damaged, Content_Encoding="gzip")).pieces)


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
