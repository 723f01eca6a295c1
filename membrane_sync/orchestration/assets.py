"""Three assets a sync: records in the lake, mapped records, records in the product's database.

They are partitioned by connection and call the same verbs as everyone else, through `stages.py`.
"""

from typing import Literal

import dagster as dg
from pydantic import Field

from membrane_sync.orchestration import translator
from membrane_sync.orchestration.checks import Checked, check_specs
from membrane_sync.orchestration.partitions import connections_of
from membrane_sync.orchestration.resources import MembraneResource
from membrane_sync.orchestration.stages import DELIVER, MAP, PULL, Wanted, run_stage
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import ResolvedSync


class PullConfig(dg.Config):
    """What to read of the collection: what changed, all of it, or a window of time."""

    mode: Literal["incremental", "full", "window"] = Field(
        default="incremental",
        description="`incremental` reads on from the cursor. `full` reads everything, which also "
        "finds the deletions that an app doesn't tell of. `window` reads what has a time from "
        "`since` on and before `until`, and leaves the cursor where it is.",
    )
    since: str = Field(
        default="",
        description="With mode `window`: where it begins, as `2026-01-31T00:00:00Z`; open if empty",
    )
    until: str = Field(
        default="",
        description="With mode `window`: the first moment after it; open if empty",
    )
    allow_deletions: list[str] = Field(
        default=[],
        description="With mode `full`: connections of which everything is deleted that is gone in "
        "the app, though it's more than the collection's `max_share`. Each is named, so that a "
        "backfill of many allows it for none by accident",
    )

    def wanted(self, connection: str) -> Wanted:
        """What it says of one connection."""
        allowed = connection in self.allow_deletions
        return Wanted(self.mode, self.since, self.until, allowed)


def sync_assets(project: Project, integration: str) -> list[dg.AssetsDefinition]:
    """All assets of one integration: one per data source, and two below it for each sync."""
    syncs = project.syncs(integration)
    by_source: dict[str, list[ResolvedSync]] = {}
    for sync in syncs:
        by_source.setdefault(sync.source.key, []).append(sync)
    assets = [_collection_asset(sharing) for _, sharing in sorted(by_source.items())]
    for sync in syncs:
        assets += [_mapped_asset(sync), _delivered_asset(project, sync)]
    return assets


def _collection_asset(syncs: list[ResolvedSync]) -> dg.AssetsDefinition:
    """The records of a data source, which several syncs may share."""
    sync = syncs[0]
    connections = connections_of(sync.integration.key)
    collection = sync.collection
    about = [
        f"{sync.connector.title}'s collection **{collection.title}**, as records in the lake; "
        "each run reads on from the cursor.",
        collection.description or "",
    ]

    @dg.asset(
        key=translator.collection_key(sync),
        check_specs=check_specs(PULL.checks, translator.collection_key(sync), connections),
        description="\n\n".join(filter(None, about)),
        kinds={sync.connector.key, "duckdb"},
        code_version=sync.collection_version,
        metadata={
            "dagster/column_schema": translator.table_schema(collection.fields_schema),
            "lake_table": f"records.{sync.stream}",
        },
        partitions_def=connections,
        group_name=translator.group_name(sync.integration.key),
    )
    def records(
        context: dg.AssetExecutionContext, config: PullConfig, membrane: MembraneResource
    ) -> Checked:
        keys = [sharing.sync.key for sharing in syncs]
        return run_stage(PULL, context, membrane, keys, config.wanted(context.partition_key))

    return records


def _mapped_asset(sync: ResolvedSync) -> dg.AssetsDefinition:
    connections = connections_of(sync.integration.key)

    @dg.asset(
        key=translator.mapped_key(sync),
        check_specs=check_specs(MAP.checks, translator.mapped_key(sync), connections),
        deps=[translator.collection_key(sync)],
        description="The same records in the product's shape, by field mapping "
        f"**{sync.mapping.title}**.",
        kinds={"duckdb"},
        code_version=sync.version,
        metadata={
            "dagster/column_schema": translator.table_schema(
                translator.product_schema(sync), translator.formulas(sync)
            ),
            "dagster/column_lineage": translator.mapped_lineage(sync),
            "lake_table": f"mapped.{sync.sync.key}",
        },
        partitions_def=connections,
        group_name=translator.group_name(sync.integration.key),
    )
    def mapped(context: dg.AssetExecutionContext, membrane: MembraneResource) -> Checked:
        return run_stage(MAP, context, membrane, [sync.sync.key])

    return mapped


def _delivered_asset(project: Project, sync: ResolvedSync) -> dg.AssetsDefinition:
    table = sync.schema.table if sync.schema else None
    url = project.settings.databases.get(table.database, "") if table else ""
    schema = translator.table_schema(translator.product_schema(sync))
    connections = connections_of(sync.integration.key)

    @dg.asset(
        key=translator.delivered_key(sync),
        check_specs=check_specs(DELIVER.checks, translator.delivered_key(sync), connections),
        deps=[translator.mapped_key(sync)],
        description="The same records in the product's own database, each linked to the external "
        "record it came from.",
        kinds={translator.database_kind(url)},
        code_version=sync.version,
        metadata={
            "dagster/column_schema": schema,
            "dagster/column_lineage": translator.delivered_lineage(sync),
        }
        | ({"dagster/table_name": table.name} if table else {}),
        partitions_def=connections,
        group_name=translator.group_name(sync.integration.key),
    )
    def delivered(context: dg.AssetExecutionContext, membrane: MembraneResource) -> Checked:
        return run_stage(DELIVER, context, membrane, [sync.sync.key])

    return delivered
