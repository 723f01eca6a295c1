"""What was read of a page's records while they're still text, by the field or by the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter, eq
from typing import Any, overload

import msgspec

from membrane_sync.formulas import MISSING
from membrane_sync.formulas.locators import steps_of


class Heads(Sequence[Any]):
    """Heads of records: a dict of the fields that were read, made when it's asked for.

    `structs` hold a record each, its `fields` as `f0`, `f1` and so on; MISSING where it has none.
    `known` is for whoever works something out of them, and is asked again.
    """

    def __init__(self, fields: tuple[str, ...], structs: list[Any]) -> None:
        self._names = {field: f"f{number}" for number, field in enumerate(fields)}
        self._structs = structs
        self.known: dict[Any, Any] = {}

    def column(self, field: str) -> list[Any] | None:
        """What each record has in a field; None if that wasn't read."""
        name = self._names.get(field)
        return None if name is None else [*map(attrgetter(name), self._structs)]

    def __len__(self) -> int:
        return len(self._structs)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return [self._head(struct) for struct in self._structs[at]]
        return self._head(self._structs[at])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._head, self._structs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def _head(self, struct: Any) -> dict[str, Any]:
        read = zip(self._names, msgspec.structs.astuple(struct), strict=True)
        return {field: value for field, value in read if value is not MISSING}


def only_name(locator: str | None) -> str | None:
    """The field that a locator names, if it's one of the record itself."""
    steps = steps_of(locator)
    return steps[0] if steps is not None and len(steps) == 1 and isinstance(steps[0], str) else None
