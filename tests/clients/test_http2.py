"""The app's client over HTTP/2: many requests at once, broken off in every way."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.clients.transport import direct_transport
from membrane_sync.elements.connector import Connector
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Call
from tests.certificates import Authority, server_context
from tests.clients.http2_app import Http2App

BODY = json.dumps({"data": [{"id": n, "name": "x" * 200} for n in range(2_000)]}).encode()
"""More than a window of HTTP/2 lets through at once."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@contextmanager
def serving(app: Http2App, authority: Authority) -> Iterator[HttpApi]:
    transport = direct_transport(ssl.create_default_context(cadata=authority.pem))
    with app.serving() as url:
        connector = Connector.model_validate({"key": "app", "base_url": url})
        connection = ConnectionRecord("a", "app", "t")
        api = HttpApi(connector, connection, transport=transport, sleep=lambda _: None)
        try:
            yield api
        finally:
            api.close()


def test_one_thread_keeps_to_one_connection(authority: Authority, tmp_path: Path) -> None:
    app = Http2App(server_context(authority, tmp_path), BODY)
    with serving(app, authority) as api:
        assert {api.send(Call("GET", f"/{n}")).content == BODY for n in range(5)} == {True}
    assert (app.requests, app.connections) == (5, 1)


def test_many_threads_ask_at_once(authority: Authority, tmp_path: Path) -> None:
    app = Http2App(server_context(authority, tmp_path), BODY)
    with serving(app, authority) as api, ThreadPoolExecutor(6) as threads:
        answers = threads.map(lambda n: api.send(Call("GET", f"/{n}")).content, range(60))
        assert {answer == BODY for answer in answers} == {True}
    assert app.requests == 60, "none failed, and was sent again"
    assert app.connections <= 6


def test_threads_do_not_share_a_connection(authority: Authority, tmp_path: Path) -> None:
    """The state that h2 has of one isn't made for it: a request would fail now and then."""
    together = Barrier(2, timeout=20)
    app = Http2App(server_context(authority, tmp_path), together=together)
    with serving(app, authority) as api, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda n: api.send(Call("GET", f"/{n}")), range(6)))
    assert app.connections == 2 and not together.broken


@pytest.mark.parametrize("how", ["reset", "refuse", "cut", "goaway"])
def test_what_is_broken_off_is_asked_for_again(
    how: str, authority: Authority, tmp_path: Path
) -> None:
    app = Http2App(server_context(authority, tmp_path), BODY, breaks={2: how, 5: how})
    with serving(app, authority) as api:
        answers = [api.send(Call("GET", f"/{n}")).content for n in range(6)]
    assert [answer == BODY for answer in answers] == [True] * 6
    assert app.requests >= 8


@pytest.mark.parametrize("how", ["reset", "refuse", "cut", "goaway"])
def test_what_is_broken_off_for_many_is_asked_for_again(
    how: str, authority: Authority, tmp_path: Path
) -> None:
    breaks = dict.fromkeys(range(7, 60, 11), how)
    app = Http2App(server_context(authority, tmp_path), BODY, breaks=breaks, most_streams=3)
    with serving(app, authority) as api, ThreadPoolExecutor(6) as threads:
        answers = threads.map(lambda n: api.send(Call("GET", f"/{n}")).content, range(40))
        assert {answer == BODY for answer in answers} == {True}
