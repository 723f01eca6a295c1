"""Full scans in the lake: what they saw, and what is gone because they didn't see it."""

from __future__ import annotations

from collections.abc import Sequence

from membrane_sync.errors import Fatal, IncompleteScan
from membrane_sync.records import Batch, DeadLetter
from membrane_sync.stores.lake.feeds import now
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import TypedTable

_UNSEEN = """
CREATE OR REPLACE TEMP TABLE gone AS
SELECT _external_id AS external_id FROM {table} r
ANTI JOIN (SELECT external_id FROM lake.scans WHERE stream = ? AND scan = ?) seen
ON seen.external_id = r._external_id
WHERE _deleted_at IS NULL
"""


_OF_OLD = """
WITH fresh AS (
    SELECT DISTINCT external_id FROM lake.changes WHERE stream = ? AND seq > ? AND kind = 'created')
SELECT
    (SELECT count(*) FROM gone ANTI JOIN fresh USING (external_id)),
    (SELECT count(*) FROM (SELECT _external_id AS external_id FROM {table}
        WHERE _deleted_at IS NULL) ANTI JOIN fresh USING (external_id))
"""


def begin_scan(file: LakeFile, stream: str) -> None:
    """Note which change was the last before the scan; before anything of it is written.

    Where a scan before was refused or cut off, what that one brought isn't taken for old either.
    """
    file.execute(
        "INSERT INTO lake.counters SELECT ?, value FROM lake.counters c WHERE name = 'changes' "
        "AND NOT EXISTS (SELECT 1 FROM lake.counters WHERE name = ?)",
        [_begun(stream), _begun(stream)],
    )


def mark_seen(file: LakeFile, batch: Batch, letters: Sequence[DeadLetter]) -> None:
    """Note that the batch's scan saw what is staged, and what couldn't be taken."""
    file.execute(
        "DELETE FROM lake.scans WHERE stream = ? AND scan <> ?", [batch.stream, batch.scan]
    )
    # What came is there, even if it couldn't be taken.
    file.stage("untaken", {"external_id": [x.external_id for x in letters]})
    file.execute(
        "INSERT INTO lake.scans SELECT ?, ?, external_id FROM (SELECT external_id FROM staged "
        "WHERE NOT deleted UNION SELECT external_id FROM untaken)",
        [batch.stream, batch.scan],
    )


def stage_unseen(file: LakeFile, table: TypedTable, stream: str, scan: str) -> int:
    """Stage the ids of records that the scan didn't see in `gone`; gives how many they are."""
    file.execute(_UNSEEN.format(table=table.sql), [stream, scan])
    return file.number("SELECT count(*) FROM gone")


def end_scan(file: LakeFile, stream: str) -> None:
    """Forget what the scan saw, and note that it's finished."""
    file.execute("DELETE FROM lake.scans WHERE stream = ?", [stream])
    file.execute("DELETE FROM lake.counters WHERE name = ?", [_begun(stream)])
    write_scanned(file, stream)


def write_scanned(file: LakeFile, stream: str) -> None:
    """Note that the stream has just been read in full."""
    file.execute("UPDATE lake.readings SET pages = NULL WHERE stream = ?", [stream])
    file.execute("DELETE FROM lake.finished_scans WHERE stream = ?", [stream])
    file.execute("INSERT INTO lake.finished_scans VALUES (?, ?)", [stream, now()])


def refuse_incomplete(file: LakeFile, stream: str, scan: str, expected: int | None) -> None:
    """Raise IncompleteScan if the scan saw fewer records than the app says it has."""
    if expected is None:
        return
    seen = file.number(
        "SELECT count(DISTINCT external_id) FROM lake.scans WHERE stream = ? AND scan = ?",
        [stream, scan],
    )
    if seen < expected:
        raise IncompleteScan(
            f"the full scan of {stream} saw {seen} of the {expected} records that the app says "
            "it has; nothing was deleted",
            hint="records moved between pages while it read: it scans again at the next sync; "
            "if it never agrees, the app's total counts more than its list shows: leave out "
            "`deletes.exact_total`",
        )


def refuse_mass_deletion(
    file: LakeFile, stream: str, table: TypedTable, gone: int, max_share: float
) -> None:
    """Raise Fatal if more than the share would go, of all records or of those before the scan.

    Else as many new ones, as of another account, would make up for all that went.
    """
    alive = file.number(f"SELECT count(*) FROM {table.sql} WHERE _deleted_at IS NULL")
    begun = file.rows("SELECT value FROM lake.counters WHERE name = ?", [_begun(stream)])
    if begun:
        old_gone, old = file.rows(_OF_OLD.format(table=table.sql), [stream, begun[0][0]])[0]
        if old_gone and old_gone / old > max_share:
            gone, alive = old_gone, old
    if gone / alive > max_share:
        raise Fatal(
            f"the full scan of {stream} would delete {gone} of {alive} records, more than "
            f"its max_share of {max_share:.0%}; nothing was deleted",
            hint="if they are really gone over there, say so once: membrane sync KEY "
            "--connection KEY --full --allow-deletions; or in Dagster, by a run's configuration: "
            "mode: full, allow_deletions: [KEY of the connection]",
        )


def _begun(stream: str) -> str:
    return f"scan/{stream}"
