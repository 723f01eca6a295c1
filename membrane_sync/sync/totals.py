"""How many records a full scan must see at least, by what the app itself says that it has."""

from __future__ import annotations

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.sync.pull import Pulled
from membrane_sync.sync.source import Source


class Total:
    """Of one list, the least total that its pages told, where the declaration says to trust it.

    A list that is asked for anew from its last record on tells totals of what is left: there the
    first one counts.
    """

    def __init__(self, collection: DataCollection) -> None:
        self._trusted = collection.deletes.exact_total
        source = Source(collection)
        self._first_alone = self._trusted and (
            source.restarts or source.method.pagination.type == "keyset"
        )
        self._told: int | None = None

    def saw(self, page: Pulled) -> None:
        """Heed one page; one that tells nothing changes nothing."""
        if not self._trusted or not page.total:
            return
        if self._told is None:
            self._told = page.total
        elif not self._first_alone:
            self._told = min(self._told, page.total)

    @property
    def records(self) -> int:
        """So many; 0 where nothing can be said."""
        return self._told or 0
