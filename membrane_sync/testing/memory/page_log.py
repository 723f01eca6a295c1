"""The pages of an unfinished reading, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from membrane_sync.records import Answer


class MemoryPageLog:
    """Implements `ports.PageLog`."""

    def __init__(self) -> None:
        self._header: dict[str, Any] | None = None
        self._answers: list[tuple[str, Answer]] = []
        self._kept_at: datetime | None = None

    def begun(self) -> dict[str, Any] | None:
        return self._header

    def kept_at(self) -> datetime | None:
        return self._kept_at

    def answers(self, after: int = 0) -> Iterator[tuple[str, Answer]]:
        return iter(self._answers[after:])

    def begin(self, header: Mapping[str, Any], answers: Iterable[tuple[str, Answer]] = ()) -> None:
        self._header, self._answers = dict(header), list(answers)
        self._kept_at = datetime.now(UTC)

    def keep(self, call: str, answer: Answer) -> None:
        self._answers.append((call, answer))
        self._kept_at = datetime.now(UTC)

    def shorten(self, answers: int) -> None:
        del self._answers[answers:]

    def clear(self) -> None:
        self._header, self._answers, self._kept_at = None, [], None

    def close(self) -> None:
        """Nothing is open."""
