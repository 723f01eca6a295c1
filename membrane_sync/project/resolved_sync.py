"""One sync with every key become an element, as one integration or connection sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.integration import Integration
from membrane_sync.elements.sync import Sync
from membrane_sync.formulas.python import Functions
from membrane_sync.ports import DEFAULT_INSTANCE
from membrane_sync.project import schemas

INSTANCE_MARK = "@"
"""Between a sync's key and an instance's, as in `contacts@emea`; no key has it."""


@dataclass(frozen=True)
class Names:
    """What formulas may name by its key, as one integration or connection sees it."""

    collection: Callable[[str], DataCollection | None] = lambda _: None
    schema: schemas.Lookup = lambda _: None
    function: Functions | None = None


def stream_name(collection: str, parameters: Mapping[str, Any]) -> str:
    """Name of a collection's records in the lake; parameters make a stream of their own."""
    if not parameters:
        return collection
    text = json.dumps(parameters, sort_keys=True)
    return f"{collection}__{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class ResolvedSync:
    """One sync as one integration, or one connection, sees it: every key become an element."""

    sync: Sync
    integration: Integration
    connector: Connector
    source: DataSource
    collection: DataCollection
    mapping: FieldMapping
    schema: DataSchema | None
    links: DataLinkTable
    names: Names = field(default_factory=Names, compare=False, repr=False)
    hooks: str = ""
    """Hash of the functions that the mapping may call; empty if it calls none."""
    functions: Mapping[str, Callable[..., Any]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """What the connector's hooks.py has, for requests that YAML can't describe."""
    instance_key: str = DEFAULT_INSTANCE

    def instance(self, instance_key: str) -> ResolvedSync:
        """The sync under a name of its own, so that it keeps its own records, offsets and runs."""
        if instance_key == DEFAULT_INSTANCE:
            return self
        named = self.sync.model_copy(
            update={"key": f"{self.sync.key}{INSTANCE_MARK}{instance_key}"}
        )
        return replace(self, sync=named, instance_key=instance_key)

    @property
    def declared_key(self) -> str:
        """The sync's key in its file, whichever instance this is."""
        return self.sync.key.partition(INSTANCE_MARK)[0]

    def is_made_of(self, kind: str, key: str) -> bool:
        """Is this element, which overrides may change, a part of the sync?"""
        parts = {
            "sync": self.sync,
            "field_mapping": self.mapping,
            "data_source": self.source,
            "data_schema": self.schema,
            "data_link_table": self.links,
        }
        part = parts.get(kind)
        return part is not None and part.key == key

    @cached_property
    def stream(self) -> str:
        """Name of the collection's records in the lake; parameters make a stream of their own."""
        return stream_name(self.collection.key, self.source.collection_parameters)

    @cached_property
    def collection_version(self) -> str:
        """Hash of what shapes the records in the lake."""
        ignored = {"name", "description", "meta", "events"}
        shape = self.collection.model_dump(mode="json", exclude=ignored)
        text = json.dumps([shape, self.source.collection_parameters], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def version(self) -> str:
        """Hash of what shapes the mapped records: another hash means mapping everything again."""
        # Not by model_dump, which refuses formulas of more than some 250 levels.
        ignored = ("description", "name", "meta")
        shape = [
            {name: value for name, value in self.mapping if name not in ignored},
            self.schema.schema_ if self.schema else {},
            self.stream,
            *filter(None, [self.hooks]),
        ]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]
