"""A fast cursor, and one that trails it: what shows up late is found without asking for all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.elements.cursor import Cursor, Settle
from membrane_sync.sync.cursor import AHEAD, CursorOrder
from membrane_sync.sync.notation import EPOCH


@dataclass(frozen=True)
class Settling:
    """Both cursors as they were stored, and whether it's time to ask from the trailing one.

    They are stored as one value: `fast` and `settled`, and `at`, when the trailing one was asked
    from last.
    """

    cursor: Cursor
    settle: Settle
    fast: Any
    settled: Any
    at: datetime | None
    now: datetime

    @classmethod
    def of(cls, cursor: Cursor | None, stored: Any, now: datetime) -> Settling | None:
        """The cursors of a stored value, which may be from before `settle` was declared."""
        if cursor is None or cursor.settle is None:
            return None
        if not isinstance(stored, dict):
            return cls(cursor, cursor.settle, stored, None, None, now)
        at = datetime.fromisoformat(stored["at"]) if stored.get("at") else None
        return cls(cursor, cursor.settle, stored.get("fast"), stored.get("settled"), at, now)

    @property
    def is_due(self) -> bool:
        """Is it time to ask from the trailing cursor? A time to come was noted by a wrong clock."""
        every = timedelta(seconds=self.settle.every_seconds)
        return self.at is None or not timedelta(0) <= self.now - self.at < every

    @property
    def asked(self) -> Any:
        """The value that this reading asks from; None for all."""
        return self.settled if self.is_due else self.fast

    def state(self, fast: Any, *, moved: bool, last: bool) -> dict[str, Any] | None:
        """What to store with a page; None to leave what is stored.

        The trailing cursor only moves when a reading from it came to its end.
        """
        done = last and self.is_due
        if not moved and not done:
            return None
        settled, at = (self._trailing(fast), self.now) if done else (self.settled, self.at)
        written = at.astimezone(UTC).isoformat() if at else None
        return {"fast": fast, "settled": settled, "at": written}

    def _trailing(self, fast: Any) -> Any:
        """What had surely shown up by the time this reading began.

        The fast cursor was then at a record that had; our own clock only counts for the first
        reading, and may be wrong by a day.
        """
        order = CursorOrder(self.cursor, self.now)
        begun = self.fast
        if begun is None and fast is not None:
            begun = min(fast, order.notation.stored(self.now - AHEAD), key=order.key)
        if begun is None:
            return self.settled
        moment = order.notation.moment(begun) - timedelta(seconds=self.settle.seconds)
        trailing = order.notation.stored(max(moment, EPOCH))
        ahead = self.settled is None or order.key(trailing) > order.key(self.settled)
        return trailing if ahead else self.settled
