"""The bytes that were signed, out of a template such as `{timestamp}.{body}`."""

from __future__ import annotations

from urllib.parse import urlsplit

from membrane_sync.elements.webhook import PLACEHOLDER, Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures.proof import check_age, the_header


class Template:
    """What a signature is over; a template with a timestamp is good for a while only."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        pieces = PLACEHOLDER.split(signature.template)
        self._plain = [piece.encode() for piece in pieces[::2]]
        self._named = pieces[1::2]

    def signed(self, request: WebhookRequest, now: float) -> bytes:
        """The bytes; raises Refused where they're too old, or a header is missing."""
        parts = [self._plain[0]]
        for name, plain in zip(self._named, self._plain[1:], strict=True):
            parts += [self._part(name, request, now), plain]
        return b"".join(parts)

    def _part(self, name: str, request: WebhookRequest, now: float) -> bytes:
        if name == "body":
            return request.body
        if name == "timestamp":
            written = the_header(request, self._signature.timestamp_header or "")
            check_age(written, now, self._signature.tolerance_seconds)
            return written.encode("latin-1", "replace")
        if name.startswith("header:"):
            return the_header(request, name.removeprefix("header:")).encode("latin-1", "replace")
        texts = {
            "method": request.method,
            "url": request.url,
            "path": urlsplit(request.url).path,
        }
        return texts[name].encode()
