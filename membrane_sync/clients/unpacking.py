"""Bodies of answers: uncompressed piece by piece, and no larger or slower than can be borne.

A small body may be gigabytes uncompressed, and a server may send a byte a minute for ever: either
would take down more than the sync that asked.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import brotli
import httpx

from membrane_sync.errors import AppUnavailable, UnexpectedAnswer

LARGEST_PIECE = 65_536
LARGEST_ANSWER = 512_000_000
"""Bytes of an answer, uncompressed; it's held in memory as a whole."""
LONGEST_SECONDS = 900.0
"""How long an answer may take, from its first byte to its last."""

MOST_CODINGS = 3
"""So often an answer may be compressed, one over the other."""

AS_IT_CAME = "membrane_as_it_came"
"""An extension of requests whose answers are read piece by piece, by one who uncompresses them."""

Unpack = Callable[[Iterable[bytes]], Iterator[bytes]]
"""Unpacks what is packed in one way."""

_GZIP = 47
"""Tells zlib to take gzip and zlib alike."""
_GZIP_BEGINS = b"\x1f\x8b"
_ZLIB, _RAW_DEFLATE = 15, -15


def bound(response: httpx.Response) -> None:
    """A hook of clients, after headers came: the body is uncompressed here, and bounded.

    Reading it raises UnexpectedAnswer where it's too large, AppUnavailable where it's damaged.
    """
    if response.request.extensions.get(AS_IT_CAME):
        return
    pieces = _bounded(iter(response.stream))  # type: ignore[arg-type]
    for unpack in _unpacking(response):
        pieces = _bounded(unpack(pieces))
    if response.headers.pop("content-encoding", None):
        response.headers.pop("content-length", None)
    response.stream = _Pieces(pieces, response.stream.close)  # type: ignore[union-attr]


def whole(response: httpx.Response) -> bytes:
    """The body of an answer that was asked for as a stream; the same as `response.read()`.

    That would look for what is to be uncompressed once more, and count the bytes.
    """
    if response.is_stream_consumed:
        return response.content
    try:
        return b"".join(response.stream)  # type: ignore[arg-type]
    finally:
        response.close()


class _Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close  # type: ignore[method-assign]

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size, begun = 0, time.monotonic()
    for piece in pieces:
        size += len(piece)
        if size > LARGEST_ANSWER:
            raise UnexpectedAnswer(
                f"the app's answer is larger than {LARGEST_ANSWER // 1_000_000} MB",
                hint="ask for less at once: declare pagination, or a smaller page_size",
            )
        if time.monotonic() - begun > LONGEST_SECONDS:
            raise httpx.ReadTimeout("the answer didn't come to its end")
        yield piece


def _unpacking(response: httpx.Response) -> list[Unpack]:
    """How to unpack it, what was packed last first; words that are no coding mean nothing.

    Raises UnexpectedAnswer for a good answer that can't be unpacked.
    """
    named = response.headers.get("content-encoding", "").lower().replace(" ", "").split(",")
    codings = [coding for coding in named if coding in _UNPACK or coding in _UNKNOWN]
    if len(codings) <= MOST_CODINGS and all(coding in _UNPACK for coding in codings):
        return [_UNPACK[coding] for coding in reversed(codings)]
    if not response.is_success:
        return []
    raise UnexpectedAnswer(
        f"the app's answer is compressed in a way that nobody asked for: {', '.join(codings[:5])}",
        hint="can the app, or what stands before it, be told to use gzip?",
    )


def inflated(pieces: Iterable[bytes], wbits: int = _GZIP) -> Iterator[bytes]:
    """What was compressed by gzip, in one go or several; pieces are bounded, however small it was.

    What follows it isn't looked at, as padding. Raises AppUnavailable where it's damaged.
    """
    unpack, whole = zlib.decompressobj(wbits=wbits), True
    try:
        for piece in pieces:
            full = False
            while piece or full:
                if unpack.eof:
                    if wbits != _GZIP or not piece.startswith(_GZIP_BEGINS[: len(piece)]):
                        return
                    unpack = zlib.decompressobj(wbits=wbits)
                plain = unpack.decompress(piece, LARGEST_PIECE)
                yield plain
                whole = unpack.eof
                full = len(plain) == LARGEST_PIECE and not whole
                piece = unpack.unused_data if whole else unpack.unconsumed_tail
    except zlib.error:
        raise _damaged() from None
    if not whole:
        raise AppUnavailable("the app's answer broke off")


def deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same by zlib, or without its header as some servers understand `deflate`."""
    rest, head = iter(pieces), b""
    while len(head) < 2 and (piece := next(rest, None)) is not None:
        head += piece
    wrapped = head[:1] and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    return inflated(chain([head], rest), _ZLIB if wrapped else _RAW_DEFLATE)


def brotli_unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same by Brotli."""
    unpack, begun = brotli.Decompressor(), False
    try:
        for piece in pieces:
            begun = begun or bool(piece)
            yield (plain := unpack.process(piece, output_buffer_limit=LARGEST_PIECE))
            while plain and not unpack.is_finished():
                yield (plain := unpack.process(b"", output_buffer_limit=LARGEST_PIECE))
    except brotli.error:
        raise _damaged() from None
    if begun and not unpack.is_finished():
        raise AppUnavailable("the app's answer broke off")


def _damaged() -> AppUnavailable:
    return AppUnavailable("the app's answer is compressed, and damaged")


_UNPACK: dict[str, Unpack] = {
    "gzip": inflated,
    "x-gzip": inflated,
    "deflate": deflated,
    "br": brotli_unpacked,
}
_UNKNOWN = ("zstd", "compress", "x-compress", "dcb", "dcz")
