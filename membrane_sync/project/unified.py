"""From a unified data model to one app: which collection, and what a universal mapping becomes.

A universal mapping reads the fields of a model (`$.primaryEmail`). A connector says in
`unified_data_models` which of its collections stands for the model, and how that one's fields give
the model's. Put together, they are a mapping for the app; what the app doesn't have drops out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.connector import CollectionMapping, Connector, UnifiedMapping
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.unified_data_model import UnifiedDataModel
from membrane_sync.formulas import MISSING
from membrane_sync.formulas.transform import fill_fields, transform_variables

Models = Callable[[str], UnifiedDataModel | None]
"""A unified data model by its key, None if there's none."""


@dataclass(frozen=True)
class UnifiedCollection:
    """The collection that stands for a model in one app.

    `fields` gives the model's fields by formulas over the collection's; None if they are the same.
    """

    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fields: Any = None


def unified_collection(
    udm: str, connector: Connector, models: Models, key: str | None = None
) -> UnifiedCollection | None:
    """The app's collection for a model, or for one that can stand in; None if it has neither.

    With `key`, what the connector says of that very collection, if anything.
    """
    model = models(udm)
    for name, translation in _candidates(udm, model):
        unified = connector.unified_data_models.get(name)
        chosen = _chosen(unified, key) if unified is not None else None
        if chosen is not None:
            fields = _translated(chosen.fields_from_collection, translation)
            if model is not None and fields is not None:
                fields = fill_fields(fields, model.field_fallbacks)
            return UnifiedCollection(chosen.key, chosen.parameters, fields)
    return None


def composed(mapping: FieldMapping, collection: UnifiedCollection) -> FieldMapping:
    """The field mapping with an import value for the collection, out of its value for the model.

    One that says itself how to import from this app stays as it is.
    """
    if mapping.import_value is not None:
        return mapping
    unified = mapping.unified_import_value
    if unified is None:
        unified = mapping.default_import_value
    if unified is None:
        return mapping
    value = (
        unified if collection.fields is None else transform_variables(unified, collection.fields)
    )
    return mapping.model_copy(update={"import_value": None if value is MISSING else value})


def narrowed(source: DataSource, collection: UnifiedCollection) -> DataSource:
    """The source with the parameters that make the collection stand for the model."""
    parameters = {**collection.parameters, **source.collection_parameters}
    return source.model_copy(update={"collection_parameters": parameters})


def _candidates(udm: str, model: UnifiedDataModel | None) -> Iterator[tuple[str, Any]]:
    """The model itself, then those that can stand in, with how their fields translate."""
    yield udm, None
    for fallback in model.udm_fallbacks if model is not None else ():
        yield fallback.udm, fallback.import_fields


def _chosen(unified: UnifiedMapping, key: str | None) -> CollectionMapping | None:
    wanted = key or unified.default_collection
    found = (m for m in unified.collection_mappings if wanted is None or m.key == wanted)
    chosen = next(found, None)
    if chosen is None and wanted is not None and wanted == unified.default_collection:
        return CollectionMapping.model_validate({"key": wanted})
    return chosen


def _translated(fields: Any, translation: Any) -> Any:
    if fields is None or translation is None:
        return fields
    value = transform_variables(translation, fields)
    return {} if value is MISSING else value
