"""`membrane explain`: each value of a resolved element, with the layer, file and line it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from membrane_sync.elements import CONNECTOR_KINDS, KINDS
from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import NotFound
from membrane_sync.project.customisation import LAYER, Judged, path_text
from membrane_sync.project.layers import REMOVE
from membrane_sync.project.located import Block, leaves
from membrane_sync.project.project import Project
from membrane_sync.project.views import View, integration_of


@dataclass(frozen=True)
class Leaf:
    """One value: `path` is written as in `links[0].key`, and a formula is one value.

    `conflict` says what is at odds between an override and the files, empty if nothing is.
    """

    path: str
    value: Any
    layer: str
    file: str
    line: int
    conflict: str = ""


def explain(
    project: Project, kind: str, key: str, integration: str = "", connection: str = ""
) -> list[Leaf]:
    """The element's values but its key, as the integration or connection sees them.

    A connection's integration is taken from its file if it isn't given. In a customised project,
    overrides that remove something, or don't apply, come last. Raises NotFound.
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
    return _leaves(block, _judged(view, kind, key))


def _leaves(block: Block, judged: dict[int, Judged]) -> list[Leaf]:
    """The values, then the overrides that are none of them."""
    found: list[Leaf] = []
    shown: set[int] = set()
    for path, value, mark in leaves(block):
        override = judged.get(mark.line) if mark.layer == LAYER else None
        if override is not None:
            shown.add(mark.line)
        if path != ("key",):
            conflict = override.conflict if override else ""
            found.append(Leaf(path_text(path), value, mark.layer, mark.file, mark.line, conflict))
    return found + [_hidden(judged[line]) for line in sorted(set(judged) - shown)]


def _hidden(judged: Judged) -> Leaf:
    override, mark = judged.override, judged.mark
    value = {REMOVE: True} if override.removed else override.value
    path = path_text(override.path)
    return Leaf(path, value, mark.layer, mark.file, mark.line, judged.conflict)


def _judged(view: View, kind: str, key: str) -> dict[int, Judged]:
    """The element's overrides by their place in the ledger's list."""
    custom = view.project.customisation
    if custom is None or custom.connection != view.connection:
        return {}
    return {judged.mark.line: judged for judged in custom.of(kind, key)}


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
