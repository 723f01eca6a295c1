"""`membrane explain`: each value of a resolved element, with the layer, file and line it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from membrane_sync.elements import CONNECTOR_KINDS, KINDS
from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import NotFound
from membrane_sync.project.located import Steps, leaves
from membrane_sync.project.project import Project
from membrane_sync.project.views import View, integration_of


@dataclass(frozen=True)
class Leaf:
    """One value: `path` is written as in `links[0].key`, and a formula is one value."""

    path: str
    value: Any
    layer: str
    file: str
    line: int


def explain(
    project: Project, kind: str, key: str, integration: str = "", connection: str = ""
) -> list[Leaf]:
    """The element's values but its key, as the integration or connection sees them.

    A connection's integration is taken from its file if it isn't given. Raises NotFound.
    """
    if kind not in KINDS:
        raise NotFound(f"there is no kind {kind!r}", hint=nearest(kind, KINDS, "kinds are"))
    if connection and not integration:
        integration = _integration_of(project, connection)
    view = View(project, integration, connection)
    if view.integration and view.integration not in project.integrations:
        hint = nearest(view.integration, project.integrations, "declared are")
        raise NotFound(f"there is no integration {view.integration!r}", hint=hint)
    block = view.block(kind, key)
    if block is None:
        raise NotFound(f"there is no {kind} {key!r}{_seen_from(view)}", hint=_hint(view, kind, key))
    return [
        Leaf(_text(path), value, mark.layer, mark.file, mark.line)
        for path, value, mark in leaves(block)
        if path != ("key",)
    ]


def _integration_of(project: Project, connection: str) -> str:
    integration = integration_of(project, connection)
    if integration:
        return integration
    hint = nearest(connection, project.keys("connection"), "files speak of")
    message = f"no file says which integration the connection {connection!r} belongs to"
    raise NotFound(message, hint=f"name the integration too, or {hint}")


def _seen_from(view: View) -> str:
    return f" for {view.connection or view.integration}" if view.integration else ""


def _hint(view: View, kind: str, key: str) -> str:
    if view.integration or kind not in (*CONNECTOR_KINDS, "connector"):
        return nearest(key, view.keys(kind), "declared are")
    return f"name an integration: {', '.join(view.project.integrations) or 'there is none'}"


def _text(path: Steps) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).removeprefix(".")
