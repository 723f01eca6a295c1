"""`membrane check`: everything that's wrong with a project, all at once, with file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from membrane_sync.elements import CONNECTOR_KINDS, KINDS, Element
from membrane_sync.elements.base import IsFormula, IsLocator, IsSchema, RefersTo
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.nearest import nearest
from membrane_sync.elements.request import Request
from membrane_sync.errors import Problem, ProjectError
from membrane_sync.formulas import check as check_formula
from membrane_sync.formulas.check import creating
from membrane_sync.formulas.check import references as formula_references
from membrane_sync.project.authentication_check import authentication_problems
from membrane_sync.project.customisation import LEDGER
from membrane_sync.project.environment import unset
from membrane_sync.project.events_check import (
    Found,
    collection_events,
    external_event,
    global_webhook,
    requests_of,
)
from membrane_sync.project.extension import circle, extended, is_extended, list_problems
from membrane_sync.project.frozen import thawed
from membrane_sync.project.hooks import HOOKS, hook_files, hook_names
from membrane_sync.project.layers import resolve
from membrane_sync.project.loader import CONNECTION, CONNECTOR, INTEGRATION, UNIVERSAL, Address
from membrane_sync.project.located import Block, Steps, mark_at, problem_at
from membrane_sync.project.project import Project
from membrane_sync.project.schema_check import problems as schema_problems
from membrane_sync.project.schemas import references as schema_references
from membrane_sync.project.support import WAITING_KINDS, unsupported, without_effect
from membrane_sync.project.syncs import sync_problems
from membrane_sync.project.validation import Invalid, validated
from membrane_sync.project.views import View, integration_of
from membrane_sync.project.walk import Marked, marked_values


def check(project: Project) -> list[Problem]:
    """Every problem of the project, each once, in the order of files and lines."""
    problems = [
        *project.documents.problems,
        *_document_problems(project),
        *_homeless_connections(project),
        *sync_problems(project),
        *authentication_problems(project),
    ]
    unique: dict[tuple[str, int, str], Problem] = {}
    for problem in sorted(problems, key=lambda p: p.severity != "error"):
        unique.setdefault((problem.file, problem.line, problem.message), problem)
    return sorted(unique.values(), key=lambda p: (p.file, p.line, p.message))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that keep the project from running."""
    return [problem for problem in problems if problem.severity == "error"]


def _document_problems(project: Project) -> Iterator[Problem]:
    """Each element as it looks in the layer of each of its files."""
    said = {(a.layer, a.kind, a.key) for a in project.documents.blocks}
    for address, own in project.documents.blocks.items():
        block = _as_seen(project, address, own)
        refining = _REFINING.get(address.layer, ())
        completed = any((layer, address.kind, address.key) in said for layer in refining)
        completed = completed or is_extended(project.documents.blocks, address)
        wrong = [
            *_shape_problems(project, address, own, block, completed),
            *_value_problems(project, address, own.mark.file, block),
            *_thawed(project, address, own, block),
            *_collection_problems(project, address, own, block),
            *_event_problems(project, address, block),
        ]
        yield from wrong or _warnings(address, own, block)


_REFINING = {UNIVERSAL: (INTEGRATION, CONNECTION), INTEGRATION: (CONNECTION,)}
"""Whose files may complete what a layer leaves open."""


def _as_seen(project: Project, address: Address, own: Block) -> Block:
    """The document merged with the layers below its own."""
    if address.layer == CONNECTOR:
        return extended(project.documents.blocks, address, own)
    return _view_of(project, address).block(address.kind, address.key) or own


def _view_of(project: Project, address: Address) -> View:
    if address.layer == CONNECTION:
        return View(project, integration_of(project, address.scope), address.scope)
    return View(project, address.scope if address.layer == INTEGRATION else "")


def _shape_problems(
    project: Project, address: Address, own: Block, block: Block, completed: bool
) -> Iterator[Problem]:
    """Wrong values of this very file; what's missing only if no other layer may say it."""
    try:
        validated(address.kind, resolve([own]))
    except Invalid as error:
        yield from error.wrong
    if completed or project.documents.may_hold(address.kind, address.key):
        return
    try:
        validated(address.kind, block)
    except Invalid as error:
        yield from error.incomplete


