"""Commands about the project's files: init, check, explain, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, ConnectionOption, JsonOption, ProjectOption
from membrane_sync.cli.output import (
    Exit,
    console,
    failures,
    print_json,
    show_problems,
)
from membrane_sync.errors import NotFound, ProjectError


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(init)
    app.command()(check)
    app.command()(explain)
    app.command()(schema)


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
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show an element as an integration or a connection sees it, and where each value is from."""
    from membrane_sync.bootstrap import find_root
    from membrane_sync.project.explain import explain as leaves_of
    from membrane_sync.project.project import Project

    with failures(as_json):
        loaded = Project.load(find_root(project))
        app = integration or _integration_of(loaded, connection)
        leaves = leaves_of(loaded, kind, key, integration=app, connection=connection or "")
    if as_json:
        print_json([{**vars(leaf), "path": leaf.path} for leaf in leaves])
        return
    for leaf in leaves:
        place = f"{leaf.file}:{leaf.line}"
        console.print(f"[bold]{escape(leaf.path)}[/]  [dim]{leaf.layer}  {escape(place)}[/]")
        console.print(f"    {escape(_short(leaf.value))}", soft_wrap=True, highlight=False)


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
