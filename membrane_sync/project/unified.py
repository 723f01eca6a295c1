"""From a unified data model to one app: which collection, and what a universal mapping becomes.

A universal mapping reads the fields of a model (`$.primaryEmail`), or gives them on export. A
connector says in `unified_data_models` which of its collections stands for the model, and how that
one's fields give the model's and are given by them. Put together, they are a mapping for the app;
what either side doesn't have drops out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.connector import CollectionMapping, Connector, UnifiedMapping
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.unified_data_model import ModelFallback, UnifiedDataModel
from membrane_sync.formulas import MISSING
from membrane_sync.formulas.locators import text_of
from membrane_sync.formulas.transform import fill_fields, transform_variables
from membrane_sync.project.located import is_formula
from membrane_sync.project.schemas import fields as fields_of

Models = Callable[[str], UnifiedDataModel | None]
"""A unified data model by its key, None if there's none."""


@dataclass(frozen=True)
class UnifiedCollection:
    """The collection that stands for a model in one app.

    `fields` gives the model's fields by formulas over the collection's, `to_fields` the other way
    round; None if they are the same. `fallbacks` give fields of the model by others.
    """

    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fields: Any = None
    to_fields: Any = None
    fallbacks: Mapping[str, list[Any]] = field(default_factory=dict)


def unified_collection(
    udm: str, connector: Connector, models: Models, key: str | None = None
) -> UnifiedCollection | None:
    """The app's collection for a model, or for one that can stand in; None if it has neither.

    With `key`, what the connector says of that very collection, if anything.
    """
    model = models(udm)
    fallbacks = model.field_fallbacks if model is not None else {}
    for candidate in _candidates(udm, model):
        unified = connector.unified_data_models.get(candidate.udm)
        chosen = _chosen(unified, key) if unified is not None else None
        if chosen is not None:
            fields = _translated(
                chosen.fields_from_collection, _whole(candidate.import_fields, model)
            )
            if fields is not None:
                fields = fill_fields(fields, fallbacks)
            export_fields = _whole(candidate.export_fields, model)
            to_fields = _translated(export_fields, chosen.fields_to_collection)
            return UnifiedCollection(chosen.key, chosen.parameters, fields, to_fields, fallbacks)
    return None


def composed(mapping: FieldMapping, collection: UnifiedCollection) -> FieldMapping:
    """The field mapping with values for the collection, out of its values for the model.

    In a direction for which it says itself what this app needs, it stays as it is.
    """
    return mapping.model_copy(
        update={
            "import_value": _import_value(mapping, collection),
            "export_value": _export_value(mapping, collection),
        }
    )


def _import_value(mapping: FieldMapping, collection: UnifiedCollection) -> Any:
    own, unified = mapping.import_value, mapping.unified_import_value
    unified = mapping.default_import_value if unified is None else unified
    if own is not None or unified is None or collection.fields is None:
        return unified if own is None else own
    return _or_none(transform_variables(unified, collection.fields))


def _export_value(mapping: FieldMapping, collection: UnifiedCollection) -> Any:
    own, unified = mapping.export_value, mapping.unified_export_value
    unified = mapping.default_export_value if unified is None else unified
    if own is not None or unified is None or collection.to_fields is None:
        return unified if own is None else own
    return _or_none(
        transform_variables(collection.to_fields, fill_fields(unified, collection.fallbacks))
    )


def _or_none(value: Any) -> Any:
    return None if value is MISSING else value


def narrowed(source: DataSource, collection: UnifiedCollection) -> DataSource:
    """The source with the parameters that make the collection stand for the model."""
    parameters = {**collection.parameters, **source.collection_parameters}
    return source.model_copy(update={"collection_parameters": parameters})


def _candidates(udm: str, model: UnifiedDataModel | None) -> Iterator[ModelFallback]:
    """The model itself, then those that can stand in, with how their fields translate."""
    yield ModelFallback(udm=udm)
    yield from model.udm_fallbacks if model is not None else ()


def _chosen(unified: UnifiedMapping, key: str | None) -> CollectionMapping | None:
    wanted = key or unified.default_collection
    found = (m for m in unified.collection_mappings if wanted is None or m.key == wanted)
    chosen = next(found, None)
    if chosen is None and wanted is not None and wanted == unified.default_collection:
        return CollectionMapping.model_validate({"key": wanted})
    return chosen


def _whole(translation: Any, model: UnifiedDataModel | None) -> Any:
    """The translation with the model's fields that it doesn't name: they keep their names."""
    if model is None or not isinstance(translation, dict) or is_formula(translation):
        return translation
    same = {name: {"$var": text_of((name,))} for name in fields_of(model.fields_schema)}
    return {**same, **translation}


def _translated(fields: Any, translation: Any) -> Any:
    """The translation over what these fields are made from; each of the two may be left out."""
    if fields is None or translation is None:
        return fields if translation is None else translation
    value = transform_variables(translation, fields)
    return {} if value is MISSING else value
