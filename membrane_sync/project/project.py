"""The project: every declaration, resolved for whom you ask.

`project.get("field_mapping", "contacts", integration="kinto", connection="acme")` gives the element
as that connection sees it. Elements name each other by key; only here do keys become objects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

from membrane_sync.elements import CONNECTOR_KINDS, KINDS, Element
from membrane_sync.elements.connection import Connection
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.integration import Integration
from membrane_sync.elements.nearest import nearest
from membrane_sync.elements.sync import Sync
from membrane_sync.elements.unified_data_model import UnifiedDataModel
from membrane_sync.errors import NotFound, ProjectError
from membrane_sync.formulas.python import is_calling
from membrane_sync.project import schema_check, schemas
from membrane_sync.project.customisation import Customisation
from membrane_sync.project.environment import expanded
from membrane_sync.project.extension import extended
from membrane_sync.project.hooks import (
    HOOKS,
    Hooks,
    called,
    digest_of,
    find_hook,
    hook_files,
    place_of,
)
from membrane_sync.project.layers import override_layer, resolve
from membrane_sync.project.loader import (
    CONNECTION,
    CONNECTOR,
    INTEGRATION,
    UNIVERSAL,
    Address,
    Documents,
    load_documents,
)
from membrane_sync.project.located import Block
from membrane_sync.project.resolved_sync import Names, ResolvedSync
from membrane_sync.project.settings import Settings, read_settings
from membrane_sync.project.unified import (
    UnifiedCollection,
    composed,
    narrowed,
    unified_collection,
)
from membrane_sync.project.validation import validated
from membrane_sync.project.yaml_file import read_value
from membrane_sync.udm import model_keys, model_text

E = TypeVar("E", bound=Element)


class Project:
    """All declarations below `root`; resolving is done on demand and remembered."""

    def __init__(
        self,
        root: Path,
        documents: Documents,
        settings: Settings,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.documents = documents
        self.settings = settings
        self.environ = os.environ if environ is None else environ
        self.customisation: Customisation | None = None
        self._elements: dict[tuple[str, str, str, str], Element] = {}
        self._schemas: dict[tuple[str, ...], dict[str, Any]] = {}

    @classmethod
    def load(cls, root: Path, environ: Mapping[str, str] | None = None) -> Project:
        """Read all files and settings; problems wait in `documents` for `references.check`."""
        documents = load_documents(root)
        settings, problems = read_settings(root, environ)
        if problems:
            documents.problems.extend(problems)
            documents.not_read("database")
        return cls(root, documents, settings, environ)

    def customised(self, customisation: Customisation) -> Project:
        """The same project, in which one connection's overrides count too."""
        project = Project(self.root, self.documents, self.settings, self.environ)
        project.customisation = customisation
        return project

    @property
    def from_files(self) -> Project:
        """The same project without overrides."""
        if self.customisation is None:
            return self
        return Project(self.root, self.documents, self.settings, self.environ)

    def block(
        self, kind: str, key: str, *, integration: str = "", connection: str = ""
    ) -> Block | None:
        """The merged layers of an element with their marks, or None if no layer has it."""
        blocks = self.documents.blocks
        layers = [
            extended(blocks, address, block) if kind == "data_collection" else block
            for address in self._addresses(kind, key, integration, connection)
            if (block := blocks.get(address)) is not None
        ]
        if kind == "unified_data_model" and key in model_keys():
            layers.insert(0, _built_in_model(key))
        if not layers:
            return None
        custom = self.customisation
        if custom is None or connection != custom.connection:
            return resolve(layers)
        judged = [(j.override, j.mark) for j in custom.of(kind, key) if j.applied]
        return resolve([*layers, override_layer(resolve(layers), judged)])

    def find(
        self, kind: str, key: str, *, integration: str = "", connection: str = ""
    ) -> Element | None:
        """The element, or None if no layer has it; raises `validation.Invalid`."""
        address = (kind, key, integration, connection)
        if address not in self._elements:
            block = self.block(kind, key, integration=integration, connection=connection)
            if block is None:
                return None
            self._elements[address] = validated(kind, block)
        return self._elements[address]

    def get(self, model: type[E], key: str, *, integration: str = "", connection: str = "") -> E:
        """The element; raises NotFound where no layer has it."""
        kind = _KIND_OF[model]
        element = self.find(kind, key, integration=integration, connection=connection)
        if element is None:
            hint = nearest(key, self.keys(kind, integration, connection), "declared are")
            raise NotFound(f"there is no {kind} {key!r}", hint=hint)
        return cast(E, element)

    def keys(self, kind: str, integration: str = "", connection: str = "") -> list[str]:
        """Keys of this kind that any of the layers in question declares."""
        if kind in ("integration", "connection"):
            return sorted(a.key for a in self.documents.blocks if a.kind == kind)
        places = self._addresses(kind, "", integration, connection)
        scopes = {(address.layer, address.scope) for address in places}
        found = (a for a in self.documents.blocks if a.kind == kind)
        built_in = model_keys() if kind == "unified_data_model" else ()
        return sorted({*built_in, *(a.key for a in found if (a.layer, a.scope) in scopes)})

    @cached_property
    def integrations(self) -> list[str]:
        """Keys of the integrations, in order."""
        return self.keys("integration")

    @cached_property
    def connections(self) -> list[str]:
        """Keys of the connections that files speak of; the ledger knows which are connected."""
        return sorted({a.scope for a in self.documents.blocks if a.layer == CONNECTION})

    def integration(self, key: str) -> Integration:
        """The integration, with the environment's variables in its parameters."""
        element = self.get(Integration, key, integration=key)
        parameters = expanded(element.parameters, self.environ)
        return element.model_copy(update={"parameters": parameters})

    def connector(self, integration: str) -> Connector:
        """The connector behind an integration."""
        key = self.get(Integration, integration).connector
        return self.get(Connector, key, integration=integration)

    def collection_of(self, integration: str, source: DataSource) -> DataCollection | None:
        """The collection a source points at in this integration's app, None if it offers none."""
        unified = self._unified(integration, source)
        key = source.collection_key or (unified.key if unified else None)
        if key is None:
            return None
        found = self.find("data_collection", key, integration=integration)
        return cast("DataCollection | None", found)

    def unified_data_model(self, key: str, integration: str = "") -> UnifiedDataModel | None:
        """The model of this key; the project's own words lie over those of the package's model."""
        found = self.find("unified_data_model", key, integration=integration)
        return cast("UnifiedDataModel | None", found)

    def composed(
        self, integration: str, mapping: FieldMapping, source: DataSource
    ) -> tuple[FieldMapping, DataSource]:
        """Mapping and source for this app, where they speak of a unified data model."""
        unified = self._unified(integration, source)
        if unified is None:
            return mapping, source
        return composed(mapping, unified), narrowed(source, unified)

    def _unified(self, integration: str, source: DataSource) -> UnifiedCollection | None:
        """What stands for the source's unified data model in this integration's app."""
        connector = self.connector(integration)
        if source.udm is None:
            return None
        models = partial(self.unified_data_model, integration=integration)
        return unified_collection(source.udm, connector, models, source.collection_key)

    def syncs(self, integration: str, connection: str = "") -> list[ResolvedSync]:
        """Every enabled sync that this integration's app can serve, in order of key."""
        resolved = (
            self.sync(key, integration, connection)
            for key in self.keys("sync", integration, connection)
        )
        return [sync for sync in resolved if sync is not None]

    def sync(self, key: str, integration: str, connection: str = "") -> ResolvedSync | None:
        """One sync as this connection sees it; None if disabled, or not offered by the app."""
        layer = {"integration": integration, "connection": connection}
        sync = self.get(Sync, key, **layer)
        if not takes_part(sync, integration):
            return None
        mapping = self.get(FieldMapping, sync.field_mapping, **layer)
        source_key = sync.data_source or mapping.data_source
        if source_key is None:
            raise NotFound(
                f"sync {key!r} has no data source",
                hint="give it, or its field mapping, data_source",
            )
        source = self.get(DataSource, source_key, **layer)
        collection = self.collection_of(integration, source)
        if collection is None or collection.list_ is None or collection.list_.not_supported:
            return None
        schema = self.get(DataSchema, mapping.data_schema, **layer) if mapping.data_schema else None
        mapping, source = self.composed(integration, mapping, source)
        lookup = schemas.lookup_in(self, **layer)
        return ResolvedSync(
            sync=sync,
            integration=self.integration(integration),
            connector=self.connector(integration),
            source=source,
            collection=collection,
            mapping=schemas.with_references(mapping, lookup),
            schema=schemas.with_references(schema, lookup) if schema else None,
            links=self.get(DataLinkTable, sync.data_link_table, **layer),
            names=self.names(integration, connection),
            hooks=self._hooks(mapping, integration, connection),
            functions=Hooks(self.root / "connectors" / self.connector(integration).key / HOOKS),
        )

    def _hooks(self, mapping: FieldMapping, integration: str, connection: str) -> str:
        calls = is_calling([mapping.import_value, mapping.default_import_value])
        return digest_of(hook_files(self.root, integration, connection)) if calls else ""

    def names(self, integration: str, connection: str = "") -> Names:
        """What formulas may name, as this connection sees it."""

        def collection(key: str) -> DataCollection | None:
            found = self.find("data_collection", key, integration=integration)
            return cast("DataCollection | None", found)

        lookup = schemas.lookup_in(self, integration=integration, connection=connection)

        def schema(key: str) -> Mapping[str, Any] | None:
            found = lookup(key)
            return None if found is None else schemas.expanded(found, lookup)

        files = hook_files(self.root, integration, connection)

        @lru_cache
        def function(name: str) -> Callable[..., Any]:
            try:
                return find_hook(files, name)
            except (NotFound, ProjectError) as error:
                raise LookupError(str(error)) from None

        return Names(collection, schema, function)

    def schema_of(
        self, schema: DataSchema, integration: str, connection: str, tenant: Mapping[str, Any]
    ) -> DataSchema:
        """The schema as its function gives it for a tenant; itself if it has no function.

        The function is called with `tenant`, once for each project that's loaded. Raises NotFound,
        or ProjectError, with file and line, where it fails or gives no schema.
        """
        if schema.function is None:
            return schema
        place = (
            connection,
            schema.key,
            schema.function,
            json.dumps(tenant, sort_keys=True, default=str),
        )
        if place not in self._schemas:
            layer = {"integration": integration, "connection": connection}
            files = hook_files(self.root, **layer)
            function, lookup = find_hook(files, schema.function), schemas.lookup_in(self, **layer)
            given, at = called(function, dict(tenant)), place_of(function)
            own = schema_check.checked(given, f"data_schema {schema.key}", *at, lookup)
            self._schemas[place] = schemas.expanded(own, lookup)
        return schema.model_copy(update={"schema_": self._schemas[place]})

    def connection(self, key: str) -> Connection | None:
        """What files say of a connection; None if they say nothing."""
        block = self.documents.blocks.get(Address(CONNECTION, key, "connection", key))
        return cast(Connection, validated("connection", block)) if block is not None else None

    def _addresses(self, kind: str, key: str, integration: str, connection: str) -> list[Address]:
        """Where the layers of an element may be, lowest first."""
        if kind in ("integration", "connection"):
            return [Address(kind, key, kind, key)]
        if kind in ("connector", *CONNECTOR_KINDS):
            head = Address(INTEGRATION, integration, "integration", integration)
            block = self.documents.blocks.get(head)
            app = integration if block is None else str(block["connector"])
            return [Address(CONNECTOR, app, kind, key)]
        places = ((UNIVERSAL, ""), (INTEGRATION, integration), (CONNECTION, connection))
        return [
            Address(layer, scope, kind, key)
            for layer, scope in places
            if scope or layer == UNIVERSAL
        ]


@cache
def _built_in_model(key: str) -> Block:
    """A unified data model that comes with the package, as the lowest layer."""
    block: Block = read_value(model_text(key), f"membrane_sync/udm/{key}.yaml", "built-in")
    block.put("key", key, block.mark)
    return block


def takes_part(sync: Sync, integration: str) -> bool:
    """Is the sync meant for this integration, whether its app offers the collection or not?"""
    if not sync.enabled:
        return False
    return sync.integrations is None or integration in sync.integrations


_KIND_OF: dict[Any, str] = {model: kind for kind, model in KINDS.items()}
