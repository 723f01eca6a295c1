"""Commands that look into a connection's lake: records, links, dead-letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Optional

import pyarrow as pa
import typer

from membrane_sync.bootstrap import find_root, open_runtime
from membrane_sync.cli.options import HERE, JsonOption, ProjectOption
from membrane_sync.cli.output import console, failures, print_json, print_records, print_table
from membrane_sync.elements.data_link_table import DataLinkTable
from membrane_sync.errors import NotFound
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"]

ConnectionArgument = Annotated[
    str, typer.Option("--connection", "-c", help="Key of the connection.")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many rows to show.")]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(records)
    app.command()(links)
    app.command("dead-letters")(dead_letters)


def records(
    stream: Annotated[str, typer.Argument(help="The collection; a list of them if left out.")] = "",
    connection: ConnectionArgument = ...,  # type: ignore[assignment]
    sql: Annotated[
        str, typer.Option(help="A query instead, over records.…, mapped.…, links and changes.")
    ] = "",
    as_of: Annotated[
        Optional[datetime],  # noqa: UP045 - typer reads this annotation at run time
        typer.Option(
            formats=TIMES, help="The records as they were then, in UTC if no zone is said."
        ),
    ] = None,
    history: Annotated[str, typer.Option(help="All versions of the record with this id.")] = "",
    limit: LimitOption = 10,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what the lake holds of a connection."""
    if (as_of or history) and (not stream or sql or (as_of and history)):
        raise typer.BadParameter("--as-of and --history are two ways to look at one collection")
    with failures(as_json), lake_of(project, connection) as lake:
        if sql:
            rows = lake.select(sql).to_pylist()
        elif as_of:
            rows = _shown(lake.as_of(stream, as_of, limit))
        elif history:
            rows = _shown(lake.versions(stream, history, limit))
        elif stream:
            rows = _records(lake, stream, limit)
        else:
            _show_streams(lake, connection, as_json)
            return
    if as_json:
        print_json(rows)
    else:
        print_records(rows)


def links(
    table: Annotated[str, typer.Argument(help="The data link table; all if left out.")] = "",
    connection: ConnectionArgument = ...,  # type: ignore[assignment]
    limit: LimitOption = 10,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show which external record is which record of the product."""
    with failures(as_json), lake_of(project, connection, table) as lake:
        rows = lake.select(
            "SELECT link_table, external_id, app_id, direction, linked_at, synced_at FROM links "
            "WHERE ? = '' OR link_table = ? ORDER BY link_table, external_id LIMIT ?",
            [table, table, limit],
        ).to_pylist()
        total = lake.count("SELECT count(*) FROM links")
    if as_json:
        print_json(rows)
        return
    print_records(rows)
    console.print(f"{len(rows):,} of {total:,} links")


def dead_letters(
    connection: ConnectionArgument = ...,  # type: ignore[assignment]
    limit: LimitOption = 20,
    project: ProjectOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the records that failed: which verb, which field, the value, and why.

    A dead letter goes by itself when its record comes through the next time.
    """
    with failures(as_json), lake_of(project, connection) as lake:
        rows = lake.select(
            "SELECT verb, element, external_id, field, reason, value, formula, failed_at "
            "FROM dead_letters ORDER BY failed_at DESC LIMIT ?",
            [limit],
        ).to_pylist()
        total = lake.count("SELECT count(*) FROM dead_letters")
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("[green]no dead letters[/]")
        return
    columns = ["verb", "element", "external_id", "field", "reason", "value"]
    print_table("", columns, [[row[column] for column in columns] for row in rows])
    console.print(f"{len(rows):,} of {total:,} dead letters")


@contextmanager
def lake_of(project: Path, connection: str, link_table: str = "") -> Iterator[DuckDbLake]:
    """A connection's lake, closed at the end; raises NotFound for an unknown link table."""
    runtime = open_runtime(find_root(project))
    if link_table:
        integration = runtime.ledger.connection(connection).integration
        runtime.project.get(DataLinkTable, link_table, integration=integration)
    lake = runtime.lake(runtime.ledger.connection(connection))
    try:
        yield lake
    finally:
        lake.close()


def _shown(versions: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = versions.to_pylist()
    return [{k: v for k, v in row.items() if k not in ("_payload", "_run_id")} for row in rows]


def _records(lake: DuckDbLake, stream: str, limit: int) -> Sequence[dict[str, Any]]:
    known = lake.streams()
    if stream not in known:
        raise NotFound(
            f"the lake has no collection {stream!r}",
            hint=f"it has: {', '.join(known) or 'none yet'}",
        )
    quoted = '"' + stream.replace('"', '""') + '"'
    table = lake.select(
        f"SELECT * EXCLUDE (_payload, _hash, _run_id) FROM records.{quoted} "
        f"ORDER BY _changed_at DESC, _external_id LIMIT ?",
        [limit],
    )
    return list(table.to_pylist())


def _show_streams(lake: DuckDbLake, connection: str, as_json: bool) -> None:
    rows = [
        {
            "collection": stream,
            "records": lake.count(
                f'SELECT count(*) FROM records."{stream}" WHERE _deleted_at IS NULL'
            ),
            "deleted": lake.count(f'SELECT count(_deleted_at) FROM records."{stream}"'),
        }
        for stream in lake.streams()
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            f"Lake of {connection}",
            ["collection", "records", "deleted"],
            [row.values() for row in rows],  # type: ignore[misc]
            right=["records", "deleted"],
        )
        console.print(f"Look at one: membrane records COLLECTION -c {connection}", highlight=False)
    else:
        console.print(f"Empty. Next: membrane sync --connection {connection}", highlight=False)
