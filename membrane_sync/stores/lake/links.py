"""Links in the lake: which external record is which of the product's; looked up by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from membrane_sync.records import Link, LinkKey
from membrane_sync.stores.lake.feeds import now
from membrane_sync.stores.lake.file import LakeFile

_SAME_TABLE = "link_table = ? AND instance_key = ? AND direction = ?"

_LINKED_BEFORE = f"""
CREATE OR REPLACE TEMP TABLE linked_before AS
SELECT external_id, linked_at FROM lake.links
WHERE {_SAME_TABLE} AND external_id IN (SELECT external_id FROM staged_links)
"""


def stage_links(file: LakeFile, links: Sequence[Link], unlink: Sequence[str]) -> None:
    """Stage links in `staged_links`, and ids that lose theirs in `gone_links`."""
    file.stage(
        "staged_links",
        {
            "external_id": [link.external_id for link in links],
            "app_id": [link.app_id for link in links],
            "external_hash": [link.external_hash for link in links],
            "app_hash": [link.app_hash for link in links],
            "base": [link.base for link in links],
        },
    )
    file.stage("gone_links", {"external_id": list(unlink)})


def write_links(file: LakeFile, key: LinkKey) -> None:
    """Write what `stage_links` staged; a link that was there keeps the time it was made at."""
    file.execute(_LINKED_BEFORE, _names(key))
    file.execute(
        f"DELETE FROM lake.links WHERE {_SAME_TABLE} AND external_id IN "
        "(SELECT external_id FROM staged_links UNION ALL SELECT external_id FROM gone_links)",
        _names(key),
    )
    file.execute(
        "INSERT INTO lake.links SELECT ?, ?, s.external_id, s.app_id, ?, s.external_hash, "
        "s.app_hash, s.base, coalesce(b.linked_at, ?), ? FROM staged_links s "
        "LEFT JOIN linked_before b ON b.external_id = s.external_id",
        [*_names(key), now(), now()],
    )


def links_by(file: LakeFile, column: str, key: LinkKey, ids: Sequence[str]) -> list[Any]:
    """The links that have one of the ids in a column, as `Link` takes them."""
    if not ids:
        return []
    file.stage("wanted", {"id": list(ids)})
    with file.reading(f"read links of {key.table}") as there:
        if not there:
            return []
        return file.rows(
            f"SELECT external_id, app_id, external_hash, app_hash, base, direction "
            f"FROM lake.links WHERE {_SAME_TABLE} AND {column} IN (SELECT id FROM wanted)",
            _names(key),
        )


def _names(key: LinkKey) -> list[str]:
    return [key.table, key.instance_key, key.direction]