def element_problems(view: View, kind: str, key: str) -> list[Problem]:
    """What's wrong with one element as a connection sees it, with its overrides; none if it's not.

    Of names that lead nowhere, those in overrides alone: files are complained of by `check`.
    """
    block = view.block(kind, key)
    if block is None:
        return []
    address = Address(CONNECTION, view.connection, kind, key)
    problems = list(_value_problems(view.project, address, LEDGER, block))
    try:
        validated(kind, block)
    except Invalid as error:
        problems += error.problems
    return problems


def _collection_problems(
    project: Project, address: Address, own: Block, block: Block
) -> Iterator[Problem]:
    """A collection that extends itself; lists whose request doesn't send what they rely on."""
    if address.kind != "data_collection":
        return
    name = f"{address.kind} {address.key}"
    keys = circle(project.documents.blocks, address, own)
    if keys:
        yield problem_at(own, ("extends",), f"it extends itself: {' → '.join(keys)}", name)
    try:
        element = validated(address.kind, block)
    except Invalid:
        return
    assert isinstance(element, DataCollection)
    yield from (problem_at(block, *found, name) for found in list_problems(element))
    for path, message in _missing_request_functions(project, address, element):
        yield problem_at(block, path, message, name)


_EVENT_CHECKS: dict[str, Callable[[Any], Iterator[Found]]] = {
    "data_collection": collection_events,
    "external_event": external_event,
    "global_webhook": global_webhook,
}


def _event_problems(project: Project, address: Address, block: Block) -> Iterator[Problem]:
    """Events that can't be subscribed to or understood; of a base, its collections are judged."""
    found = _EVENT_CHECKS.get(address.kind)
    if found is None or is_extended(project.documents.blocks, address):
        return
    try:
        element = validated(address.kind, block)
    except Invalid:
        return
    name = f"{address.kind} {address.key}"
    for one in found(element):
        yield problem_at(block, one.path, one.message, name, one.severity)
    if address.kind == "external_event":
        missing = _missing_functions(project, address, requests_of(element))
        yield from (problem_at(block, path, message, name) for path, message in missing)


def _missing_request_functions(
    project: Project, address: Address, collection: DataCollection
) -> Iterator[tuple[Steps, str]]:
    requests: dict[Steps, Request | None] = {
        ("list",): collection.list_,
        ("deletes", "endpoint"): collection.deletes.endpoint,
        ("custom_fields",): collection.custom_fields,
        **requests_of(collection),
    }
    yield from _missing_functions(project, address, requests)


def _missing_functions(
    project: Project, address: Address, requests: Mapping[Steps, Request | None]
) -> Iterator[tuple[Steps, str]]:
    file = project.root / "connectors" / address.scope / HOOKS
    for path, request in requests.items():
        function = request.function if request else None
        if function is not None and function not in hook_names(file):
            known = hook_names(file)
            hint = nearest(function, known) if known else f"write it in {address.scope}/{HOOKS}"
            yield (*path, "function"), f"no function {function!r} in {HOOKS}; {hint}"


def _thawed(project: Project, address: Address, own: Block, block: Block) -> Iterator[Problem]:
    """Frozen fields that a connection's file changes."""
    if (address.layer, address.kind) != (CONNECTION, "field_mapping"):
        return
    view = View(project, integration_of(project, address.scope))
    mapping = view.block(address.kind, address.key)
    for path, message in (
        thawed(mapping, block, CONNECTION, [mapping]) if mapping is not None else ()
    ):
        yield problem_at(own, path, message, f"{address.kind} {address.key}")


def _value_problems(
    project: Project, address: Address, file: str, block: Block
) -> Iterator[Problem]:
    """Formulas, locators, schemas and environment variables; references that stand in `file`."""
    name = f"{address.kind} {address.key}"
    for marked in marked_values(KINDS[address.kind], block):
        for below, message in value_problems_of(marked):
            yield problem_at(block, (*marked.path, *below), message, name)
        for below, kind, key in _references(marked):
            path = (*marked.path, *below)
            if mark_at(block, path).file == file:
                for message in _missing(project, address, kind, key):
                    yield problem_at(block, path, message, name)
    function = block.get("function") if address.kind == "data_schema" else None
    if isinstance(function, str) and mark_at(block, ("function",)).file == file:
        for message in _missing_function(project, address, function):
            yield problem_at(block, ("function",), message, name)
    if address.kind == INTEGRATION:
        yield from (problem_at(block, *found, name) for found in unset(block, project.environ))


