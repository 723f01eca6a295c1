"""Conditional requests: an app that says "not modified" is believed, where that is sound.

A reading keeps what the app said of its first answer, by which the next one asks whether anything
is new. That's believed only if the same call is made again, the last reading came to its end, and
the first answer stands for all of them: it was the only one, or the collection declares so. What is
kept is forgotten before anything else is stored, and kept after all of it is; so a crash can only
cost a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call
from membrane_sync.sync.resume import fingerprint

Item = TypeVar("Item")

VALIDATORS = "validators"
"""The lake's note of what the last reading's first answer was recognised by."""

SETTLED = timedelta(seconds=60)
"""Last-Modified counts in seconds, by clocks that differ: a younger one may not tell two apart."""


class Condition:
    """What one reading asks on condition of, and what it leaves for the next one.

    With `asks` False it's sent without a condition, and still leaves one.
    """

    def __init__(
        self, stream: str, kept: Mapping[str, Any] | None, version: str, *, alone: bool, asks: bool
    ) -> None:
        self.unchanged = False
        """Whether the app said that nothing is new."""
        self._stream = stream
        self._kept = dict(kept or {})
        self._version = version
        self._alone = alone
        self._asks = asks
        self._found: dict[str, Any] = {}
        self._answers = 0
        self._ended = False

    @classmethod
    def of(cls, sync: ResolvedSync, lake: Lake, *, asks: bool) -> Condition | None:
        """That of the sync's collection; None if it declares none."""
        method = sync.collection.list_
        if method is None or not method.conditional:
            return None
        kept = lake.note(sync.stream, VALIDATORS)
        alone = method.conditional != "first_page"
        return cls(sync.stream, kept, sync.collection_version, alone=alone, asks=asks)

    def put_on(self, call: Call) -> Call:
        """The call with the condition, if it's the first one, and the last reading's as well."""
        if not self._asks or self._answers or self._kept.get("call") != self._name(call):
            return call
        return replace(call, headers={**call.headers, **self._kept["headers"]})

    def is_met(self, answer: Answer) -> bool:
        """Whether the answer says that nothing is new; then there's nothing to read."""
        self.unchanged = self._asks and not self._answers and answer.status == 304
        return self.unchanged

    def saw(self, call: Call, answer: Answer, *, last: bool) -> None:
        """An answer of the reading."""
        if not self._answers:
            headers = validators(answer)
            self._found = {"call": self._name(call), "headers": headers} if headers else {}
        self._answers += 1
        self._ended = last

    def guarded(self, pages: Iterator[Item], lake: Lake) -> Iterator[Item]:
        """The pages; before the first of them is stored, what was kept is forgotten.

        Else an app that goes back to an earlier state would be believed though the lake has parts
        of a later one.
        """
        for page in pages:
            if self._kept and self._kept != self._found:
                lake.keep_note(self._stream, VALIDATORS, None)
                self._kept = {}
            yield page

    def keep(self, lake: Lake) -> None:
        """Leave it for the next reading; call it when all that this one brought is stored."""
        vouched = self._ended and (self._answers == 1 or not self._alone)
        if vouched and self._found and self._found != self._kept:
            lake.keep_note(self._stream, VALIDATORS, self._found)

    def _name(self, call: Call) -> str:
        sent = (call.method, call.url, call.query, call.headers, call.body)
        return fingerprint(self._version, *sent)


def validators(answer: Answer) -> dict[str, str]:
    """The header that asks whether the answer is still the same; none if nobody could tell."""
    if answer.skipped or answer.status != 200:
        return {}
    etag = answer.headers.get("etag", "").strip()
    if etag:
        return {"If-None-Match": etag}
    changed, said = _date(answer, "last-modified"), _date(answer, "date")
    if changed is None or said is None or said - changed < SETTLED:
        return {}
    return {"If-Modified-Since": answer.headers["last-modified"]}


def _date(answer: Answer, name: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(answer.headers.get(name, ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
