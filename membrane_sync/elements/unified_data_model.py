"""Unified data model: a vocabulary that many apps share, open to your own models.

Composed with a connector's map by `project/unified.py`; `udm/` holds those of the package.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from membrane_sync.elements.base import Element, Formula, Schema, Spec


class ModelFallback(Spec):
    """Another model that can stand in, and how fields translate."""

    udm: str
    import_fields: Formula = None
    export_fields: Formula = None


class UnifiedDataModel(Element):
    """Fields that apps have in common, such as contacts or deals."""

    singular_name: str | None = None
    plural_name: str | None = None
    fields_schema: Schema = Field(default_factory=dict)
    methods: dict[str, Any] = Field(default_factory=dict)
    udm_fallbacks: list[ModelFallback] = Field(default_factory=list)
    field_fallbacks: dict[str, Formula] = Field(default_factory=dict)