def value_problems_of(marked: Marked) -> Iterator[tuple[Steps, str]]:
    """What's wrong with one formula, locator or schema by itself, by the path below it."""
    if isinstance(marked.marker, IsFormula):
        yield from ((problem.path, problem.message) for problem in check_formula(marked.value))
    elif isinstance(marked.marker, IsLocator):
        yield from (((), problem.message) for problem in check_formula({"$var": marked.value}))
    elif isinstance(marked.marker, IsSchema):
        yield from schema_problems(marked.value)


def _references(marked: Marked) -> Iterator[tuple[Steps, str, str]]:
    """Path, kind and key of every element that the value names."""
    if isinstance(marked.marker, RefersTo):
        yield (), marked.marker.kind, marked.value
    elif isinstance(marked.marker, IsSchema):
        yield from schema_references(marked.value)
    elif isinstance(marked.marker, IsFormula):
        yield from formula_references(marked.value)


def _missing(project: Project, address: Address, kind: str, key: str) -> Iterator[str]:
    if kind == "hook":
        yield from _missing_function(project, address, key)
        return
    known = _known(project, address, kind)
    if key not in known and not project.documents.may_hold(kind, key):
        where = " in the settings" if kind == "database" else ""
        yield f"there is no {kind} {key!r}{where}; {nearest(key, known, 'declared are')}"


def _missing_function(project: Project, address: Address, name: str) -> Iterator[str]:
    """A function of a hooks.py that isn't there; or one that nobody would call."""
    if address.kind not in ("field_mapping", "data_schema"):
        yield f"a {address.kind} can't call {name!r}: $python is for field mappings alone"
        return
    view = _view_of(project, address)
    files = hook_files(project.root, view.integration, view.connection)
    if not view.integration:  # what's universal may name what a single app's layer has
        files += [f for i in project.integrations for f in hook_files(project.root, i)]
    try:
        known = sorted({name for file in files for name in hook_names(file)})
    except ProjectError as error:
        yield from (str(problem) for problem in error.problems)
        return
    if name not in known:
        hint = nearest(name, known, "there are") if known else "write it in mappings/universal/"
        yield f"there is no function {name!r} in the hooks.py of mappings/; {hint}"


def _known(project: Project, address: Address, kind: str) -> list[str]:
    """Keys that a document may name; what's universal may name what a single app declares."""
    if kind == "database":
        return sorted(project.settings.databases)
    if kind == INTEGRATION:
        return project.integrations
    blocks = project.documents.blocks
    if kind == CONNECTOR:
        return sorted(a.key for a in blocks if a.kind == CONNECTOR)
    if kind in CONNECTOR_KINDS and address.layer == CONNECTOR:
        return sorted(a.key for a in blocks if (a.kind, a.scope) == (kind, address.scope))
    view = _view_of(project, address)
    if view.integration:
        return view.keys(kind)
    return sorted({a.key for a in blocks if a.kind == kind})


def _warnings(address: Address, own: Block, block: Block) -> Iterator[Problem]:
    """What a correct element says and this version doesn't do."""
    name = f"{address.kind} {address.key}"
    if address.kind in WAITING_KINDS:
        message = f"{name} is declared and correct; this version doesn't run {address.kind}s yet"
        yield problem_at(own, (), message, name, "warning")
    try:
        element = validated(address.kind, block)
    except Invalid:
        return  # another layer completes it, and is checked as a whole there
    for path, message in (*unsupported(element), *without_effect(element), *_creating(element)):
        yield problem_at(block, path, message, name, "warning")


def _creating(element: Element) -> Iterator[tuple[Steps, str]]:
    message = "createIfNotFound: this version creates no records; a query that finds none fails"
    for name, value in element if isinstance(element, FieldMapping) else ():
        if name.endswith("_value"):
            yield from (((name, *path), message) for path in creating(value))


def _homeless_connections(project: Project) -> Iterator[Problem]:
    """Refinements for a connection that no file ties to an integration."""
    for connection in project.connections:
        head = Address(CONNECTION, connection, CONNECTION, connection)
        if head not in project.documents.blocks and not project.documents.may_hold(
            CONNECTION, connection
        ):
            own = (b for a, b in project.documents.blocks.items() if _is_of(a, connection))
            message = (
                f"connection {connection!r} refines elements, and no connection.yaml says which "
                "integration's they are"
            )
            yield problem_at(next(own), (), message, f"connection {connection}")


def _is_of(address: Address, connection: str) -> bool:
    return (address.layer, address.scope) == (CONNECTION, connection)
