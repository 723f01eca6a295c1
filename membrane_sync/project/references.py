"""`membrane check`: everything that's wrong with a project, all at once, each with file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from membrane_sync.elements import CONNECTOR_KINDS, KINDS, LAYERED_KINDS, Element
from membrane_sync.elements.base import IsFormula, IsLocator, IsSchema, RefersTo
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.flow import refuse_cycle
from membrane_sync.errors import NotFound, Problem
from membrane_sync.formulas import check as check_formula
from membrane_sync.project import schemas
from membrane_sync.project.loader import CONNECTION, INTEGRATION, UNIVERSAL, Address
from membrane_sync.project.located import Block, mark_at
from membrane_sync.project.project import Project, ResolvedSync
from membrane_sync.project.support import WAITING_KINDS, unsupported
from membrane_sync.project.validation import Invalid, partial_problems
from membrane_sync.project.walk import Marked, marked_values


def check(project: Project) -> list[Problem]:
    """Every problem of the project, each once, in the order of files and lines."""
    problems = list(project.documents.problems)
    for layer in _layers(project):
        problems.extend(_layer_problems(project, *layer))
    problems.extend(_connector_problems(project))
    problems.extend(_sync_problems(project))
    unique = {(p.file, p.line, p.message): p for p in problems}
    return sorted(unique.values(), key=lambda p: (p.file, p.line, p.message))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that keep the project from running."""
    return [problem for problem in problems if problem.severity == "error"]


def _layers(project: Project) -> Iterator[tuple[str, str]]:
    yield "", ""
    for integration in project.integrations:
        yield integration, ""
    for connection in project.connections:
        yield _integration_of(project, connection), connection


def _integration_of(project: Project, connection: str) -> str:
    block = project.documents.blocks.get(Address(CONNECTION, connection, "connection", connection))
    return str(block.get("integration", "")) if block is not None else ""


def _layer_problems(project: Project, integration: str, connection: str) -> Iterator[Problem]:
    """Elements as they look from one layer; only those that this very layer has a file for."""
    layer, scope = _name_of(integration, connection)
    if layer == CONNECTION and integration not in project.integrations:
        yield from _connection_without_integration(project, connection)
    for address, own in project.documents.blocks.items():
        if (address.layer, address.scope) != (layer, scope):
            continue
        if address.kind in ("package", *LAYERED_KINDS, "integration", "connection"):
            yield from _element_problems(project, address, own, integration, connection)


def _connection_without_integration(project: Project, connection: str) -> Iterator[Problem]:
    """Overrides of a connection that no file ties to an integration can't be resolved."""
    head = Address(CONNECTION, connection, "connection", connection)
    if head not in project.documents.blocks:
        own = [
            a for a in project.documents.blocks if a.scope == connection and a.layer == CONNECTION
        ]
        mark = project.documents.blocks[own[0]].mark
        message = f"connection {connection!r} has overrides but no connection.yaml"
        yield Problem(message, mark.file, mark.line)


def _name_of(integration: str, connection: str) -> tuple[str, str]:
    if connection:
        return CONNECTION, connection
    return (INTEGRATION, integration) if integration else (UNIVERSAL, "")


def _element_problems(
    project: Project, address: Address, own: Block, integration: str, connection: str
) -> Iterator[Problem]:
    scope = {"integration": integration, "connection": connection}
    block = project.block(address.kind, address.key, **scope)
    if block is None:
        return
    if address.layer == UNIVERSAL and project.integrations:
        wrong = partial_problems(address.kind, block)
        if wrong or _is_partial(address.kind, block):
            yield from wrong
            return
    try:
        element = project.find(address.kind, address.key, **scope)
    except Invalid as error:
        yield from error.problems
        return
    if element is not None:
        yield from element_problems(project, element, block, address.kind, integration, connection)
        if address.kind in WAITING_KINDS:
            yield _waiting(address.kind, address.key, own)


