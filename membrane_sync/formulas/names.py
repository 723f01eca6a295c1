"""Splitting a person's name into first and last, by the customs Membrane's formulas follow.

Which words count as titles, suffixes and particles is what `humanparser` (MIT) takes them for,
since Membrane splits names with it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from membrane_sync.formulas.javascript import WHITESPACE

# fmt: off
_TITLES: Final = frozenset({
    "mr", "master", "mister", "mrs", "miss", "ms", "dr", "prof", "rev", "fr", "judge",
    "honorable", "hon", "tuan", "sr", "srta", "br", "pr", "mx", "sra",
})
_SUFFIXES: Final = frozenset({
    "i", "ii", "iii", "iv", "v", "senior", "junior", "jr", "sr", "phd", "apr", "rph", "pe", "md",
    "ma", "dmd", "cme", "qc", "kc",
})
_PARTICLES: Final = frozenset({
    "vere", "von", "van", "de", "del", "della", "der", "den", "di", "da", "pietro", "vanden",
    "du", "st", "la", "lo", "ter", "bin", "ibn", "te", "ten", "op", "ben", "al",
})
# fmt: on
_BLANK: Final = f"[{WHITESPACE}]"
_LOOSE_COMMA: Final = re.compile(rf"(?<=[A-Za-z0-9_]){_BLANK}+(,{_BLANK}+)(?=[A-Za-z0-9_])")
_TIGHT_COMMA: Final = re.compile(r"(?<=[A-Za-z0-9_]),(?=[A-Za-z0-9_])")
_PART: Final = re.compile(rf'[^{WHITESPACE}"]+|"[^"]+"')


class Name(NamedTuple):
    """The two parts of a name; each may be empty."""

    first: str
    last: str


def split_name(text: str) -> Name:
    """Split a name such as "Dr. Ada van der Berg, Jr." or "Berg, Ada".

    >>> split_name("Dr. Ada van der Berg, Jr."), split_name("Berg, Ada")
    (Name(first='Ada', last='van der Berg'), Name(first='Ada', last='Berg'))
    """
    parts = _parts(text)
    alone = parts[0] if len(parts) == 1 else ""
    if len(parts) > 1 and _bare(parts[-1]) in _SUFFIXES:
        parts = [*parts[:-2], parts[-2].replace(",", "", 1)]
    comma = next((i for i, part in enumerate(parts) if "," in part), None)
    first, last = _first_then_last(parts) if comma is None else _last_then_first(parts, comma)
    return Name((first or alone).strip(WHITESPACE), last)


def _parts(text: str) -> list[str]:
    text = _LOOSE_COMMA.sub(r"\1", text.strip(WHITESPACE), count=1)
    text = _TIGHT_COMMA.sub(", ", text, count=1)
    return [_unquoted(part) for part in _PART.findall(text) or text.split()]


def _unquoted(part: str) -> str:
    return part[1:-1] if len(part) > 1 and part[0] == part[-1] == '"' else part


def _bare(part: str) -> str:
    return part.lower().replace(".", "")


def _last_then_first(parts: list[str], comma: int) -> tuple[str, str]:
    ending = parts[comma].replace(",", "", 1)
    family = parts[:comma] if _bare(ending) in _SUFFIXES else [*parts[:comma], ending]
    given = parts[comma + 1 :]
    return given[0] if given else "", " ".join(family).strip(WHITESPACE)


def _first_then_last(parts: list[str]) -> tuple[str, str]:
    if len(parts) > 1 and _bare(parts[0]) in _TITLES:
        parts = parts[1:] if len(parts) > 2 else ["", parts[1]]
    if not parts:
        return "", ""
    first, rest = parts[0], parts[1:]
    last = rest.pop() if rest else ""
    while rest and _bare(rest[-1]) in _PARTICLES:
        last = f"{rest.pop()} {last}"
    return first, last.replace(",", "", 1).strip(WHITESPACE)
