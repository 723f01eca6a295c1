"""What changed, as Dagster shows it: materializations of a sync's assets for one connection."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from membrane_sync.orchestration import translator
from membrane_sync.orchestration.stages import DELIVER, MAP, PULL, report_metadata
from membrane_sync.project.resolved_sync import ResolvedSync

if TYPE_CHECKING:
    from membrane_sync.records import Report


def materializations(
    sync: ResolvedSync, report: "Report", connection: str
) -> Iterator[dg.AssetMaterialization]:
    """One of each asset of which the report says that something changed."""
    assets = (
        (PULL, translator.collection_key(sync)),
        (MAP, translator.mapped_key(sync)),
        (DELIVER, translator.delivered_key(sync)),
    )
    for stage, key in assets:
        if any(getattr(report, number) for number in stage.changes):
            metadata = report_metadata(stage, report)
            yield dg.AssetMaterialization(asset_key=key, partition=connection, metadata=metadata)
