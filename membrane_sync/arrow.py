"""Texts on their way into DuckDB."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

from membrane_sync.records import Texts


def text_array(values: Sequence[str | None]) -> pa.Array:
    """An Arrow array, without `pa.array`: its first call loads pandas, for 0.3 s and 50 MB.

    Raises UnicodeEncodeError for a text with half of a character.
    """
    if isinstance(values, Texts):
        return _joined(values)
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def json_array(texts: Texts) -> pa.Array:
    """The texts as DuckDB's JSON, which isn't checked once more: they must be JSON in UTF-8."""
    return pa.ExtensionArray.from_storage(pa.json_(pa.large_string()), _joined(texts))


def _joined(texts: Texts) -> pa.Array:
    """The texts end to end, with no Python text in between of those that are bytes already."""
    if texts.end_to_end is not None:
        data, ends = texts.end_to_end
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    pieces = texts.pieces
    try:
        joined = b"".join(pieces)
    except TypeError:
        pieces = [text.encode() if isinstance(text, str) else text for text in pieces]
        joined = b"".join(pieces)
    offsets = array("q", accumulate(map(len, pieces), initial=0))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
    return pa.Array.from_buffers(pa.large_string(), len(pieces), buffers)


def is_utf8(content: bytes) -> bool:
    """Whether it's UTF-8, without a Python text of it: that takes eight times as long."""
    if content.isascii():
        return True
    ends = pa.py_buffer(array("q", (0, len(content))))
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(content)])
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def without(pieces: Sequence[Any], content: bytes) -> bytes:
    """A JSON text with a null in place of some of its values, which are views of it in a row.

    What stands between the first and the last goes with them. Raises ValueError where they aren't
    views.
    """
    if not pieces:
        return content
    beginning = pa.py_buffer(content).address
    first, last = pa.py_buffer(pieces[0]), pa.py_buffer(pieces[-1])
    start, end = first.address - beginning, last.address + last.size - beginning
    if not 0 <= start <= end <= len(content):
        raise ValueError("the pieces are no views of the text")
    return content[:start] + b"null" + content[end:]
