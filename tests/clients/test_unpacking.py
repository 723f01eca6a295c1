"""Bodies over the wire: compressed in every way, damaged, cut off, huge, and without an end."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import brotli
import pytest

from membrane_sync.clients import unpacking
from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import AppUnavailable, UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Call
from tests.loopback import Quiet, serving

BODY = b'{"data": [' + b", ".join(b'{"id": %d}' % n for n in range(40_000)) + b"]}"


def raw_deflate(body: bytes) -> bytes:
    pack = zlib.compressobj(wbits=-15)
    return pack.compress(body) + pack.flush()


@contextmanager
def app(content: bytes, coding: str, *, chunked: bool = False, drip: bool = False) -> Iterator[Any]:
    """The app's client, whose app gives this answer each time; the waits between are noted."""

    class App(Quiet):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Encoding", coding)
            if chunked or drip:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                while drip:
                    self.wfile.write(b"1\r\n \r\n")
                    time.sleep(0.01)
                if chunked:
                    parts = [content[at : at + 1] for at in range(min(9, len(content)))]
                    for part in [*parts, content[9:], b""]:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                else:
                    self.wfile.write(content)
            except OSError:
                self.close_connection = True

    with serving(App) as url:
        connector = Connector.model_validate({"key": "app", "base_url": url})
        client = HttpApi(connector, ConnectionRecord("a", "app", "t"), sleep=lambda _: None)
        try:
            yield client
        finally:
            client.close()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:9_999]) + gzip.compress(BODY[9_999:])),
        ("gzip", gzip.compress(BODY) + bytes(100)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("br", brotli.compress(BODY, quality=1)),
        ("gzip, br", brotli.compress(gzip.compress(BODY), quality=1)),
        ("BR , deflate,identity", zlib.compress(brotli.compress(BODY, quality=1))),
        ("gzip, gzip, gzip", gzip.compress(gzip.compress(gzip.compress(BODY)))),
        ("utf-8, none", BODY),
        ("utf-8, gzip", gzip.compress(BODY)),
    ],
    ids=[
        *("gzip", "x-gzip", "two gzips", "padded gzip", "deflate", "raw deflate", "br"),
        *("gzip, br", "br, deflate", "gzip thrice", "no coding", "gzip, and no coding"),
    ],
)
def test_every_coding_is_read_to_its_end(coding: str, content: bytes, chunked: bool) -> None:
    with app(content, coding, chunked=chunked) as api:
        assert api.send(Call("GET", "/")).content == BODY


@pytest.mark.parametrize(
    ("coding", "content", "said"),
    [
        ("gzip", gzip.compress(BODY)[:-9], "broke off"),
        ("deflate", zlib.compress(BODY)[:-9], "broke off"),
        ("br", brotli.compress(BODY, quality=1)[:-9], "broke off"),
        ("gzip", BODY, "damaged"),
        ("deflate", BODY, "damaged"),
        ("br", b"\xff" * 99, "damaged"),
        ("gzip, br", brotli.compress(gzip.compress(BODY)[:-9], quality=1), "broke off"),
        ("gzip, br", brotli.compress(BODY, quality=1), "damaged"),
        ("gzip, br", gzip.compress(brotli.compress(BODY, quality=1)), "damaged"),
    ],
)
def test_what_is_damaged_is_asked_for_again(coding: str, content: bytes, said: str) -> None:
    with app(content, coding) as api:
        with pytest.raises(AppUnavailable, match=f"app: GET / failed: .*{said}"):
            api.send(Call("GET", "/"))
        assert api.requests > 1


def twice(body: bytes) -> bytes:
    return brotli.compress(gzip.compress(body))


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("br", brotli.compress),
        ("identity", bytes),
        ("gzip, br", twice),
    ],
    ids=["gzip", "br", "identity", "gzip, br"],
)
def test_a_body_that_swells_is_left(
    coding: str, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "LARGEST_ANSWER", 1_000_000)
    with app(pack(b" " * 50_000_000), coding) as api:
        with pytest.raises(UnexpectedAnswer, match="larger than 1 MB"):
            api.send(Call("GET", "/"))
        assert api.requests == 1


@pytest.mark.parametrize("coding", ["zstd", "gzip, zstd", "compress", ", ".join(["gzip"] * 4)])
def test_a_coding_that_nobody_asked_for_is_named(coding: str) -> None:
    with app(BODY, coding) as api:
        with pytest.raises(UnexpectedAnswer, match=f"nobody asked for: {coding}"):
            api.send(Call("GET", "/"))
        assert api.requests == 1


def test_two_codings_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGEST_ANSWER", 1_000_000)
    packed = twice(bytes(200_000_000))
    with app(packed, "gzip, br") as api:
        tracemalloc.start()
        try:
            with pytest.raises(UnexpectedAnswer, match="larger than 1 MB"):
                api.send(Call("GET", "/"))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 20_000_000


@pytest.mark.parametrize("unpack", [unpacking.inflated, unpacking.brotli_unpacked])
def test_no_piece_is_large_however_small_it_was(unpack: Any) -> None:
    pack = gzip.compress if unpack is unpacking.inflated else brotli.compress
    pieces = list(unpack([pack(bytes(10_000_000))]))
    assert b"".join(pieces) == bytes(10_000_000)
    assert max(map(len, pieces)) < 2_000_000


def test_an_answer_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LONGEST_SECONDS", 0.1)
    with app(b"", "identity", drip=True) as api, pytest.raises(AppUnavailable, match="in time"):
        api.send(Call("GET", "/"))
