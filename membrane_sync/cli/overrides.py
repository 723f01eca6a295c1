"""Commands about what a connection has of its own: override set, override list, override reset."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json, print_table
from membrane_sync.errors import NotFound, ProjectError
from membrane_sync.ports import DEFAULT_INSTANCE

group = typer.Typer(help="Change an element for one connection, at run time.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="override")


KindArgument = Annotated[str, typer.Argument(help="Kind of element, as field_mapping.")]
KeyArgument = Annotated[str, typer.Argument(help="Key of the element.")]
PathArgument = Annotated[str, typer.Argument(help="Which of its values, as import_value.email.")]
ConnectionOption = Annotated[str, typer.Option("--connection", "-c", help="Whose it is.")]
InstanceOption = Annotated[
    str, typer.Option("--instance", help="Of several instances of an element, this one.")
]


@group.command("set")
def set_(
    kind: KindArgument,
    key: KeyArgument,
    path: PathArgument,
    value: Annotated[str, typer.Argument(help="YAML or JSON; {$remove: true} takes it away.")],
    connection: ConnectionOption = ...,  # type: ignore[assignment]
    instance: InstanceOption = DEFAULT_INSTANCE,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Give a connection a value of its own; the next sync works by it."""
    from membrane_sync.project.overrides import new_overrides
    from membrane_sync.project.yaml_file import YamlProblem, read_value

    with failures(as_json):
        runtime, target = _opened(project, connection, kind, key, instance)
        try:
            given = read_value(value)
        except YamlProblem as error:
            raise ProjectError(error.problems) from None
        existing = runtime.ledger.overrides.of(connection)
        made = new_overrides(runtime.project, target, existing, path, given)
        runtime.ledger.overrides.keep(connection, made)
    if as_json:
        print_json([_shown(override) for override in made])
        return
    for override in made:
        what = "removed" if override.removed else "set"
        console.print(f"[green]✓[/] {what} {escape(_text(override.path))}", highlight=False)


@group.command("list")
def list_(
    connection: ConnectionOption = ...,  # type: ignore[assignment]
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Only those at odds with the files.")
    ] = False,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show a connection's overrides, and which are at odds with what the files say now."""
    from membrane_sync.bootstrap import find_root, open_runtime

    with failures(as_json):
        runtime = open_runtime(find_root(project))
        record = runtime.ledger.connection(connection)
        judged = [j for j in runtime.resolved.judged(record) if j.conflict or not conflicts]
    rows = [
        {
            "line": j.mark.line,
            **_shown(j.override),
            "made_at": j.override.made_at,
            "applied": j.applied,
            "conflict": j.conflict,
        }
        for j in judged
    ]
    if as_json:
        print_json(rows)
    elif not rows:
        console.print(f"no {'conflicts' if conflicts else 'overrides'}")
    else:
        columns = ["line", "kind", "key", "instance", "path", "value", "made_at"]
        print_table(
            "", columns, [[row[column] for column in columns] for row in rows], whole=["path"]
        )
        _print_conflicts(rows)


@group.command("reset")
def reset(
    kind: KindArgument,
    key: KeyArgument,
    path: Annotated[
        str, typer.Argument(help="Only this value and what's below it; all if left out.")
    ] = "",
    connection: ConnectionOption = ...,  # type: ignore[assignment]
    instance: InstanceOption = DEFAULT_INSTANCE,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Drop a connection's overrides of an element: what the files say counts again."""
    from membrane_sync.project.overrides import override_path

    with failures(as_json):
        runtime, target = _opened(project, connection, kind, key, instance)
        steps = override_path(runtime.project, target, path) if path else ()
        dropped = runtime.ledger.overrides.reset(connection, kind, key, steps, instance)
        if not dropped:
            where = f"{kind} {key} {path}".strip()
            hint = f"see them with: membrane override list -c {connection}"
            raise NotFound(f"connection {connection!r} has no override of {where}", hint=hint)
    if as_json:
        print_json({"reset": dropped})
    else:
        console.print(f"[green]✓[/] dropped {dropped} override{'s' * (dropped != 1)}")


def _opened(project: Any, connection: str, kind: str, key: str, instance: str) -> tuple[Any, Any]:
    """The runtime, and whose element is meant; raises NotConnected."""
    from membrane_sync.bootstrap import find_root, open_runtime
    from membrane_sync.project.overrides import Target

    runtime = open_runtime(find_root(project))
    record = runtime.ledger.connection(connection)
    return runtime, Target(connection, record.integration, kind, key, instance)


def _shown(override: Any) -> dict[str, Any]:
    return {
        "kind": override.kind,
        "key": override.key,
        "instance": override.instance_key,
        "path": _text(override.path),
        "value": {"$remove": True} if override.removed else override.value,
    }


def _text(path: tuple[str, ...]) -> str:
    from membrane_sync.project.customisation import path_text

    return path_text(path)


def _print_conflicts(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["conflict"]:
            said = f"[yellow]conflict[/] in line {row['line']}, {escape(row['path'])}: "
            console.print(said + escape(row["conflict"]), soft_wrap=True, highlight=False)
