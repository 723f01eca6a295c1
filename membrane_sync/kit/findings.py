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
    """Collects the findings of one collection; empty for what is about the connector."""

    collection: str
    found: list[Finding]

    def ok(self, promise: str, seen: str) -> None:
        """The app does what is declared."""
        self.found.append(Finding(self.collection, promise, "ok", seen))

    def failed(self, promise: str, seen: str, advice: str) -> None:
        """It does something else, and syncs would go wrong."""
        self.found.append(Finding(self.collection, promise, "failed", seen, advice))

    def undeclared(self, promise: str, advice: str = "") -> None:
        """Nothing is promised."""
        self.found.append(Finding(self.collection, promise, "not_declared", "", advice))

    def unproven(self, promise: str, seen: str, advice: str = "") -> None:
        """Nothing that was seen speaks for it or against it."""
        self.found.append(Finding(self.collection, promise, "not_provable", seen, advice))
