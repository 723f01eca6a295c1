"""What YAML may say: one pydantic model per kind of element; no behaviour, no I/O.

`KINDS` maps a kind (`field_mapping`) to its model; its folder is the plural (`field_mappings`).
"""

from __future__ import annotations

from membrane_sync.elements.action import Action
from membrane_sync.elements.authentication import Authentication
from membrane_sync.elements.base import Element
from membrane_sync.elements.connection import Connection
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.external_event import ExternalEvent
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.flow import Flow
from membrane_sync.elements.global_webhook import GlobalWebhook
from membrane_sync.elements.integration import Integration
from membrane_sync.elements.internal_event import InternalEvent
from membrane_sync.elements.package import Package
from membrane_sync.elements.sync import Sync
from membrane_sync.elements.unified_data_model import UnifiedDataModel

KINDS: dict[str, type[Element]] = {
    "connector": Connector,
    "data_collection": DataCollection,
    "external_event": ExternalEvent,
    "global_webhook": GlobalWebhook,
    "integration": Integration,
    "connection": Connection,
    "data_schema": DataSchema,
    "data_source": DataSource,
    "field_mapping": FieldMapping,
    "data_link_table": DataLinkTable,
    "sync": Sync,
    "action": Action,
    "flow": Flow,
    "internal_event": InternalEvent,
    "package": Package,
    "unified_data_model": UnifiedDataModel,
}
"""Every kind that can stand in a file of its own; authentication is part of a connector."""

CONNECTOR_KINDS = ("data_collection", "external_event", "global_webhook")
"""Kinds below `connectors/<app>/`."""

LAYERED_KINDS = (
    "data_schema",
    "data_source",
    "field_mapping",
    "data_link_table",
    "sync",
    "action",
    "flow",
    "internal_event",
    "unified_data_model",
)
"""Kinds below `mappings/`, which the three layers may refine, and which a package may hold."""


def folder_of(kind: str) -> str:
    """The folder that files of this kind live in, which is the kind's plural."""
    return f"{kind}s"


__all__ = ["CONNECTOR_KINDS", "KINDS", "LAYERED_KINDS", "Authentication", "Element", "folder_of"]