def _is_partial(kind: str, block: Block) -> bool:
    try:
        KINDS[kind].model_validate(block)
    except ValueError:
        return True
    return False


def _waiting(kind: str, key: str, block: Block) -> Problem:
    message = f"{kind} {key!r} is declared and correct; this version doesn't run {kind}s yet"
    return Problem(message, block.mark.file, block.mark.line, f"{kind} {key}", "warning")


def _connector_problems(project: Project) -> Iterator[Problem]:
    for address, block in project.documents.blocks.items():
        if address.kind in ("connector", *CONNECTOR_KINDS):
            wrong = partial_problems(address.kind, block)
            try:
                element = KINDS[address.kind].model_validate(block)
            except ValueError:
                yield from wrong or _strict_problems(address, block)
                continue
            yield from element_problems(project, element, block, address.kind, "", "")
            if address.kind in WAITING_KINDS:
                yield _waiting(address.kind, address.key, block)


def _strict_problems(address: Address, block: Block) -> list[Problem]:
    from membrane_sync.project.validation import validated

    try:
        validated(address.kind, block)
    except Invalid as error:
        return error.problems
    return []


def element_problems(
    project: Project,
    element: Element,
    block: Block,
    kind: str,
    integration: str,
    connection: str,
) -> Iterator[Problem]:
    """Formulas, locators, schemas, references and missing support of one valid element."""
    name = f"{kind} {element.key}"
    for marked in marked_values(element):
        for path, message in _marked_problems(project, marked, integration, connection):
            yield _at(block, (*marked.path, *path), message, name)
    for path, message in unsupported(element):
        yield _at(block, path, message, name)


def _marked_problems(
    project: Project, marked: Marked, integration: str, connection: str
) -> Iterator[tuple[tuple[Any, ...], str]]:
    marker = marked.marker
    if isinstance(marker, IsFormula):
        for problem in check_formula(marked.value):
            yield problem.path, problem.message
    elif isinstance(marker, IsLocator):
        for problem in check_formula({"$var": marked.value}):
            yield (), problem.message
    elif isinstance(marker, IsSchema):
        known = project.keys("data_schema", integration, connection)
        yield from schemas.problems(marked.value, known)
    elif isinstance(marker, RefersTo):
        known = _known(project, marker.kind, integration, connection)
        if marked.value not in known:
            yield (), _missing(marker.kind, marked.value, known)


def _known(project: Project, kind: str, integration: str, connection: str) -> list[str]:
    if kind == "integration":
        return project.integrations
    if kind == "connector":
        return sorted(a.scope for a in project.documents.blocks if a.kind == "connector")
    if integration or connection:
        return project.keys(kind, integration, connection)
    return sorted({a.key for a in project.documents.blocks if a.kind == kind})


