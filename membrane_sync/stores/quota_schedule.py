"""When the next request may go under shared quotas: integer arithmetic on nanoseconds, no I/O.

A *paced* quota is a virtual schedule (GCRA): one number says when the next request would be due if
all came evenly. A reservation takes the next slots and moves the number. Slots are promised for a
short `HORIZON` only, so that whoever comes late waits no longer than that; a party that has had
its share of it must come back. A *counted* quota sums what was sent in a sliding window.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from membrane_sync.ports import Grant, Party, Quota

SECOND = 1_000_000_000
HORIZON = SECOND // 2
"""How far ahead slots are promised; two slots at least."""
ACTIVE = 2 * SECOND
"""Whoever asked within this time has a share of a paced quota."""
COME_BACK = SECOND
"""Whoever must wait for its turn, not for the quota, asks again at least this often."""
CLOSE = SECOND // 20
"""Slots of several quotas fall together if they are this close."""
CELLS = 24
"""A counted quota's window moves in so many steps."""
KEPT_BACK = 20
"""One in so many requests of a counted quota is kept for interactive parties."""
WEIGHTS = {"interactive": 8, "bulk": 1}
LONGEST_HOLD = 7 * 86_400 * SECOND


@dataclass
class Share:
    """A party's place in a paced quota: when its own schedule and its queue go on."""

    weight: int
    finish: int = 0
    queue: int = 0
    seen: int = 0


@dataclass
class State:
    """What is kept of one quota between reservations."""

    due: int = 0
    hold: int = 0
    shares: dict[str, Share] = field(default_factory=dict)
    cells: dict[int, int] = field(default_factory=dict)

    @classmethod
    def loads(cls, text: str) -> State:
        """The state that `dumps` wrote."""
        value = json.loads(text)
        return cls(
            value["due"],
            value["hold"],
            {name: Share(*numbers) for name, numbers in value["shares"].items()},
            {int(cell): count for cell, count in value["cells"].items()},
        )

    def dumps(self) -> str:
        """The state as JSON."""
        shares = {n: [s.weight, s.finish, s.queue, s.seen] for n, s in self.shares.items()}
        value = {"due": self.due, "hold": self.hold, "shares": shares, "cells": self.cells}
        return json.dumps(value, separators=(",", ":"))


