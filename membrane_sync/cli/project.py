"""Commands about the project's files: init, check, explain, schema."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from membrane_sync.cli.mapping import DirectionOption, show_lineage
from membrane_sync.cli.options import HERE, ConnectionOption, JsonOption, ProjectOption
from membrane_sync.cli.output import (
    Exit,
    console,
    failures,
    print_json,
    show_problems,
)
from membrane_sync.cli.overrides import InstanceOption
from membrane_sync.errors import NotFound, ProjectError
from membrane_sync.ports import DEFAULT_INSTANCE

if TYPE_CHECKING:
    from membrane_sync.bootstrap import Runtime
    from membrane_sync.project.explain import Leaf

imports = typer.Typer(help="Bring in definitions of other tools.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(init)
    app.command()(check)
    app.command()(explain)
    app.command()(schema)
    app.add_typer(imports, name="import")


def init(
    directory: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
) -> None:
    """Make a new project that works: a connector, a mapping, and what Dagster needs."""
    from membrane_sync.cli.scaffold import scaffold

    with failures():
        files = scaffold(directory)
    console.print(f"Made [bold]{escape(str(directory))}[/] with {len(files)} files:")
    for file in files:
        console.print(f"  {escape(file)}", highlight=False)
    console.print(
        f"\nNext:\n  cd {escape(str(directory))}\n  membrane check\n  membrane demo",
        highlight=False,
    )


def check(project: ProjectOption = HERE, as_json: JsonOption = False) -> None:
    """Find everything that's wrong with the project's files, all at once."""
    from membrane_sync.bootstrap import find_root
    from membrane_sync.project.project import Project
    from membrane_sync.project.references import check as find_problems
    from membrane_sync.project.references import errors

    with failures(as_json):
        loaded = Project.load(find_root(project))
        problems = find_problems(loaded)
    wrong = errors(problems)
    if as_json:
        print_json(
            {
                "problems": [
                    {
                        "severity": problem.severity,
                        "file": problem.file,
                        "line": problem.line,
                        "element": problem.element,
                        "message": problem.message,
                    }
                    for problem in problems
                ]
            }
        )
    elif problems:
        show_problems(ProjectError(problems))
    if wrong:
        if not as_json:
            console.print(f"[red]{len(wrong)} error{'s' * (len(wrong) != 1)}[/]")
        raise typer.Exit(Exit.PROJECT)
    if not as_json:
        count = len(loaded.documents.blocks)
        apps = ", ".join(loaded.integrations) or "none"
        console.print(f"[green]✓[/] {count} elements are correct; integrations: {escape(apps)}")


def explain(
    kind: Annotated[str, typer.Argument(help="Kind of element, as field_mapping.")],
    key: Annotated[str, typer.Argument(help="Key of the element.")],
    integration: Annotated[str, typer.Option("--integration", "-i", help="As this app.")] = "",
    connection: ConnectionOption = None,
    instance: InstanceOption = DEFAULT_INSTANCE,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Of a field mapping: what each field is made from.")
    ] = False,
    direction: DirectionOption = "import",
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show an element as an integration or a connection sees it, and where each value is from."""
    from membrane_sync.bootstrap import Runtime, find_root
    from membrane_sync.project.explain import explain as leaves_of
    from membrane_sync.project.project import Project

    if lineage:
        with failures(as_json):
            if kind != "field_mapping":
                raise NotFound("only a field_mapping has lineage", hint="leave --lineage out")
        show_lineage(key, direction, integration, connection, instance, project, as_json)
        return
    with failures(as_json):
        loaded = Project.load(find_root(project))
        app = integration or _integration_of(loaded, connection)
        own: list[Leaf] = []
        if connection:
            runtime = Runtime(loaded)
            loaded = runtime.resolved.seen_by(connection, app, instance)
            own = _own_fields(runtime, connection, key) if kind == "data_collection" else []
        leaves = leaves_of(loaded, kind, key, integration=app, connection=connection or "")
        leaves += own
    if as_json:
        print_json([{**vars(leaf), "path": leaf.path} for leaf in leaves])
        return
    for leaf in leaves:
        place = f"{leaf.file}:{leaf.line}" if leaf.line else leaf.file
        console.print(f"[bold]{escape(leaf.path)}[/]  [dim]{leaf.layer}  {escape(place)}[/]")
        console.print(f"    {escape(_short(leaf.value))}", soft_wrap=True, highlight=False)
        if leaf.conflict:
            said = f"    [yellow]conflict[/]: {escape(leaf.conflict)}"
            console.print(said, soft_wrap=True, highlight=False)


