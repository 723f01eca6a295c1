"""Messages about calls that hold no secret and no value of a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from membrane_sync.masking import Mask
from membrane_sync.records import Call


class Words:
    """Says what happened to a call to one app, with the connection's secrets masked."""

    def __init__(self, app: str, secrets: Mapping[str, Any]) -> None:
        self._app = app
        self._mask = Mask(secrets)

    def masked(self, text: str) -> str:
        """A text of the app's without the connection's secrets."""
        return self._mask.text(text)

    def pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """A body of the app's without them, as long as it was."""
        return self._mask.pieces(pieces)

    def about(self, call: Call, what: str) -> str:
        """A message about a call: its path, never its query, which may hold secrets or values."""
        path = call.url.partition("?")[0].partition("#")[0]
        return self._mask.text(f"{self._app}: {call.method} {path} {what}")

    def reason(self, body: Any) -> str:
        """The app's own words, if it has any; nothing else of a body goes into messages."""
        if isinstance(body, Mapping):
            for name in ("message", "error", "detail", "errors"):
                words = body.get(name)
                if isinstance(words, str) and words:
                    # Masked before it's cut: half a secret wouldn't be found.
                    return f": {self._mask.text(words)[:200]}"
        return ""
