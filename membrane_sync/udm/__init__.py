"""The unified data models that come with the package: what many apps' records have in common.

One YAML file each, `<key>.yaml`. Keys, fields and types are those of Membrane's models (MIT), so
that its public mappings fit; a project may add models of its own, or refine these.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from membrane_sync.elements.unified_data_model import UnifiedDataModel


def model_keys() -> list[str]:
    """The keys of the models, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


@cache
def load_model(key: str) -> UnifiedDataModel:
    """The model of this key, which is one of model_keys().

    >>> load_model("contacts").plural_name
    'contacts'
    """
    text = files(__name__).joinpath(f"{key}.yaml").read_text(encoding="utf-8")
    return UnifiedDataModel.model_validate({"key": key, **yaml.safe_load(text)})
