"""How commands speak: tables for people, JSON for scripts, one exit code for each kind of failure.

| code | meaning |
|---|---|
| 0 | done |
| 1 | it can't be done, and trying again changes nothing |
| 2 | the command was used wrongly |
| 3 | the project's declarations are wrong: `membrane check` |
| 4 | try again later: the app or a lock was not to be had; nothing was lost |
| 5 | done, but some records failed: `membrane dead-letters` |
| 130 | interrupted; what was committed stays |
| 141 | who read the output has stopped reading, as `head` does |
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import IntEnum
from math import isfinite
from typing import IO, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from membrane_sync.errors import Fatal, MembraneError, ProjectError, Retryable
from membrane_sync.masking import hidden

PIPE_WIDTH = 120
"""Columns to use where the output is no terminal."""


class Exit(IntEnum):
    """What the process answers its caller."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PROJECT = 3
    LATER = 4
    SOME_FAILED = 5
    INTERRUPTED = 130
    NOT_READ = 141


def nobody_reads(output: IO[str]) -> NoReturn:
    """End without a word: who read this output has what they wanted, or has ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    raise SystemExit(Exit.NOT_READ)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        nobody_reads(self.file)


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return _Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH)


console = _console()
errors = _console(stderr=True)


@contextmanager
def failures(as_json: bool = False) -> Iterator[None]:
    """Our errors as a message and an exit code; anything else is a defect and shows its trace.

    Not by itself: whatever the error quotes is shown without secrets.
    """
    try:
        yield
    except MembraneError as error:
        fail(error, as_json=as_json)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            nobody_reads(sys.stdout)
        fail(as_ours(error), as_json=as_json)
    except KeyboardInterrupt:
        hint = "what was committed stays, and the next sync goes on from there"
        interrupted = MembraneError("interrupted", hint=hint)
        fail(interrupted, as_json=as_json, code=Exit.INTERRUPTED)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        if not as_json:
            errors.print(escape(hidden(traceback.format_exc())), highlight=False, soft_wrap=True)
        fail(as_ours(error), as_json=as_json)


def as_ours(error: Exception) -> MembraneError:
    """Any error as one of ours, so that scripts can read it and others go on."""
    if isinstance(error, MembraneError):
        return error
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return Fatal(f"{error.strerror or error}{where}", hint="is there room, and may we write?")
    return Fatal(
        hidden(f"{type(error).__name__}: {error}"), hint="this is a defect; please report it"
    )


def fail(error: MembraneError, *, as_json: bool = False, code: Exit | None = None) -> NoReturn:
    """Say what went wrong and what to do, and leave with the code for it."""
    if as_json:
        said = {"code": error.code, "message": error.message, "hint": error.hint}
        print_json({"error": said})
    elif isinstance(error, ProjectError):
        show_problems(error)
    else:
        hint = f"\n[yellow]→[/] {escape(error.hint)}" if error.hint else ""
        line = f"[red bold]Error:[/] {escape(error.message)}{hint}"
        errors.print(line, highlight=False, soft_wrap=True)
    raise typer.Exit(exit_code(error) if code is None else code)


def exit_code(error: MembraneError) -> Exit:
    """The exit code for an error."""
    if isinstance(error, ProjectError):
        return Exit.PROJECT
    return Exit.LATER if isinstance(error, Retryable) else Exit.FAILED


def show_problems(error: ProjectError) -> None:
    """Each problem on a line that editors and terminals can jump to."""
    for problem in error.problems:
        place = f"{problem.file}:{problem.line}: " if problem.file else ""
        colour = "red" if problem.severity == "error" else "yellow"
        line = f"[bold]{escape(place)}[/][{colour}]{problem.severity}[/]: {escape(problem.message)}"
        errors.print(line, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """JSON on standard output, and nothing else there."""
    try:
        json.dump(_finite(value), sys.stdout, indent=2, default=_plain)
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads(sys.stdout)


def _finite(value: Any) -> Any:
    """NaN and infinity as null: JSON has no such numbers."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """A table; `right` names the columns of numbers, `whole` those that are never shortened."""
    table = Table(
        title=title or None,
        title_justify="left",
        header_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        number = column in right
        table.add_column(
            column, justify="right" if number else "left", no_wrap=number or column in whole
        )
    for row in rows:
        table.add_row(
            *(_number(v) if c in right else _cell(v) for c, v in zip(columns, row, strict=True))
        )
    console.print(table)


WIDEST = 8
"""Records with more columns are shown one below the other, a line a column."""


def print_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Records as a table, columns in the order of the first; wide ones one below the other."""
    if not records:
        console.print("no records")
        return
    columns = list(records[0])
    if len(columns) <= WIDEST:
        rows = [[record.get(column) for column in columns] for record in records]
        print_table("", columns, rows)
        return
    for number, record in enumerate(records, 1):
        console.rule(f"record {number}", align="left")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_row(f"[bold]{escape(column)}[/]", _cell(record.get(column)))
        console.print(table)


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    nested = isinstance(value, dict | list)
    text = json.dumps(value, default=_plain, ensure_ascii=False) if nested else str(value)
    return escape(text if len(text) <= 80 else f"{text[:77]}...")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
