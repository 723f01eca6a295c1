"""A job per sync and integration: its three assets, for one connection a run."""

from typing import Any

import dagster as dg

from membrane_sync.orchestration import translator
from membrane_sync.project.resolved_sync import ResolvedSync


def sync_job(sync: ResolvedSync) -> Any:
    """The job that brings one connection's records from the app to the product.

    Dagster doesn't export the type of what it returns.
    """
    return dg.define_asset_job(
        name=translator.job_name(sync),
        selection=[
            translator.collection_key(sync),
            translator.mapped_key(sync),
            translator.delivered_key(sync),
        ],
        description=f"Sync **{sync.sync.title}** from {sync.connector.title}, one connection a "
        "run: pull, store, map, link, push.",
        tags={
            translator.SYNC_TAG: sync.sync.key,
            translator.INTEGRATION_TAG: sync.integration.key,
        },
    )
