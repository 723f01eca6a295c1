"""Data source: a stable pointer to a collection, so that the rest needn't know which.

Read by `sync/pull.py`, kept by `sync/store.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from membrane_sync.elements.base import Element

Contract = Literal["evolve", "freeze", "discard"]
"""What happens to fields that the collection's `fields_schema` doesn't have."""


class DataSource(Element):
    """Which collection, directly or by unified data model, and how often it's read."""

    collection_key: str | None = Field(default=None, description="A data collection by its key")
    collection_parameters: dict[str, Any] = Field(default_factory=dict)
    udm: str | None = Field(default=None, description="Or the connector's one for this model")
    pull_updates_interval_seconds: int = Field(default=300, ge=60)
    full_sync_interval_seconds: int = Field(default=10_800, ge=60)
    safety_poll_interval_seconds: int = Field(
        default=10_800, ge=60, description="How often it's polled while webhooks tell every change"
    )
    contract: Contract = "evolve"
    history: bool = Field(default=False, description="Keep every version of each record")
