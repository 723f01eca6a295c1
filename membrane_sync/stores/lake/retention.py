"""What the lake drops of the past, if it's told to.

Of the change feed only entries go that a later one of the same record stands for: a reader gets a
record's present payload with either. So a consumer that begins at the first entry still meets every
record, and one that reads on misses none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from membrane_sync.stores.lake.columns import quoted
from membrane_sync.stores.lake.file import LakeFile


@dataclass(frozen=True)
class Retention:
    """How many days superseded changes, and versions that ended, are kept; None is for ever."""

    changes_days: int | None = None
    history_days: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is ever dropped."""
        return self.changes_days is not None or self.history_days is not None


def drop_old(
    file: LakeFile, retention: Retention, consumers: Mapping[str, str] | None = None
) -> int:
    """Drop what is older, in the transaction at hand; gives how many rows went.

    `consumers` says which stream each consumer reads; others don't count. Without it, each that
    was ever there holds what it hasn't read of any stream.
    """
    dropped = 0
    if retention.changes_days is not None:
        dropped += _drop_changes(file, _before(retention.changes_days), consumers)
    if retention.history_days is not None:
        dropped += _drop_versions(file, _before(retention.history_days))
    return dropped


def _before(days: int) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)


def _drop_changes(file: LakeFile, before: datetime, consumers: Mapping[str, str] | None) -> int:
    """Superseded entries that are older, and that every consumer of their stream has passed.

    Those since a scan began stay until it's over: they say which records are new.

    How far a consumer has come says nothing of other streams: of one where nothing happens, it
    stays where it is for ever.
    """
    _stage_passed(file, consumers)
    file.execute(
        "CREATE OR REPLACE TEMP TABLE superseded AS SELECT c.seq FROM lake.changes c JOIN "
        "(SELECT stream, external_id, max(seq) AS last FROM lake.changes GROUP BY ALL) l "
        "ON l.stream = c.stream AND l.external_id = c.external_id JOIN passed p "
        "ON p.stream = c.stream LEFT JOIN lake.counters s ON s.name = 'scan/' || c.stream "
        "WHERE c.seq < l.last AND c.changed_at < ? AND c.seq <= p.seq "
        "AND (s.value IS NULL OR c.seq <= s.value)",
        [before],
    )
    file.execute("DELETE FROM lake.changes USING superseded s WHERE changes.seq = s.seq")
    return file.number("SELECT count(*) FROM superseded")


def _stage_passed(file: LakeFile, consumers: Mapping[str, str] | None) -> None:
    """Stage in `passed` how far all consumers have read each stream that one has begun with."""
    offsets = "FROM lake.offsets WHERE starts_with(consumer, 'map:')"
    if consumers is None:
        sql = f"SELECT DISTINCT stream, (SELECT min(seq) {offsets}) AS seq FROM lake.changes"
    else:
        named = {"consumer": [*consumers], "stream": [*consumers.values()]}
        file.stage("consumers", named)
        sql = (
            f"SELECT c.stream, min(o.seq) AS seq FROM (SELECT consumer, seq {offsets}) o "
            "JOIN consumers c USING (consumer) GROUP BY c.stream"
        )
    file.execute(f"CREATE OR REPLACE TEMP TABLE passed AS {sql}")


def _drop_versions(file: LakeFile, before: datetime) -> int:
    dropped = 0
    names = file.rows("SELECT name FROM lake.declarations WHERE starts_with(name, 'history.')")
    for (name,) in names:
        table = f"lake.history.{quoted(name.removeprefix('history.'))}"
        dropped += file.number(f"SELECT count(*) FROM {table} WHERE _valid_to < ?", [before])
        file.execute(f"DELETE FROM {table} WHERE _valid_to < ?", [before])
    return dropped
