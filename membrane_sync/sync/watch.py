"""Whether the calls of a function still lead anywhere; a loop in hooks.py would read for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from membrane_sync.errors import Fatal
from membrane_sync.sync.paging import EMPTY_PAGES

OLD_PAGES = 1_000
"""So many pages in a row that all came before mean that nothing new will come."""


class Watch:
    """Looks at a function's pages; at the ends of each alone, so that it costs nothing."""

    def __init__(self, function: str) -> None:
        self._function = function
        self._seen: set[int] = set()
        self._old = 0
        self._empty = 0

    def saw(self, records: Sequence[Any]) -> None:
        """Raise Fatal if too many pages in a row were empty, or came before."""
        self._empty = 0 if records else self._empty + 1
        if records:
            name = hash((len(records), str(records[0]), str(records[-1])))
            self._old = self._old + 1 if name in self._seen else 0
            self._seen.add(name)
        if self._empty >= EMPTY_PAGES:
            raise self._endless(f"{EMPTY_PAGES:,} answers in a row had no record")
        if self._old >= OLD_PAGES:
            raise self._endless(f"{OLD_PAGES:,} answers in a row had records that came before")

    def _endless(self, what: str) -> Fatal:
        return Fatal(
            f"function {self._function!r} of hooks.py doesn't come to an end: {what}",
            hint="end the loop in it where an answer has nothing new",
        )
