"""Tables to which the product writes its own events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class OutboxRow:
    """A row of an outbox as it stands there; `number` is what its cursor column has."""

    number: Any
    tenant: Any
    payload: Any
    type: Any = None


@dataclass(frozen=True)
class Look:
    """Rows of an outbox, by number, and what was going on in its database.

    Of transactions, all before `oldest` had ended when the rows were read, and all that had begun
    by then are before `newest`; None where the database doesn't number them.
    """

    rows: Sequence[OutboxRow]
    oldest: int | None = None
    newest: int | None = None


class OutboxTable(Protocol):
    """A table in the product's database that holds its events."""

    @property
    def place(self) -> str:
        """Tells tables apart, without user and password."""
        ...

    def look(self, after: int | None, gaps: Sequence[tuple[int, int]], limit: int) -> Look:
        """At most so many rows: first those with a number within the gaps, then those after it."""
        ...

    def unhandled(self, limit: int) -> Sequence[OutboxRow]:
        """The next rows that weren't read, by what the rows themselves say."""
        ...

    def handle(self, numbers: Sequence[Any]) -> None:
        """Mark them as read, or delete them, as declared."""
        ...

    def close(self) -> None:
        """Give back the database connections."""
        ...
