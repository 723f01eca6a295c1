"""Commands that look at one field mapping: map runs it on records, lineage says what it reads."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, ConnectionOption, JsonOption, ProjectOption
from membrane_sync.cli.output import Exit, errors, failures, print_json, print_table, show_problems
from membrane_sync.cli.overrides import InstanceOption
from membrane_sync.elements.base import KEY_PATTERN, Element
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import Problem, ProjectError
from membrane_sync.ports import DEFAULT_INSTANCE
from membrane_sync.project import schemas
from membrane_sync.project.project import Project
from membrane_sync.sync.template import Direction, lineage_rows, template_of

E = TypeVar("E", bound=Element)

MappingArgument = Annotated[
    str, typer.Argument(help="Key of a field mapping, or the path of a file with one.")
]
DirectionOption = Annotated[
    Direction,
    typer.Option("--direction", "-d", help="import: from the app to the product; or export."),
]
IntegrationOption = Annotated[str, typer.Option("--integration", "-i", help="As this app.")]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("map")(map_)
    app.command()(lineage)


def map_(
    mapping: MappingArgument,
    direction: DirectionOption = "import",
    integration: IntegrationOption = "",
    connection: ConnectionOption = None,
    instance: InstanceOption = DEFAULT_INSTANCE,
    project: ProjectOption = HERE,
) -> None:
    """Run a field mapping on records from standard input, a line of JSON each, as a sync does.

    Each gives one line: the result, null if it's undefined, or {"error": …} if it fails.
    """
    from membrane_sync.sync.map import dropped_names
    from membrane_sync.sync.preview import preview

    output = typer.get_binary_stream("stdout")
    dropped: list[str] = []
    unreadable = 0
    with redirect_stdout(sys.stderr):  # a function of hooks.py may print
        with failures():
            found = _found(mapping, integration, connection or "", project, instance)
            mapper = found.mapper(direction)
        for answer in preview(mapper, typer.get_binary_stream("stdin")):
            output.write(answer.line + b"\n")
            unreadable += answer.unreadable
            if answer.dropped:
                dropped = dropped_names(dropped, answer.dropped)
    output.flush()
    _say(dropped, unreadable)
    raise typer.Exit(Exit.FAILED if unreadable else Exit.DONE)


def lineage(
    mapping: MappingArgument,
    direction: DirectionOption = "import",
    integration: IntegrationOption = "",
    connection: ConnectionOption = None,
    instance: InstanceOption = DEFAULT_INSTANCE,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what each field of a field mapping is computed from, and by which formula."""
    show_lineage(mapping, direction, integration, connection, instance, project, as_json)


def show_lineage(
    mapping: str,
    direction: Direction,
    integration: str,
    connection: str | None,
    instance: str,
    project: Path,
    as_json: bool,
) -> None:
    """Print a field mapping's lineage, as a table or as JSON."""
    with failures(as_json):
        found = _found(mapping, integration, connection or "", project, instance)
        found.template(direction)
        rows = lineage_rows(found.mapping, direction)
    if as_json:
        said = [{"field": r.field, "reads": r.reads, "formula": r.formula} for r in rows]
        print_json(said)
        return
    table = [[row.field, ", ".join(row.reads), _short(row.formula)] for row in rows]
    print_table("", ["field", "reads", "formula"], table, whole=["field"])


@dataclass(frozen=True)
class _Found:
    """A field mapping, where it was written, and the schemas of what it gives."""

    mapping: FieldMapping
    file: str
    line: int
    schema: DataSchema | None = None
    collection: DataCollection | None = None
    find: Any = None
    functions: Any = None

    def template(self, direction: Direction) -> Any:
        """The formulas in this direction; ProjectError if there are none."""
        template = template_of(self.mapping, direction)
        if template is None:
            message = f"the field mapping has no {direction}_value"
            name = f"field_mapping {self.mapping.key}"
            raise ProjectError([Problem(message, self.file, self.line, name)])
        return template

    def mapper(self, direction: Direction) -> Any:
        """What runs it, so that results of any kind are shown."""
        from membrane_sync.sync.mapper import exporter, importer

        self.template(direction)
        if direction == "import":
            made = importer(self.mapping, self.schema, objects=False)
        else:
            made = exporter(self.mapping, self.collection, objects=False)
        return replace(made, find=self.find, functions=self.functions)