def _own_fields(runtime: Runtime, connection: str, key: str) -> list[Leaf]:
    """The fields that the connection's account has of its own, as the lake knows them."""
    from membrane_sync.project.explain import Leaf

    learnt = runtime.stores.learnt_fields(connection, key)
    if learnt is None:
        return []
    place = f"{connection}.duckdb, learnt {learnt['at'][:19]}Z"
    found = learnt["properties"].items()
    return [Leaf(f"custom_fields {name}", field, "account", place, 0) for name, field in found]


def schema(
    kind: Annotated[str, typer.Argument(help="Kind of element; all of them if left out.")] = "",
    directory: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one file a kind here.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind, or write all of them, so that editors complete YAML."""
    from membrane_sync.elements import KINDS
    from membrane_sync.elements.json_schema import json_schema

    known = [*KINDS, "authentication"]
    with failures():
        if kind and kind not in known:
            raise NotFound(f"there is no kind {kind!r}", hint=f"kinds are: {', '.join(known)}")
    kinds = [kind] if kind else known
    if directory is None:
        print_json(json_schema(kind) if kind else {name: json_schema(name) for name in kinds})
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        path = directory / f"{name}.schema.json"
        path.write_text(json.dumps(json_schema(name), indent=2) + "\n", encoding="utf-8")
    console.print(f"Wrote {len(kinds)} schemas to {escape(str(directory))}")


@imports.command("membrane-export")
def membrane_export(
    directory: Annotated[Path, typer.Argument(help="The export: the folder membrane/, or above.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Project to write to; by default the one you're in."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a Membrane workspace's export as our mappings/, and report on each file and key."""
    from membrane_sync.bootstrap import find_root
    from membrane_sync.project.membrane_export import import_export, write_import

    with failures(as_json):
        imported = import_export(directory)
        target = output or find_root(HERE)
        write_import(imported, target)
    if as_json:
        print_json({"files": list(imported.files), "notes": [vars(n) for n in imported.notes]})
        return
    _report(imported)
    console.print(f"Wrote {len(imported.files)} files to {escape(str(target))}/mappings")
    console.print("Next: membrane check", highlight=False)


def _report(imported: Any) -> None:
    """What was changed and left out line by line; what Membrane's service keeps, in one."""
    for outcome, colour in (("carried", "green"), ("changed", "yellow"), ("left out", "red")):
        notes = [note for note in imported.notes if note.outcome == outcome]
        console.print(f"[{colour}]{outcome}[/]: {len(notes)}")
        for note in notes:
            what = " ".join(filter(None, (note.element, note.path))) or note.file
            said = f"{note.file}: {what}: {note.reason}"
            console.print(f"  {escape(said)}", highlight=False, soft_wrap=True)
    kept = Counter(note.path for note in imported.notes if note.outcome == "books")
    if kept:
        names = ", ".join(f"{name} ({count})" for name, count in kept.most_common())
        console.print(f"left out as Membrane's own books: {escape(names)}", soft_wrap=True)


def _integration_of(project: Any, connection: str | None) -> str:
    """A connection's integration: by its file, else by the ledger, else the only one there is."""
    declared = project.connection(connection) if connection else None
    if declared is not None:
        return str(declared.integration)
    if connection:
        from membrane_sync.bootstrap import Runtime

        return str(Runtime(project).ledger.connection(connection).integration)
    return ""


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
