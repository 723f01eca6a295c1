"""The `pattern` of a data schema, searched for in a time that the text's length bounds.

RE2 never backtracks, so no pattern of a tenant can hold up a sync. It has no look-arounds and no
references back; a pattern with one is refused by `membrane check`.
"""

from __future__ import annotations

from typing import Any

MAX_TEXT = 100_000
"""Characters that are searched; a longer text matches no pattern."""


def matches(pattern: str, text: str) -> bool:
    """Is the pattern found anywhere in the text? ValueError if the pattern can't be read."""
    if len(text) > MAX_TEXT:
        return False
    # Imported here: most projects have no pattern, and need not wait for it.
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found: Any = pc.match_substring_regex(pa.scalar(text), pattern)
    except pa.ArrowInvalid:
        raise ValueError(
            "the pattern can't be read; look-arounds and references back are not supported"
        ) from None
    except UnicodeEncodeError:
        return False  # half a surrogate pair, which no pattern can name
    return bool(found.as_py())