def _found(mapping: str, integration: str, connection: str, start: Path, instance: str) -> _Found:
    if re.match(KEY_PATTERN, mapping) and not Path(mapping).is_file():
        return _of_project(mapping, integration, connection, start, instance)
    from membrane_sync.project.single import read_field_mapping

    path = Path(mapping)
    element, problems = read_field_mapping(path)
    # A file alone is run as it is, like any template: what's odd in it is said, and no more.
    warnings = [Problem(p.message, p.file, p.line, p.element, "warning") for p in problems]
    show_problems(ProjectError(warnings))
    return _Found(schemas.with_references(element, lambda _: None), str(path), 1)


def _of_project(key: str, integration: str, connection: str, start: Path, instance: str) -> _Found:
    from membrane_sync.bootstrap import Runtime, find_root

    project = Project.load(find_root(start))
    app = integration or _integration_of(project, connection)
    if connection:
        project = Runtime(project).resolved.seen_by(connection, app, instance)
    layer = {"integration": app, "connection": connection}
    mapping = _element(project, FieldMapping, "field_mapping", key, layer)
    schema, kinds = None, {f"field_mapping {key}"}
    if mapping.data_schema:
        schema = _element(project, DataSchema, "data_schema", mapping.data_schema, layer)
        kinds.add(f"data_schema {schema.key}")
    _refuse_problems(project, kinds)
    if schema is not None and schema.function is not None and connection:
        schema = Runtime(project).resolved.schema_of(project, schema, connection)
    collection = None
    if app and mapping.data_source:  # else it's unknown where exported records go
        source = project.get(DataSource, mapping.data_source, **layer)
        collection = project.collection_of(app, source)
        if collection is not None and connection:
            collection = Runtime(project).resolved.as_known(connection, collection, source)
        mapping, _ = project.composed(app, mapping, source)
    lookup = schemas.lookup_in(project, **layer)
    block = project.block("field_mapping", key, **layer)
    assert block is not None  # it was found above
    return _Found(
        schemas.with_references(mapping, lookup),
        block.mark.file,
        block.mark.line,
        schemas.with_references(schema, lookup) if schema else None,
        collection,
        _answering(project, mapping.key, layer, instance) if connection else None,
        project.names(**layer).function,
    )


def _answering(project: Project, mapping: str, layer: dict[str, str], instance: str) -> Any:
    """What the connection's lake answers to formulas; it isn't opened before it's asked.

    A formula that names no link table means that of the sync which uses the mapping.
    """
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
    from membrane_sync.sync.lookup import Answering

    wait = project.settings.lock_wait_seconds
    lake = DuckDbLake(Runtime(project).stores.lake_path(layer["connection"]), wait_seconds=wait)
    return Answering(lake, project.names(**layer), _links_of(project, mapping, layer), instance)


def _links_of(project: Project, mapping: str, layer: dict[str, str]) -> str:
    """The link table of the sync that uses the mapping; empty if none does."""
    for key in project.keys("sync", **layer):
        try:
            sync = project.get(Sync, key, **layer)
        except ProjectError:
            continue  # `membrane check` tells of it; this mapping may be right all the same
        if sync.field_mapping == mapping:
            return sync.data_link_table
    return ""


def _element(project: Project, model: type[E], kind: str, key: str, layer: dict[str, str]) -> E:
    """The element; ProjectError if it may stand in a file that can't be read."""
    if project.documents.may_hold(kind, key):
        raise ProjectError(project.documents.problems)
    return project.get(model, key, **layer)


def _refuse_problems(project: Project, elements: set[str]) -> None:
    """What's wrong with other elements is no obstacle; `membrane check` tells of it."""
    from membrane_sync.project.references import check
    from membrane_sync.project.references import errors as errors_of

    wrong = [
        problem for problem in errors_of(check(project.from_files)) if problem.element in elements
    ]
    if wrong:
        raise ProjectError(wrong)


def _integration_of(project: Project, connection: str) -> str:
    """A connection's integration: by its file, else by the ledger."""
    declared = project.connection(connection) if connection else None
    if declared is not None or not connection:
        return declared.integration if declared else ""
    from membrane_sync.bootstrap import Runtime

    return Runtime(project).ledger.connection(connection).integration


def _say(dropped: Sequence[str], unreadable: int) -> None:
    if dropped:
        names = escape(", ".join(dropped))
        errors.print(
            f"[yellow]dropped[/], since the schema doesn't take them: {names}",
            highlight=False,
            soft_wrap=True,
        )
    if unreadable:
        lines = "lines are" if unreadable > 1 else "line is"
        errors.print(f"[red]{unreadable:,} {lines} no JSON[/]")


def _short(formula: Any) -> str:
    return json.dumps(formula, ensure_ascii=False, default=str)
