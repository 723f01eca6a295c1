"""JSON as apps send it: read to its end, or said to be broken in words that help."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from membrane_sync.arrow import is_utf8
from membrane_sync.errors import AppUnavailable, UnexpectedAnswer


def is_plain(content: bytes) -> bool:
    """Whether it's JSON by the letter of RFC 8259 in UTF-8, which all readers take the same way.

    Python's reader also takes NaN and halves of characters, and other encodings.
    """
    return cut_plain(content, _whole) is not None


def cut_plain(content: bytes, cut: Callable[[bytes], Any]) -> Any:
    """What `cut`, which reads all of it by msgspec, makes of such JSON; None of anything else."""
    try:
        parts = cut(content)
    except (ValueError, RecursionError):
        return None
    return parts if is_utf8(content) else None


def _whole(content: bytes) -> msgspec.Raw:
    return msgspec.json.decode(content, type=msgspec.Raw)


def read_json(content: bytes) -> Any:
    """The JSON of an answer; what is cut off may come whole the next time, the rest won't.

    Raises AppUnavailable or UnexpectedAnswer.
    """
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise AppUnavailable("answered JSON that isn't whole; it may be cut off") from None
    except RecursionError:
        raise UnexpectedAnswer(
            "answered JSON that is nested too deep to be read",
            hint="ask the app for less: fewer fields, or records without their children",
        ) from None
    except ValueError:
        raise UnexpectedAnswer(
            "answered a number with more digits than can be read",
            hint="ask the app for fewer fields, or for that one as text",
        ) from None
