"""Requests that somebody else wrote, sent as they are through a connection.

Whoever writes them isn't to be trusted: they may only reach what is below the connector's base URL,
only with the connector's credentials, and they get none of these to see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

import httpx

from membrane_sync.clients.unpacking import AS_IT_CAME, deflated, inflated
from membrane_sync.clients.words import Words
from membrane_sync.errors import AppUnavailable, MembraneError, Rejected, UnexpectedAnswer
from membrane_sync.masking import Mask
from membrane_sync.records import RawAnswer, RawRequest

LONGEST_PATH = 4_000

_ALLOWED = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[/\\]")
_ROUNDS = 4
"""How often a path may have been encoded and still be looked through."""


def checked_path(path: str) -> str:
    """The path, still encoded, if it can only lead below where it's put; raises Rejected.

    >>> checked_path("buckets/a%2Fb/records")
    'buckets/a%2Fb/records'
    """
    if len(path) > LONGEST_PATH:
        raise _refused(f"is longer than {LONGEST_PATH:,} characters")
    if not _ALLOWED.fullmatch(path):
        raise _refused("has a character that has to be percent-encoded")
    plain = path
    for _ in range(_ROUNDS):
        _check_plain(plain)
        decoded = unquote(plain, errors="replace")
        if decoded == plain:
            return path
        plain = decoded
    raise _refused("is encoded too often")


def _check_plain(path: str) -> None:
    if path.startswith(("/", "\\")) or _SCHEME.match(path):
        raise _refused("is an absolute address; give it below the app's base URL")
    if "\\" in path or not path.isprintable():
        raise _refused("has a backslash or a control character")
    # `;` begins parameters of a segment, which some servers cut off before they look for dots.
    segments = (segment.partition(";")[0].strip() for segment in path.split("/"))
    if any(segment in (".", "..") for segment in segments):
        raise _refused("has a segment of dots")


def _refused(why: str) -> Rejected:
    return Rejected(
        f"the path {why}", hint="only what is below the connector's base URL can be reached"
    )


def send_raw(
    client: httpx.Client,
    request: RawRequest,
    url: httpx.URL,
    *,
    auth: httpx.Auth | None = None,
    words: Words,
    kept: Iterable[str] = (),
) -> RawAnswer:
    """Send it, and give the answer once its headers are there; raises AppUnavailable.

    Headers named in `kept` stay those of the client. Headers and body come back without the
    secrets that `words` knows, and without what the authentication put in. For that, the body is
    asked for as it is, uncompressed; raises UnexpectedAnswer for one that can't be looked into.
    """
    own = {"accept-encoding", *(name.lower() for name in kept)}
    headers = [(name, value) for name, value in request.headers if name.lower() not in own]
    headers.append(("Accept-Encoding", "identity"))
    written = client.build_request(
        request.method,
        url,
        headers=headers,
        content=request.content or None,
        extensions={AS_IT_CAME: True},
    )
    before = dict(written.headers)
    try:
        response = client.send(written, stream=True, auth=auth, follow_redirects=False)
    except httpx.HTTPError as error:
        raise AppUnavailable(
            f"the app can't be reached: {type(error).__name__}",
            hint="is the address right, and the app running?",
        ) from None
    added = Mask(list(_added(before, response.request.headers)))
    try:
        pieces, given = _plain(response)
    except MembraneError:
        response.close()
        raise
    shown = [(name, words.masked(added.text(value))) for name, value in given]
    clean = words.pieces(added.pieces(pieces))
    return RawAnswer(response.status_code, shown, clean, response.close)


def _plain(response: httpx.Response) -> tuple[Iterator[bytes], list[tuple[str, str]]]:
    """The body uncompressed, and the headers that go with it."""
    headers = response.headers.multi_items()
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity") or response.status_code in (204, 304):
        return _pieces(response), headers
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise UnexpectedAnswer(
            f"the app's answer is compressed ({coding[:40]!r}), though it was asked not to be",
            hint="it can't be looked through for credentials, and isn't given on",
        )
    left = [(n, v) for n, v in headers if n.lower() not in ("content-encoding", "content-length")]
    pieces = _pieces(response)
    return deflated(pieces) if coding == "deflate" else inflated(pieces), left


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    """The body as it comes over the wire; raises AppUnavailable where it breaks off."""
    try:
        yield from response.iter_raw()
    except httpx.HTTPError as error:
        raise AppUnavailable(f"the app's answer broke off: {type(error).__name__}") from None
    finally:
        response.close()


def _added(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """What the authentication put into the headers, whole and by its words."""
    for name, value in after.items():
        if before.get(name) != value:
            yield value
            yield from value.split()[1:]
