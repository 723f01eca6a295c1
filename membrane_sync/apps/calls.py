"""The requests an app has served, as the app itself wrote them down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# What the clients in this package call themselves, so that they can be left out of a count.
AGENT = "membrane-apps"


@dataclass(frozen=True)
class Call:
    """One request: the path without the query, the query as sent, and who asked."""

    method: str
    path: str
    query: str
    agent: str


def count(calls: Iterable[Call], path: str | None, method: str | None) -> int:
    """How many calls match; those made by this package never do."""
    return sum(
        call.agent != AGENT and path in (None, call.path) and method in (None, call.method)
        for call in calls
    )
