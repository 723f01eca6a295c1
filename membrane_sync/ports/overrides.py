"""Overrides: what connections have of their own, over what the files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

DEFAULT_INSTANCE = "default"
"""The instance of an element that a connection has, unless it asks for more of them by name."""


@dataclass(frozen=True)
class Override:
    """A value that a connection has of its own, set at run time, over what the files say.

    An element is identified by kind, key, connection and `instance_key`. `path` holds keys alone;
    an item of a list whose items have keys is named by its own. `parent` is the hash of what the
    files said at the path when it was made, so that a change on both sides can be told.
    """

    connection: str
    kind: str
    key: str
    path: tuple[str, ...]
    value: Any = None
    removed: bool = False
    parent: str = ""
    instance_key: str = DEFAULT_INSTANCE
    made_at: datetime | None = None


class Overrides(Protocol):
    """The overrides of all connections."""

    def of(self, connection: str) -> Sequence[Override]:
        """All overrides of a connection, in order of kind, key, instance and path."""
        ...

    def keep(self, connection: str, made: Sequence[Override]) -> None:
        """Keep them, all or none; each takes the place of those at its path and below it.

        Raises NotConnected.
        """
        ...

    def reset(
        self,
        connection: str,
        kind: str,
        key: str,
        path: Sequence[str] = (),
        instance_key: str = DEFAULT_INSTANCE,
    ) -> int:
        """Drop those at a path and below it, or all of the element; gives how many there were."""
        ...
