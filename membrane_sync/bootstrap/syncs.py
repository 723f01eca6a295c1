"""What a connection syncs: with its overrides, and with its tenant's schemas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from membrane_sync.bootstrap.registration import secret_input
from membrane_sync.bootstrap.stores import Stores
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import NotFound
from membrane_sync.ports import DEFAULT_INSTANCE, ConnectionRecord, Override
from membrane_sync.project.customisation import Judged
from membrane_sync.project.overrides import customised
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import INSTANCE_MARK, ResolvedSync, stream_name
from membrane_sync.sync.custom_fields import as_known


class Syncs:
    """The syncs of connections."""

    def __init__(self, project: Project, stores: Stores) -> None:
        self._project = project
        self._stores = stores
        self._of_integrations: dict[str, list[ResolvedSync]] = {}

    def as_known(
        self, connection: str, collection: DataCollection, source: DataSource
    ) -> DataCollection:
        """The collection with the fields that the connection's account has of its own."""
        if collection.custom_fields is None or not self._stores.lake_path(connection).exists():
            return collection
        stream = stream_name(collection.key, source.collection_parameters)
        return as_known(collection, self._stores.learnt_fields(connection, stream))

    def seen_by(
        self, connection: str, integration: str, instance_key: str = DEFAULT_INSTANCE
    ) -> Project:
        """The project with the connection's overrides, as the ledger has them now."""
        overrides = self._stores.ledger.overrides.of(connection)
        return customised(self._project, connection, integration, overrides, instance_key)

    def judged(self, connection: ConnectionRecord) -> list[Judged]:
        """All the connection's overrides in the ledger's order, and how they stand."""
        overrides = self._stores.ledger.overrides.of(connection.key)
        found: list[Judged] = []
        for instance in {override.instance_key for override in overrides}:
            project = customised(
                self._project, connection.key, connection.integration, overrides, instance
            )
            custom = project.customisation
            found += custom.judged if custom else ()
        return sorted(found, key=lambda judged: judged.mark.line)

    def of(
        self, connection: ConnectionRecord, instance_key: str | None = None
    ) -> list[ResolvedSync]:
        """Every sync that this connection takes part in, as it sees them, or of one instance.

        Another instance than the default one has those syncs of which it overrides an element.
        Raises NotFound if the project has the connection's integration no more.
        """
        if connection.integration not in self._project.integrations:
            raise NotFound(
                f"connection {connection.key!r} is of integration {connection.integration!r}, "
                "which the project doesn't have",
                hint=f"bring the integration back, or: membrane disconnect {connection.key}",
            )
        overrides = self._stores.ledger.overrides.of(connection.key)
        others = sorted({o.instance_key for o in overrides} - {DEFAULT_INSTANCE})
        wanted = [DEFAULT_INSTANCE, *others] if instance_key is None else [instance_key]
        if connection.key not in self._project.connections and not overrides:
            return self._usual(connection, wanted)
        return [sync for name in wanted for sync in self._instance(connection, overrides, name)]

    def _usual(self, connection: ConnectionRecord, wanted: Sequence[str]) -> list[ResolvedSync]:
        """The syncs of a connection of which nobody says anything: as its integration has them."""
        if DEFAULT_INSTANCE not in wanted:
            return []
        known, integration = self._of_integrations, connection.integration
        found = known.get(integration)
        if found is None:
            found = known[integration] = self._project.syncs(integration)
        return [_for_tenant(self._project, sync, connection) for sync in found]

    def _instance(
        self, connection: ConnectionRecord, overrides: Sequence[Override], instance_key: str
    ) -> Iterator[ResolvedSync]:
        names = (connection.key, connection.integration)
        project = customised(self._project, *names, overrides, instance_key)
        judged = project.customisation.judged if project.customisation else ()
        changed = [(j.override.kind, j.override.key) for j in judged]
        for sync in project.syncs(connection.integration, connection.key):
            if instance_key == DEFAULT_INSTANCE or any(sync.is_made_of(*part) for part in changed):
                yield _for_tenant(project, sync, connection).instance(instance_key)

    def one(
        self, key: str, connection: ConnectionRecord, instance_key: str = DEFAULT_INSTANCE
    ) -> ResolvedSync:
        """One sync as the connection sees it, as `contacts` or `contacts@emea`.

        Raises NotFound where the connection takes no part in it.
        """
        key, mark, named = key.partition(INSTANCE_MARK)
        instance_key = named if mark else instance_key
        self._project.get(Sync, key, integration=connection.integration, connection=connection.key)
        wanted = key if instance_key == DEFAULT_INSTANCE else f"{key}{INSTANCE_MARK}{instance_key}"
        for sync in self.of(connection, instance_key):
            if sync.sync.key == wanted:
                return sync
        known = ", ".join(sync.sync.key for sync in self.of(connection)) or "none"
        hint = f"connection {connection.key!r} takes part in: {known}"
        if instance_key != DEFAULT_INSTANCE:
            message = f"sync {key!r} has no instance {instance_key!r} for {connection.key!r}"
            hint += f"; make one: membrane override set sync {key} ... --instance {instance_key}"
            raise NotFound(message, hint=hint)
        raise NotFound(
            f"sync {key!r} is not for integration {connection.integration!r}, or is disabled",
            hint=hint,
        )

    def schema_of(self, project: Project, schema: DataSchema, connection: str) -> DataSchema:
        """The schema as its function, if it has one, gives it for a connection's tenant."""
        record = self._stores.ledger.connection(connection)
        return project.schema_of(schema, record.integration, connection, _tenant(project, record))


def _tenant(project: Project, connection: ConnectionRecord) -> dict[str, Any]:
    """What a function of the project's hooks is told of whom it works for; no credentials."""
    secret = secret_input(project, connection.integration)
    return {
        "tenant": connection.tenant,
        "connection": connection.key,
        "integration": connection.integration,
        "input": {n: v for n, v in connection.plain_input.items() if n not in secret},
    }


def _for_tenant(project: Project, sync: ResolvedSync, connection: ConnectionRecord) -> ResolvedSync:
    if sync.schema is None or sync.schema.function is None:
        return sync
    names = (connection.integration, connection.key)
    return replace(
        sync, schema=project.schema_of(sync.schema, *names, _tenant(project, connection))
    )
