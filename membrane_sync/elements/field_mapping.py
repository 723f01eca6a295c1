"""Field mapping: formulas between an external record and a record of the product.

Carried out by `sync/map.py` with the language of `formulas/`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import Element, Formula, RefersTo, Schema


class FieldMapping(Element):
    """Import formulas give a record of the data schema, export formulas one of the collection."""

    data_source: Annotated[str, RefersTo("data_source")] | None = None
    data_schema: Annotated[str, RefersTo("data_schema")] | None = None
    app_schema: Schema = Field(default_factory=dict, description="Instead of a data schema")
    direction: Literal["import", "export", "both"] = "both"
    import_value: Formula = None
    export_value: Formula = None
    unified_import_value: Formula = None
    unified_export_value: Formula = None
    default_import_value: Formula = None
    default_export_value: Formula = None
    frozen_import_fields: list[str] = Field(default_factory=list)
    frozen_export_fields: list[str] = Field(default_factory=list)
    frozen_unified_export_fields: list[str] = Field(default_factory=list)
    include_raw_fields: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> FieldMapping:
        imports = (self.import_value, self.unified_import_value, self.default_import_value)
        exports = (self.export_value, self.unified_export_value, self.default_export_value)
        if all(value is None for value in (*imports, *exports)):
            raise ValueError("a field mapping needs import_value or export_value")
        return self
