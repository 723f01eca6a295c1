"""What the kit finds: one line for each promise of a declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "failed", "not_declared", "not_provable"]


@dataclass(frozen=True)
class Finding:
    """A promise and what was seen of it; `advice` says what to change, or how to prove it."""

    collection: str
    promise: str
    verdict: Verdict
    seen: str = ""
    advice: str = ""


@dataclass
class Findings:
    """Collects the findings of one collection; empty for what is about the connector.

    `part` is what comes before each promise: the name of a list beside the collection's own.
    """

    collection: str
    found: list[Finding]
    part: str = ""

    def of(self, part: str) -> Findings:
        """The same collection's, about this part of it."""
        return Findings(self.collection, self.found, f"{part} ")

    def _add(self, promise: str, verdict: Verdict, seen: str, advice: str = "") -> None:
        name = f"{self.part}{promise}"
        self.found.append(Finding(self.collection, name, verdict, seen, advice))

    def ok(self, promise: str, seen: str) -> None:
        """The app does what is declared."""
        self._add(promise, "ok", seen)

    def failed(self, promise: str, seen: str, advice: str) -> None:
        """It does something else, and syncs would go wrong."""
        self._add(promise, "failed", seen, advice)

    def undeclared(self, promise: str, advice: str = "") -> None:
        """Nothing is promised."""
        self._add(promise, "not_declared", "", advice)

    def unproven(self, promise: str, seen: str, advice: str = "") -> None:
        """Nothing that was seen speaks for it or against it."""
        self._add(promise, "not_provable", seen, advice)
