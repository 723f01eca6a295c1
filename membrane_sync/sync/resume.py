"""A reading that was cut off goes on where it ended, and asks for at most one page again.

Each answer is kept in the lake's page log before the next one is asked for. The listing is a
function of its answers, so that whoever comes later feeds it the kept ones and is where the other
was: in the midst of numbered pages, tokens or a full scan, where no cursor could tell the place.
Pages that the lake has committed are fed, and not stored again.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.ports import Lake, PageLog
from membrane_sync.records import Answer, Call

LONGEST = timedelta(hours=1)
"""Tokens of the app expire, and lists drift: what was cut off longer ago is begun anew."""

_CLOSE = timedelta(seconds=1)

REBASE_BYTES = 32_000_000
"""A log as long as this is begun again at a page from which the listing could begin."""

_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


@dataclass(frozen=True)
class Beginning:
    """How a reading began; `of` tells whether another one would be the same reading."""

    name: str
    of: str
    started_at: datetime
    cursor: Any = None
    asked: Any = None
    scan: str = ""
    first_page: int = 0

    def written(self) -> dict[str, Any]:
        """As plain values for the log."""
        return {**vars(self), "started_at": self.started_at.isoformat()}


def unfinished(log: PageLog, of: str, now: datetime | None = None) -> Beginning | None:
    """The beginning of the same reading, if one was cut off not too long ago."""
    header, kept_at = log.begun(), log.kept_at()
    if header is None or kept_at is None:
        return None
    try:
        begun = Beginning(**{**header, "started_at": datetime.fromisoformat(header["started_at"])})
    except (TypeError, ValueError, KeyError):
        return None
    age = (now or datetime.now(UTC)) - kept_at
    # A file's time may be a little ahead of the clock that is read after it.
    return begun if begun.of == of and -_CLOSE <= age < LONGEST else None


def forget_uncommitted(lake: Lake, stream: str) -> None:
    """Let what was kept of a reading and isn't in the lake yet be asked for again.

    Before anything newer is written: else those pages would be written over it.
    """
    log = lake.page_log(stream)
    begun = log.begun()
    if begun is not None:
        committed = lake.pages(stream, str(begun.get("name"))) or 0
        log.shorten(max(0, committed - int(begun.get("first_page") or 0)))


def fingerprint(*parts: Any) -> str:
    """A hash of plain values, by which two readings or two calls are known to be the same."""
    text = _ENCODER.encode(parts)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class Trail:
    """The answers of one reading, first the kept ones, then new ones as they're kept."""

    def __init__(
        self, log: PageLog, beginning: Beginning, *, resumed: bool = False, committed: int = 0
    ) -> None:
        self.resumed = resumed
        self.page = beginning.first_page
        """How many of the reading's pages were asked for."""
        self.committed = committed
        """How many of them the lake has; another thread may set it."""
        self._log = log
        self._beginning = beginning
        self._kept = log.answers() if resumed else iter(())
        self._replaying = resumed
        self._begun = resumed
        self._closed = False
        self._ends = [0]
        """How many bytes the log's answers have up to each of them."""
        self._bases: deque[tuple[int, Any]] = deque()

    @property
    def place(self) -> tuple[str, int]:
        """The reading's name and how many of its pages were read; no name for one page alone."""
        return (self._beginning.name if self._begun else "", self.page)

    @property
    def is_stored(self) -> bool:
        """Whether the lake has the page that was read last: one that was asked for again it hasn't.

        Such a page may show what is newer than what the lake has of it.
        """
        return self._replaying and self.page <= self.committed

    def answer(self, call: Call) -> Answer | None:
        """The kept answer to this call, which is the next page; None if it must be asked for."""
        self.page += 1
        if not self._replaying:
            return None
        kept = next(self._kept, None)
        if kept is not None and kept[0] == call_name(call):
            return kept[1]
        self._replaying = False
        self._log.shorten(len(self._ends) - 1)
        return None

    def commit(self, pages: int) -> None:
        """So many of the reading's pages are in the lake."""
        self.committed = max(self.committed, pages)

    def keep(self, call: Call, answer: Answer, base: Any = None) -> None:
        """Keep an answer that isn't the last; `base` is the cursor that the next call begins at.

        None if it can't begin there.
        """
        self._ends.append(self._ends[-1] + len(answer.content))
        if base is not None:
            self._bases.append((self.page, base))
        if self._replaying or self._closed:
            return
        if not self._begun:
            self._log.begin(self._beginning.written())
            self._begun = True
        self._log.keep(call_name(call), answer)
        self._rebase()

    def last(self) -> None:
        """The answer is the last one. If it's the only one, an earlier reading's are of no use now.

        What they show is older than what the lake is about to get.
        """
        if not self._begun and not self._closed:
            self._log.clear()

    def close(self) -> None:
        """Keep no more, even if a thread still reads; what is kept stays to be gone on with."""
        self._closed = True
        self._log.close()

    def end(self) -> None:
        """Nothing is left to go on with; another reading's log isn't touched."""
        header = self._log.begun() if self._begun else None
        if header is not None and header.get("name") == self._beginning.name:
            self._log.clear()

    def _rebase(self) -> None:
        """Begin a long log again at the last page that is committed, if a listing can begin there.

        So that of a list that is sorted by its cursor, however long, the log is short.
        """
        while len(self._bases) > 1 and self._bases[1][0] <= self.committed:
            self._bases.popleft()
        if not self._bases or self._bases[0][0] > self.committed:
            return
        page, base = self._bases[0]
        dropped = page - self._beginning.first_page
        if self._ends[dropped] < REBASE_BYTES:
            return
        rest = list(self._log.answers(after=dropped))
        self._beginning = replace(self._beginning, asked=base, first_page=page)
        self._log.begin(self._beginning.written(), rest)
        self._ends = [end - self._ends[dropped] for end in self._ends[dropped:]]
        self._bases.popleft()


def call_name(call: Call) -> str:
    """By which a call is known again, without its values."""
    return fingerprint(call.method, call.url, call.query, call.headers, call.body)
