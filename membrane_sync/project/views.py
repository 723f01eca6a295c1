"""Who looks at the project: nobody in particular, an integration, or a connection of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from membrane_sync.elements import Element
from membrane_sync.project.loader import CONNECTION, Address
from membrane_sync.project.located import Block
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import ResolvedSync


@dataclass(frozen=True)
class View:
    """The project's elements as one of its layers sees them."""

    project: Project
    integration: str = ""
    connection: str = ""

    def block(self, kind: str, key: object) -> Block | None:
        """The merged layers of an element with their marks."""
        return self.project.block(kind, str(key), **self._layer())

    def find(self, kind: str, key: object) -> Element | None:
        """The element, or None if no layer has it; raises `validation.Invalid`."""
        return self.project.find(kind, str(key), **self._layer())

    def keys(self, kind: str) -> list[str]:
        """Keys of the elements of a kind that are seen from here."""
        return self.project.keys(kind, self.integration, self.connection)

    def sync(self, key: str) -> ResolvedSync | None:
        """One sync with all its elements; raises `validation.Invalid` or NotFound."""
        return self.project.sync(key, self.integration, self.connection)

    def _layer(self) -> dict[str, str]:
        return {"integration": self.integration, "connection": self.connection}


def views(project: Project) -> Iterator[View]:
    """Everyone a sync may run for; the universal layer where there's no integration yet."""
    if not project.integrations:
        yield View(project)
    yield from (View(project, integration) for integration in project.integrations)
    for connection in project.connections:
        integration = integration_of(project, connection)
        if integration in project.integrations:
            yield View(project, integration, connection)


def integration_of(project: Project, connection: str) -> str:
    """The integration that a connection's file names; empty if there's no such file.

    Of a connection with overrides it is known from the ledger.
    """
    custom = project.customisation
    if custom is not None and custom.connection == connection:
        return custom.integration
    address = Address(CONNECTION, connection, CONNECTION, connection)
    block = project.documents.blocks.get(address)
    return str(block.get("integration", "")) if block is not None else ""
