"""Patterns, of `$regex` and of data schemas, searched in a time that the text's length bounds.

RE2 never backtracks, so a search takes at most the pattern's size times the text's length; both
are limited here, and so is the time of replacing, which searches again after each match.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped,import-not-found,unused-ignore]

from membrane_sync.formulas.evaluator import formula
from membrane_sync.formulas.javascript import truthy
from membrane_sync.formulas.texts import options_of, text_or_none
from membrane_sync.formulas.values import MISSING, Value, is_absent

MAX_TEXT: Final = 100_000
"""Characters that are searched, or that replacing may give."""

MAX_PROGRAM: Final = 10_000
"""Steps of a compiled pattern; `[a-z]{1,100}` has a few hundred."""

MAX_SECONDS: Final = 1.0
_PLACE: Final = re.compile(r"\{(\w+)\}")


@formula("$regex")
def regex(args: Value) -> Value:
    """The part of a text that a pattern matches, or the text with such parts replaced."""
    options = options_of(args, "value", "pattern")
    text = text_or_none(options.get("value"))
    if text is None:
        return MISSING
    if len(text) > MAX_TEXT:
        raise ValueError(f"searches texts of up to {MAX_TEXT:,} characters")
    pattern = compiled(options.get("pattern"), truthy(options.get("ignoreCase", False)))
    try:
        if is_absent(options.get("replace")):
            return _found(pattern, text, options.get("group", 0))
        return _replaced(pattern, text, text_or_none(options["replace"]) or "")
    except UnicodeEncodeError:
        raise ValueError("can't search a text with half a surrogate pair") from None


@lru_cache(maxsize=256)
def _compile(pattern: str, ignore_case: bool) -> Any:
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    try:
        found = re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError):
        raise ValueError(
            "can't be read; look-arounds and references back are not supported"
        ) from None
    if found.programsize > MAX_PROGRAM:
        raise ValueError("is too large; use smaller numbers of repetitions")
    return found


def compiled(pattern: Value, ignore_case: bool = False) -> Any:
    """The pattern, ready to search with; ValueError says what is wrong with it."""
    if not isinstance(pattern, str) or not pattern:
        raise ValueError("needs a pattern, which is a text")
    try:
        return _compile(pattern, ignore_case)
    except ValueError as error:
        raise ValueError(f"has a pattern that {error}") from None


def matches(pattern: str, text: str) -> bool:
    """Is the pattern of a data schema found anywhere in the text? ValueError if it can't be read.

    A text of more than MAX_TEXT characters matches no pattern.
    """
    try:
        found = _compile(pattern, False)
    except ValueError as error:
        raise ValueError(f"the pattern {error}") from None
    if len(text) > MAX_TEXT:
        return False
    try:
        return found.search(text) is not None
    except UnicodeEncodeError:
        return False  # half a surrogate pair, which no pattern can name


def _found(pattern: Any, text: str, group: Value) -> Value:
    match = pattern.search(text)
    if match is None:
        return MISSING
    found = _part(pattern, match, group)
    if found is MISSING:
        raise ValueError(f"has no group {group!r} in its pattern")
    return MISSING if found is None else found


def _part(pattern: Any, match: Any, group: Value) -> Value:
    """What a group matched; None where it took no part, MISSING where there is no such group."""
    number = pattern.groupindex.get(group, group) if isinstance(group, str) else group
    if isinstance(number, str) and number.isascii() and number.isdigit():
        number = int(number[:3])
    if not isinstance(number, int) or not 0 <= number <= pattern.groups:
        return MISSING
    return match[number]


def _replaced(pattern: Any, text: str, template: str) -> str:
    ends = time.monotonic() + MAX_SECONDS
    pieces: list[str] = []
    position = size = 0
    for match in pattern.finditer(text):
        pieces += [text[position : match.start()], _filled(template, pattern, match)]
        position = match.end()
        size += len(pieces[-1]) + len(pieces[-2])
        if size > MAX_TEXT:
            raise ValueError(f"replaces to more than {MAX_TEXT:,} characters")
        if time.monotonic() > ends:
            raise ValueError("takes too long; use a pattern that matches less far")
    return "".join([*pieces, text[position:]])


def _filled(template: str, pattern: Any, match: Any) -> str:
    """The template with `{1}` and `{name}` replaced by what those groups matched."""

    def part(place: re.Match[str]) -> str:
        found = _part(pattern, match, place[1])
        return place[0] if found is MISSING else str(found or "")

    return _PLACE.sub(part, template)
