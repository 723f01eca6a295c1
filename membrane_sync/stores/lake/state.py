"""What a lake has where, read at once: cursors, offsets, tables, and how far its feeds reach.

A sync that finds nothing new asks the lake a dozen small questions, each of which costs DuckDB a
millisecond. One query answers them for all syncs of the connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from membrane_sync.records import Offset
from membrane_sync.stores.lake.file import LakeFile

MANY = 2**63 - 1
"""How far a feed may reach of which a lake of an earlier version doesn't say it."""

_QUERY = """
SELECT 'cursor', stream, CAST(cursor AS VARCHAR), NULL FROM lake.cursors
UNION ALL SELECT 'offset', consumer, version, seq FROM lake.offsets
UNION ALL SELECT 'table', name, NULL, NULL FROM lake.declarations
UNION ALL SELECT 'counter', name, NULL, value FROM lake.counters
UNION ALL SELECT 'scanned', stream, NULL, epoch_us(finished_at) FROM lake.finished_scans
UNION ALL SELECT 'refused', element, NULL, NULL FROM
    (SELECT DISTINCT element FROM lake.dead_letters WHERE verb IN ('link', 'push'))
"""


@dataclass
class LakeState:
    """As the lake was when it was read; empty where there's no lake yet."""

    cursors: dict[str, Any] = field(default_factory=dict)
    offsets: dict[str, Offset] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """Syncs that have dead letters of link or push."""
    _counters: dict[str, int] = field(default_factory=dict)
    _scanned: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, file: LakeFile) -> LakeState:
        """Ask the attached file."""
        state = cls()
        for kind, name, text, number in file.rows(_QUERY):
            if kind == "cursor":
                state.cursors[name] = json.loads(text)
            elif kind == "offset":
                state.offsets[name] = Offset(name, number, text)
            elif kind == "table":
                state.tables.add(name)
            elif kind == "counter":
                state._counters[name] = number
            elif kind == "scanned":
                state._scanned[name] = number
            else:
                state.refused.add(name)
        return state

    def reaches(self, feed: str, after: int) -> bool:
        """Whether a feed may have more than it had at `after`; a feed is named as its counter."""
        return self._counters.get(feed, MANY) > after

    def scanned_at(self, stream: str) -> datetime | None:
        """When the stream's last complete full scan was finished."""
        found = self._scanned.get(stream)
        return None if found is None else datetime.fromtimestamp(found / 1_000_000, UTC)
