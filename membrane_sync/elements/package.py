"""Package: elements that belong together, in one file.

Its elements are read by `project/loader.py` as if each had a file of its own.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from membrane_sync.elements.base import Element

Inline = dict[str, dict[str, Any] | None]


class Package(Element):
    """Elements by kind and key; each one is written as in a file of its own, without its key."""

    version: str | None = None
    changelog: str | None = None
    data_schemas: Inline = Field(default_factory=dict)
    data_sources: Inline = Field(default_factory=dict)
    field_mappings: Inline = Field(default_factory=dict)
    data_link_tables: Inline = Field(default_factory=dict)
    syncs: Inline = Field(default_factory=dict)
    actions: Inline = Field(default_factory=dict)
    flows: Inline = Field(default_factory=dict)
    internal_events: Inline = Field(default_factory=dict)
    unified_data_models: Inline = Field(default_factory=dict)
