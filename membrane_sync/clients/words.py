"""Messages about calls that hold no secret and no value of a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.records import Call

SHORTEST_SECRET = 4
"""Characters; to hide shorter ones would make holes in words, and tell what they are."""


class Words:
    """Says what happened to a call to one app, with the connection's secrets masked."""

    def __init__(self, app: str, credentials: Mapping[str, Any]) -> None:
        self._app = app
        self._secrets = _texts_in(credentials)

    @property
    def secrets(self) -> list[str]:
        """What is masked, the longest first."""
        return self._secrets

    def about(self, call: Call, what: str) -> str:
        """A message about a call: its path, never its query, which may hold secrets or values."""
        path = call.url.partition("?")[0].partition("#")[0]
        return self._masked(f"{self._app}: {call.method} {path} {what}")

    def reason(self, body: Any) -> str:
        """The app's own words, if it has any; nothing else of a body goes into messages."""
        if isinstance(body, Mapping):
            for name in ("message", "error", "detail", "errors"):
                words = body.get(name)
                if isinstance(words, str) and words:
                    # Masked before it's cut: half a secret wouldn't be found.
                    return f": {self._masked(words)[:200]}"
        return ""

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _texts_in(value: Any) -> list[str]:
    """All texts of the credentials that are long enough to be hidden, the longest first."""
    if isinstance(value, Mapping):
        texts = [text for item in value.values() for text in _texts_in(item)]
    elif isinstance(value, list | tuple):
        texts = [text for item in value for text in _texts_in(item)]
    else:
        texts = (
            [str(value)]
            if isinstance(value, str | int) and len(str(value)) >= SHORTEST_SECRET
            else []
        )
    return sorted(texts, key=len, reverse=True)
