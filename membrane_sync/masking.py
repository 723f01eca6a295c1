"""Secrets hidden in texts: as they are, and as URLs, JSON, HTML and base64 spell them.

Whoever holds a `Mask` has its secrets hidden in the process's logs, too, from `mask_logs` on.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus
from weakref import WeakSet

HIDDEN = "***"
SHORTEST_SECRET = 4
"""Characters; to hide shorter ones would make holes in words, and tell what they are."""
SHORTEST_IN_LOGS = 8
"""In texts of others only what can't be an everyday word is looked for."""

_PUBLIC = re.compile(
    r"user(_?name)?|e?mail|scopes?|token_type|expires?(_?(in|at))?|url|host|account", re.IGNORECASE
)
"""Names in credentials of what is no secret by itself, and may be part of other words."""


class Mask:
    """Hides what is in `secrets`, however deep.

    In the texts of others, where a user's name may be part of anything, that is left as it is.
    """

    def __init__(self, secrets: Any) -> None:
        self._pattern = _pattern([text for _, text in _texts("", secrets)])
        self._in_logs = _pattern(
            [
                text
                for name, text in _texts("", secrets)
                if len(text) >= SHORTEST_IN_LOGS and not _PUBLIC.fullmatch(name)
            ]
        )
        _masks.add(self)

    def text(self, text: str) -> str:
        """The text with `***` in the place of each secret."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def foreign(self, text: str) -> str:
        """The same for a text that isn't about this mask's own business."""
        return self._in_logs.sub(HIDDEN, text) if self._in_logs else text


_masks: WeakSet[Mask] = WeakSet()


def hidden(text: str) -> str:
    """The text without any secret that a living mask of this process knows."""
    for mask in list(_masks):
        text = mask.foreign(text)
    return text


def spellings(secret: str) -> set[str]:
    """How texts may spell a secret."""
    content = secret.encode("utf-8", "surrogatepass")
    quoted = {quote(content, safe=""), quote(content), quote_plus(content)}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in quoted}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    escaped |= {html.escape(secret), repr(secret)[1:-1], repr(content)[2:-1]}
    return {secret, *quoted, *lower, *escaped, *_in_base64(content)}


def _in_base64(content: bytes) -> Iterator[str]:
    """What base64 makes of it wherever it stands in a longer text, as in `user:password`."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + content).decode()
        start = 0 if before == 0 else before + 1
        end = len(content) + before
        inner = encoded[start : end // 3 * 4 + (end % 3)]
        if len(inner) > SHORTEST_SECRET:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")


def mask_logs() -> None:
    """From now on, logs of this process show no secret of a living mask, tracebacks included."""
    former = logging.getLogRecordFactory()
    if getattr(former, "masks", False):
        return

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = former(*args, **kwargs)
        if _masks:
            _mask(record)
        return record

    masked.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(masked)


def _mask(record: logging.LogRecord) -> None:
    try:
        said = record.getMessage()
    except (TypeError, ValueError, KeyError):
        return  # Whoever writes it says so, too.
    clean = hidden(said)
    if clean != said:
        record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        if (clean := hidden(trace)) != trace:
            record.exc_text, record.exc_info = clean, None


def _pattern(secrets: Sequence[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in spellings(secret)}
    # The longest first: what is left of a longer one would tell the rest of it.
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """All texts and numbers that are long enough to be hidden, with the names they're under."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(name, item)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)
        if len(text) >= SHORTEST_SECRET:
            yield name, text
