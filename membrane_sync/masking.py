"""Secrets hidden in texts and in bytes, however they are spelt.

Whoever holds a `Mask` has its secrets hidden in the process's logs, too, from `mask_logs` on.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from membrane_sync.spelling import Spellings

HIDDEN = "***"
SHORTEST_SECRET = 4
"""Characters; to hide shorter ones would make holes in words, and tell what they are."""
SHORTEST_IN_LOGS = 8
"""In texts of others only what can't be an everyday word is looked for."""

_OWNERS = "user|account|team|tenant|org|organi[sz]ation|company|workspace|bot|app|client|hub|portal"
_PUBLIC = re.compile(
    rf"(({_OWNERS})_?)*(id|name)|{_OWNERS}|(\w+_)?e?mail|scopes?|token_type|iat|exp|nbf"
    r"|((created|issued|expires?)(_?(in|at))?)|(\w+_)?(url|uri|host|domain)",
    re.IGNORECASE,
)
"""Names in credentials of what is no secret by itself, and may be part of other words.

Providers tell them together with a token; an app's answers are full of them.
"""


class Mask:
    """Hides what is in `secrets`, however deep.

    In the texts of others, where a user's name may be part of anything, that is left as it is.
    """

    def __init__(self, secrets: Any) -> None:
        found = list(_texts("", secrets))
        self._all = Spellings(text for _, text in found)
        self._in_others = Spellings(
            text
            for name, text in found
            if len(text) >= SHORTEST_IN_LOGS and not _PUBLIC.fullmatch(name)
        )
        _masks.add(self)

    def text(self, text: str) -> str:
        """The text with `***` in the place of each secret."""
        return self._all.hide(text, HIDDEN)

    def foreign(self, text: str) -> str:
        """The same for a text that isn't about this mask's own business."""
        return self._in_others.hide(text, HIDDEN)

    def pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same for what comes in pieces; as long as it was, since its length may be told.

        Each byte of a secret is a `*`. What may be the beginning of one is kept until it's known
        to be none: at the latest at the end of its line.
        """
        held, masked = b"", 0
        for piece in pieces:
            held += piece
            sure = max(self._lines_of(held), len(held) - self._in_others.longest)
            if sure > 0:
                clean, end = self._without_secrets(held, masked, sure)
                # What goes on after `sure` stays as it is, since another secret may begin in it.
                held, masked = held[sure:], max(end - sure, 0)
                yield clean
        yield self._without_secrets(held, masked, len(held))[0]

    def _lines_of(self, content: bytes) -> int:
        """Where the last whole line ends, if no secret goes on beyond its line."""
        return 0 if self._in_others.have_lines else content.rfind(b"\n") + 1

    def _without_secrets(self, content: bytes, masked: int, sure: int) -> tuple[bytes, int]:
        """The bytes up to `sure`, and where the last secret ends that begins before it.

        Of the first, so many as `masked` belong to one that has begun earlier.
        """
        found = [span for span in self._in_others.find(content) if span[0] < sure]
        clean = bytearray(content)
        for start, stop in ((0, masked), *found):
            clean[start:stop] = b"*" * (stop - start)
        return bytes(clean[:sure]), max(masked, *(stop for _, stop in found), 0)


_masks: WeakSet[Mask] = WeakSet()


def hidden(text: str) -> str:
    """The text without any secret that a living mask of this process knows."""
    for mask in list(_masks):
        text = mask.foreign(text)
    return text


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
        # Whoever writes it complains of that, and shows both.
        said = f"{record.msg} {record.args}"
        record.msg, record.args = hidden(said), ()
        return
    clean = hidden(said)
    if clean != said:
        record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        if (clean := hidden(trace)) != trace:
            record.exc_text, record.exc_info = clean, None


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
        yield from _inside(name, text)


def _inside(name: str, text: str) -> Iterator[tuple[str, str]]:
    """What a text has of secrets: a URL its password, a file of credentials its fields."""
    if "://" in text and (password := password_of(text)):
        yield from _texts("password", password)
    if text.lstrip().startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return
        yield from _texts(name, fields)


def password_of(url: str) -> str:
    """The password in `scheme://user:password@host`, decoded; "" if there's none."""
    try:
        return unquote(urlsplit(url.strip()).password or "")
    except ValueError:
        return ""


def passwords(value: Any) -> list[str]:
    """Those in the URLs of a value, however deep."""
    found = (password_of(text) for _, text in _texts("", value) if "://" in text)
    return [password for password in found if password]
