"""Fetches a small JSON document that is nobody's secret, such as a provider's public keys."""

from __future__ import annotations

import json
from typing import Any

import httpx

from membrane_sync.clients.transport import http_client
from membrane_sync.errors import AppUnavailable

LARGEST = 1_000_000
SECONDS = 10.0


def fetch_json(url: str, *, transport: httpx.BaseTransport | None = None) -> Any:
    """The document; no redirect is followed. Raises AppUnavailable where none of use comes."""
    found = b""
    try:
        with (
            http_client({}, timeout_seconds=SECONDS, transport=transport) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise AppUnavailable(f"{_shown(url)} answered {response.status_code}")
            for piece in response.iter_bytes():
                found += piece
                if len(found) > LARGEST:
                    raise AppUnavailable(f"{_shown(url)} is larger than {LARGEST:,} bytes")
        return json.loads(found)
    except httpx.HTTPError as error:
        raise AppUnavailable(f"{_shown(url)} can't be read: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise AppUnavailable(f"{_shown(url)} is no JSON document") from None


def _shown(url: str) -> str:
    return url.partition("?")[0]
