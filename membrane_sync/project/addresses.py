"""Where a user may be sent back to: the addresses of the product, and nobody else's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that http will do for: what goes there never leaves the machine."""

_PLAIN = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without a space or a backslash, which browsers don't read as they're written."""


def is_allowed(uri: str, rules: Iterable[str]) -> bool:
    """Whether one of the rules names the address: exactly, or up to a `*` at the rule's end.

    >>> is_allowed("https://app.example/done?x=1", ["https://app.example/*"])
    True
    >>> is_allowed("https://app.example.evil/done", ["https://app.example/*"])
    False
    """
    parts = _parts(uri)
    return parts is not None and any(_fits(uri, parts, rule) for rule in rules)


def origin_of(uri: str) -> str:
    """The scheme, host and port, as a browser writes them; empty for no proper address."""
    parts = _parts(uri)
    if parts is None:
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_allowed_origin(origin: str, rules: Iterable[str]) -> bool:
    """Whether a page of this origin may open the link as a popup."""
    own = origin_of(origin)
    return bool(own) and own == origin and own in {origin_of(rule.rstrip("*")) for rule in rules}


def is_rule(rule: str) -> bool:
    """Whether it can be a rule: an address with a path, which may end in `*`."""
    start = rule.removesuffix("*")
    parts = _parts(start)
    return parts is not None and bool(parts.path) and "*" not in start


def with_answer(uri: str, answer: Mapping[str, str]) -> str:
    """The address with the answer added to its query."""
    parts = urlsplit(uri)
    own = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in answer]
    return parts._replace(query=urlencode([*own, *answer.items()])).geturl()


def _parts(uri: str) -> SplitResult | None:
    """The parts of an http address that every reader takes for the same; None for any other."""
    if not _PLAIN.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    if parts.fragment or ".." in unquote(unquote(parts.path)).split("/"):
        return None
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        return None
    return parts


def _fits(uri: str, parts: SplitResult, rule: str) -> bool:
    if not rule.endswith("*"):
        return uri == rule
    start = rule.removesuffix("*")
    return origin_of(uri) == origin_of(start) and parts.path.startswith(urlsplit(start).path)