def _missing(kind: str, key: object, known: list[str]) -> str:
    near = get_close_matches(str(key), known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"declared are: {', '.join(known) or 'none'}"
    return f"there is no {kind} {key!r}; {hint}"


def _sync_problems(project: Project) -> Iterator[Problem]:
    """Every sync resolves for each integration that it's meant for, and for one at least."""
    yield from _schema_cycles(project)
    for key in sorted({a.key for a in project.documents.blocks if a.kind == "sync"}):
        offered = 0
        for integration in project.integrations:
            try:
                sync = project.sync(key, integration)
                offered += sync is not None
                problems = list(_resolved_problems(project, key, integration, sync))
            except Invalid as error:
                offered += 1
                problems = error.problems
            except NotFound as error:
                offered += 1
                problems = [] if _is_reference(error) else [_sync_problem(project, key, str(error))]
            yield from problems
        if not offered and project.integrations and _is_enabled(project, key):
            message = f"no integration's connector offers the collection that sync {key!r} reads"
            yield _sync_problem(project, key, message)


def _is_reference(error: NotFound) -> bool:
    """A missing element is reported where it's named; here it would be a second time."""
    return error.message.startswith("there is no ")


def _is_enabled(project: Project, key: str) -> bool:
    block = project.block("sync", key)
    return block is None or block.get("enabled", True) is not False


def _sync_problem(project: Project, key: str, message: str) -> Problem:
    address = next(a for a in project.documents.blocks if a.kind == "sync" and a.key == key)
    mark = project.documents.blocks[address].mark
    return Problem(message, mark.file, mark.line, f"sync {key}")


def _resolved_problems(
    project: Project, key: str, integration: str, sync: ResolvedSync | None
) -> Iterator[Problem]:
    if sync is None:
        yield from _not_offered(project, key, integration)
        return
    if sync.mapping.import_value is None and sync.mapping.default_import_value is None:
        yield _sync_problem(
            project, key, f"its field mapping {sync.mapping.key!r} has no import_value"
        )
    if sync.schema is None or sync.schema.table is None:
        yield _sync_problem(
            project, key, "its field mapping names no data schema with a table to deliver to"
        )
        return
    yield from _table_problems(project, sync)


def _not_offered(project: Project, key: str, integration: str) -> Iterator[Problem]:
    """A sync that names this integration, or a source that this layer changed, must be offered."""
    block = project.block("sync", key, integration=integration)
    if block is None or not _is_enabled(project, key):
        return
    if integration in (block.get("integrations") or []):
        message = (
            f"integration {integration!r} doesn't offer the collection that sync {key!r} reads"
        )
        yield _at(block, ("integrations",), message, f"sync {key}")


def _table_problems(project: Project, sync: ResolvedSync) -> Iterator[Problem]:
    schema = sync.schema
    assert schema is not None and schema.table is not None
    block = project.block("data_schema", schema.key, integration=sync.integration.key)
    assert block is not None
    fields = schema.schema_.get("properties", {})
    name = f"data_schema {schema.key}"
    if schema.table.database not in project.settings.databases:
        known = ", ".join(sorted(project.settings.databases))
        message = f"there is no database {schema.table.database!r}; the settings name {known}"
        yield _at(block, ("table", "database"), message, name)
    if sync.sync.delete == "soft" and schema.table.deleted_column is None:
        yield _at(block, ("table",), "a sync that deletes softly needs deleted_column", name)
    sync_block = project.block("sync", sync.sync.key, integration=sync.integration.key)
    for index, field in enumerate(sync.sync.match):
        if field not in fields and sync_block is not None:
            message = f"match field {field!r} is not in data schema {schema.key!r}"
            yield _at(sync_block, ("match", index), message, f"sync {sync.sync.key}")


def _schema_cycles(project: Project) -> Iterator[Problem]:
    graph: dict[str, list[str]] = {}
    first: dict[str, Block] = {}
    for address, block in project.documents.blocks.items():
        if address.kind == "data_schema":
            references = list(schemas.references(block.get("schema", {})))
            graph.setdefault(address.key, []).extend(references)
            first.setdefault(address.key, block)
    try:
        refuse_cycle(graph)
    except ValueError as error:
        start = str(error).removeprefix("cycle: ").split(" → ")[0]
        mark = first[start].mark if start in first else next(iter(first.values())).mark
        yield Problem(f"data schemas refer to each other in a {error}", mark.file, mark.line)


def sources_without_collection(project: Project, integration: str) -> list[DataSource]:
    """Sources this integration's app has no collection for; their syncs skip this integration."""
    sources = (
        project.get(DataSource, key, integration=integration)
        for key in project.keys("data_source", integration)
    )
    return [s for s in sources if project.collection_of(integration, s) is None]


def _at(block: Block, path: tuple[Any, ...], message: str, element: str) -> Problem:
    mark = mark_at(block, path) or block.mark
    return Problem(message, mark.file, mark.line, element)


__all__ = ["DataCollection", "check", "errors", "sources_without_collection"]
