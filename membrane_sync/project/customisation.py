"""One connection's overrides, judged: which of them count, and which are at odds with the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from membrane_sync.formulas.locators import text_of
from membrane_sync.ports import Override
from membrane_sync.project.located import Mark, Steps

LAYER = "override"
LEDGER = "ledger"
"""What marks of overrides name as their layer and file; the line is the place in their list."""


@dataclass(frozen=True)
class Judged:
    """An override as it stands over today's files.

    `conflict` says what is at odds, empty if nothing is. One that isn't `applied` has no effect.
    """

    override: Override
    mark: Mark
    conflict: str = ""
    applied: bool = True


@dataclass(frozen=True)
class Customisation:
    """All overrides of one instance of a connection's elements."""

    connection: str
    integration: str
    judged: tuple[Judged, ...] = ()

    def of(self, kind: str, key: str) -> Iterator[Judged]:
        """Those of one element."""
        wanted = (kind, key)
        return (j for j in self.judged if (j.override.kind, j.override.key) == wanted)


def path_text(path: Steps) -> str:
    r"""A path as people write it: `nodes.start.links[0].key`; a dot in a name is `\.`."""
    return text_of(path).removeprefix("$").removeprefix(".")
