"""Package: elements that belong together, in one file.

Its elements are read by `project/loader.py` as if each had a file of its own.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from membrane_sync.elements.base import Element


class Package(Element):
    """Elements by kind and key; each one is written as in a file of its own, without its key."""

    version: str | None = None
    changelog: str | None = None
    data_schemas: dict[str, dict[str, Any]] = Field(default_factory=dict)
    data_sources: dict[str, dict[str, Any]] = Field(default_factory=dict)
    field_mappings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    data_link_tables: dict[str, dict[str, Any]] = Field(default_factory=dict)
    syncs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    actions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    flows: dict[str, dict[str, Any]] = Field(default_factory=dict)
    internal_events: dict[str, dict[str, Any]] = Field(default_factory=dict)
    unified_data_models: dict[str, dict[str, Any]] = Field(default_factory=dict)