class Paced:
    """A quota whose requests are spread evenly, for one party at one moment."""

    def __init__(self, quota: Quota, state: State, party: Party, now: int) -> None:
        self.state, self.now = state, now
        # Rounded up, so that the sum never exceeds the quota.
        self.interval = -(-int(quota.per_seconds * SECOND) // quota.requests)
        self.tolerance = ((quota.burst or 1) - quota.kept_for_late - 1) * self.interval
        self.horizon = max(HORIZON, 2 * self.interval)
        self.close = max(CLOSE, self.interval)
        # A clock that was set back must not leave a due time far in the future.
        furthest = now + self.tolerance + 4 * self.horizon
        state.due = min(state.due, furthest)
        self.interactive = party.priority == "interactive"
        self._take_seat(party)

    def _take_seat(self, party: Party) -> None:
        name = f"{party.priority}/{party.tenant}"
        oldest = self.now - ACTIVE
        shares = {n: s for n, s in self.state.shares.items() if oldest < s.seen <= self.now}
        self.state.shares = shares
        self.share = shares.setdefault(name, Share(WEIGHTS[party.priority]))
        self.share.seen = self.now
        whole = sum(share.weight for share in shares.values())
        self.step = self.interval * whole // self.share.weight
        self.share.finish = min(self.share.finish, self.now + self.horizon + self.step)

    @property
    def slot(self) -> int:
        """The earliest moment that nobody has taken."""
        return max(self.now, self.state.due - self.tolerance)

    def ready(self) -> int:
        """When the party may reserve: as its share says, or sooner where all else is idle."""
        free = self.state.due - self.tolerance
        turn = min(self.share.finish - self.horizon, free - self.interval)
        return turn if self.interactive else max(turn, free - self.horizon)

    def most(self) -> int:
        """How many slots the party may take at once."""
        room = (self.now + self.horizon - self.slot) // self.interval
        own = (self.now + self.horizon - max(self.share.finish, self.now)) // self.step
        return max(1, min(room, own) + 1)

    def come_back(self, ready: int) -> int:
        """When one that must wait asks again: each a slot later than the one before it."""
        first = max(self.share.queue, ready, self.now)
        self.share.queue = min(first + self.interval, max(ready, self.now + COME_BACK))
        return first

    def take(self, count: int) -> None:
        self.state.due = max(self.state.due, self.now) + count * self.interval
        self.share.finish = max(self.share.finish, self.now) + count * self.step


class Counted:
    """A quota that may be used as fast as one likes until it's used up."""

    interval = 0

    def __init__(self, quota: Quota, state: State, party: Party, now: int) -> None:
        self.state, self.now = state, now
        self.cell = max(1, int(quota.per_seconds * SECOND) // CELLS)
        self.index = now // self.cell
        kept_back = 0 if party.priority == "interactive" else quota.requests // KEPT_BACK
        self.limit = quota.requests - kept_back
        # One cell more than the window has, as the window begins somewhere within a cell.
        oldest = self.index - CELLS
        state.cells = {i: n for i, n in state.cells.items() if oldest <= i <= self.index}

    @property
    def slot(self) -> int:
        """Now: requests of a counted quota keep no distance."""
        return self.now

    def left(self) -> int:
        """How many may still be sent."""
        return self.limit - sum(self.state.cells.values())

    def ready(self) -> int:
        """When enough has left the window for one more."""
        left = self.left()
        for index in sorted(self.state.cells):
            if left > 0:
                break
            left += self.state.cells[index]
            if left > 0:
                return (index + CELLS + 1) * self.cell
        return self.now

    def most(self) -> int:
        return self.left()

    def take(self, count: int) -> None:
        self.state.cells[self.index] = self.state.cells.get(self.index, 0) + count


def reserve(
    quotas: Sequence[Quota], states: Sequence[State], party: Party, count: int, now: int
) -> Grant:
    """Leave to send up to `count` requests; changes the states."""
    rules = [
        (Paced if quota.burst else Counted)(quota, state, party, now)
        for quota, state in zip(quotas, states, strict=True)
    ]
    held = max(min(state.hold, now + LONGEST_HOLD) for state in states)
    if held > now:
        return Grant(0, (held - now) / SECOND, reason="the app asked to wait")
    ready = {rule.ready(): quota for rule, quota in zip(rules, quotas, strict=True)}
    latest = max(ready)
    if latest > now:
        return _later(rules, latest, now, ready[latest])
    slot = max(rule.slot for rule in rules)
    for rule in rules:
        # To take a slot here that is used much later would let others come too thick then.
        if isinstance(rule, Paced) and slot - rule.slot > rule.close:
            return Grant(0, (slot - rule.close - now) / SECOND, reason=_reason(quotas[0]))
    count = max(1, min(count, *(rule.most() for rule in rules)))
    for rule in rules:
        rule.take(count)
    every = max(rule.interval for rule in rules)
    return Grant(count, (slot - now) / SECOND, every / SECOND)


def give_back(quota: Quota, state: State, count: int) -> None:
    """Return what wasn't sent; a paced quota's slots are bound to their moment, and are lost."""
    if quota.burst is None and state.cells:
        newest = max(state.cells)
        state.cells[newest] = max(0, state.cells[newest] - count)


def _later(rules: Sequence[Paced | Counted], ready: int, now: int, quota: Quota) -> Grant:
    moments = [rule.come_back(ready) for rule in rules if isinstance(rule, Paced)]
    return Grant(0, (max([ready, *moments]) - now) / SECOND, reason=_reason(quota))


def _reason(quota: Quota) -> str:
    return f"the quota of {quota.requests:,} requests in {quota.per_seconds:g} s is used up"
