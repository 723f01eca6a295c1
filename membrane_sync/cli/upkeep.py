"""Commands about the lake itself: lake schema, lake compact, changes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from membrane_sync.bootstrap import find_root, open_runtime
from membrane_sync.cli.lake import lake_of
from membrane_sync.cli.options import HERE, ConnectionOption, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json, print_table
from membrane_sync.errors import NotFound

lake_app = typer.Typer(help="Look after a connection's lake.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    lake_app.command("schema")(schema)
    lake_app.command("compact")(compact)
    app.add_typer(lake_app, name="lake")
    app.command()(changes)


def schema(
    stream: Annotated[str, typer.Argument(help="The collection; all of them if left out.")] = "",
    connection: Annotated[
        str, typer.Option("--connection", "-c", help="Key of the connection.")
    ] = ...,  # type: ignore[assignment]
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the columns of the lake's records, what changed in them, and what was discarded."""
    with failures(as_json), lake_of(project, connection) as lake:
        if stream and stream not in lake.streams():
            raise NotFound(
                f"the lake has no collection {stream!r}",
                hint=f"it has: {', '.join(lake.streams()) or 'none yet'}",
            )
        found = {
            name: lake.select(sql, [stream, stream]).to_pylist() if lake.streams() else []
            for name, sql in _SCHEMA.items()
        }
    if as_json:
        print_json(found)
        return
    for name, rows in found.items():
        if rows or name == "columns":
            print_table(name, _HEADS[name], [list(row.values()) for row in rows])


def compact(
    connection: ConnectionOption = None,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Drop what needn't be kept, and give free room in the lake files back to the disk."""
    done = []
    with failures(as_json):
        runtime = open_runtime(find_root(project))
        keys = [connection] if connection else [c.key for c in runtime.ledger.connections()]
        for key in keys:
            path = runtime.stores.lake_path(runtime.ledger.connection(key).key)
            before = path.stat().st_size if path.exists() else 0
            with lake_of(project, key) as lake:
                dropped = lake.compact()
            after = path.stat().st_size if path.exists() else 0
            done.append({"connection": key, "dropped": dropped, "before": before, "after": after})
    if as_json:
        print_json(done)
        return
    columns = ["connection", "rows dropped", "bytes before", "bytes after"]
    print_table("", columns, [list(row.values()) for row in done], right=columns[1:])


def changes(
    connection: Annotated[str, typer.Argument(help="Key of the connection.")],
    stream: Annotated[str, typer.Argument(help="The collection.")],
    after: Annotated[int, typer.Option(min=0, help="Only what comes after this seq.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 1_000,
    project: ProjectOption = HERE,
) -> None:
    """Print the change feed, one JSON value a line: seq, kind, id and present payload.

    Begin with --after 0, and go on with the last seq that was printed.
    """
    with failures(), lake_of(project, connection) as lake:
        if stream not in lake.streams():
            raise NotFound(
                f"the lake has no collection {stream!r}",
                hint=f"it has: {', '.join(lake.streams()) or 'none yet'}",
            )
        for change in lake.changes(stream, after, limit):
            head = json.dumps(
                {"seq": change.seq, "kind": change.kind, "id": change.external_id},
                ensure_ascii=False,
            )
            # The payload is JSON already: as it came, to the last digit of its numbers.
            typer.echo(f'{head[:-1]}, "payload": {change.payload or "null"}}}')
    console.file.flush()


_SCHEMA = {
    "columns": (
        'SELECT table_name AS "stream", column_name AS "column", data_type AS "type", '
        "CASE WHEN starts_with(column_name, '_') THEN '' WHEN f.field IS NULL THEN 'declared' "
        "ELSE 'found' END AS origin FROM duckdb_columns() c LEFT JOIN found_fields f "
        "ON f.stream = c.table_name AND f.field = c.column_name "
        "WHERE database_name = 'lake' AND schema_name = 'records' AND (? = '' OR table_name = ?) "
        "ORDER BY table_name, column_index"
    ),
    "changes": (
        'SELECT stream, column_name AS "column", from_type AS "from", to_type AS "to", '
        'changed_at AS "at", run_id AS "run" FROM schema_changes '
        "WHERE ? = '' OR stream = ? ORDER BY changed_at, column_name"
    ),
    "discarded": (
        "SELECT stream, field, records, last_at FROM discarded WHERE ? = '' OR stream = ? "
        "ORDER BY ALL"
    ),
}

_HEADS = {
    "columns": ["collection", "column", "type", "origin"],
    "changes": ["collection", "column", "from", "to", "at", "run"],
    "discarded": ["collection", "field", "records", "last"],
}
