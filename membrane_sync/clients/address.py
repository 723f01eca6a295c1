"""Where requests go: below the connector's base URL, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx

from membrane_sync.clients.raw import checked_path
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import Fatal, Rejected, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate

_REMEMBERED = 256
"""How many parsed paths are kept; those of listings are few, those of single records aren't."""


class Address:
    """One connection's base URL and the query that goes with every call below it."""

    def __init__(self, connector: Connector, scope: Mapping[str, Any]) -> None:
        self._app = connector.key
        self._base = _base_url(connector, scope)
        self._root = str(self._base).rstrip("/")
        self._query = evaluated(connector.query, scope)
        self._parsed: dict[str, tuple[httpx.URL, str]] = {}

    def url(self, path: str, query: Mapping[str, Any]) -> httpx.URL:
        """The absolute URL; one that the app gave goes as it is, if it's the app's own."""
        if path.startswith(("http://", "https://")):
            return self._own(path)
        url, text = self._parsed.get(path) or self._below_base(path)
        merged = {**self._query, **query}
        if not merged:
            return url
        parameters = httpx.QueryParams({name: _query_value(v) for name, v in merged.items()})
        if url.query or url.fragment:
            return url.copy_merge_params(parameters)
        return httpx.URL(f"{text}?{parameters}")

    def exact(self, path: str, query: Sequence[tuple[str, str]]) -> httpx.URL:
        """The URL of a path that a stranger gave: below the base URL, or Rejected is raised.

        The connector's own query parameters can't be given otherwise.
        """
        below = self._root + ("/" if path else "")
        url = httpx.URL(below + checked_path(path))
        raw = url.raw_path.partition(b"?")[0]
        base = self._base.raw_path.partition(b"?")[0].rstrip(b"/")
        inside = raw == base or raw.startswith(base + b"/") or not base
        if _origin(url) != _origin(self._base) or url.userinfo or not inside:
            raise Rejected(f"{self._app}: the path leads elsewhere than below the base URL")
        own = [(name, _query_value(value)) for name, value in self._query.items()]
        given = [(name, value) for name, value in query if name not in self._query]
        return url.copy_with(params=[*own, *given]) if own or given else url

    def _own(self, text: str) -> httpx.URL:
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            raise UnexpectedAnswer(
                f"{self._app}: the app gave a next page that is no URL",
                hint="compare `pagination.next` in the collection's YAML with what it answers",
            ) from None
        if _origin(url) != _origin(self._base) or url.userinfo:
            raise UnexpectedAnswer(
                f"{self._app}: the app points to another host "
                f"({url.scheme}://{url.host}); credentials are not sent there",
                hint="if that's the app's real address, use it as base_url",
            )
        return url

    def _below_base(self, path: str) -> tuple[httpx.URL, str]:
        """The URL without the call's own query, and its text."""
        if not path:
            return self._base, str(self._base)
        try:
            url = httpx.URL(f"{self._root}/{path.lstrip('/')}")
        except httpx.InvalidURL:
            raise Fatal(
                f"{self._app}: a path makes no URL: a character in it can't be sent, or "
                "it's too long",
                hint="look at the request's `path`, and at the values that it's given",
            ) from None
        parsed = url, str(url)
        if len(self._parsed) < _REMEMBERED:
            self._parsed[path] = parsed
        return parsed


def evaluated(template: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """The template's values; empty where it gives nothing."""
    value = evaluate(dict(template), scope)
    return {} if value is MISSING else dict(value)


def _base_url(connector: Connector, scope: Mapping[str, Any]) -> httpx.URL:
    value = evaluate(connector.base_url, scope)
    url = httpx.URL()
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        with suppress(httpx.InvalidURL):
            url = httpx.URL(value)
    # What it gives may be a secret, and isn't said.
    if not url.host:
        raise Fatal(
            f"connector {connector.key!r}: base_url gives no URL that begins with https://",
            hint="give the connection the input that base_url uses: membrane connect --set",
        )
    if url.userinfo:
        raise Fatal(
            f"connector {connector.key!r}: base_url gives a URL with a user name or password in it",
            hint="leave them out of it; they are credentials: authentication has a type `basic`",
        )
    return url


def _query_value(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict) else value


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
