"""Queries that people ask of a lake; nothing can be written by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from membrane_sync.errors import Fatal, NotFound
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import HISTORY, TypedTable

_READABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def selected(file: LakeFile, sql: str, parameters: Sequence[Any]) -> pa.Table:
    """The answer to one query; raises NotFound and Fatal as `DuckDbLake.select` says."""
    try:
        statements = file.memory.extract_statements(sql)
        if len(statements) != 1 or statements[0].type not in _READABLE:
            raise Fatal("a lake can only be read", hint="write one SELECT")
        with file.reading("answer a query") as there:
            if not there:
                raise NotFound("the lake is empty", hint="sync the connection first")
            return _answer(file, sql, parameters)
    except duckdb.CatalogException as error:
        raise NotFound(_first_line(error), hint="sync the connection first") from None
    except duckdb.Error as error:
        raise Fatal(
            f"the query can't be answered: {_first_line(error)}", hint="mend the query"
        ) from None


def versions(file: LakeFile, stream: str, which: str, parameters: Sequence[Any]) -> pa.Table:
    """Versions of a stream's records that a condition chooses; the last parameter is the limit."""
    with file.reading(f"read the history of {stream}") as there:
        table = TypedTable(file, HISTORY, stream)
        if not there or not table.exists():
            raise NotFound(
                f"the lake has no history of {stream!r}",
                hint="set `history: true` in its data source; it begins with the next sync",
            )
        return _answer(file, f"SELECT * FROM {table.sql} WHERE {which} LIMIT ?", parameters)


def _answer(file: LakeFile, sql: str, parameters: Sequence[Any]) -> pa.Table:
    file.execute("USE lake")
    try:
        return file.memory.sql(sql, params=list(parameters) or None).to_arrow_table()
    finally:
        file.execute("USE memory")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
