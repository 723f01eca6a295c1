"""The unified data models that come with the package: what many apps' records have in common.

One YAML file each, `<key>.yaml`. Keys, fields and types are those of Membrane's models (MIT), so
that its public mappings fit; a project may add models of its own, or refine these.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def model_keys() -> tuple[str, ...]:
    """The keys of the models, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def model_text(key: str) -> str:
    """The YAML file of the model of this key, which is one of model_keys()."""
    return files(__name__).joinpath(f"{key}.yaml").read_text(encoding="utf-8")
