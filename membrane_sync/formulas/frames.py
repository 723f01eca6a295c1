"""Running a plan's SQL over a column of JSON texts, in an in-memory DuckDB of its own.

A value in this SQL is its JSON text: `"Ada"` with its quotes, `12`, `null`, `{"a":1}`; NULL is
MISSING. Texts stay as they are escaped, so joining two of them needs no escaping again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import duckdb
import pyarrow as pa

from membrane_sync.arrow import text_array

Texts: TypeAlias = pa.ChunkedArray
"""A column of texts."""

CHUNK: Final = 4096
"""Rows that one thread takes at a time."""

READY: Final = 32
"""Queries that each thread keeps ready."""

_SCHEMA: Final = pa.schema({"j": pa.string()})
_NONE: Final = pa.Table.from_batches([], _SCHEMA)
_READABLE: Final = "SELECT CASE WHEN json_valid(j) THEN j END FROM input"

MACROS: Final = {
    # Numbers that Python writes in another way than DuckDB, and what is no JSON at all.
    "odd(x)": r"""CASE
        WHEN x < '#' THEN false
        WHEN regexp_full_match(x,
            '-?(\d+|[1-9]\d{0,15}\.\d+|0\.(0{0,3}[1-9]\d*|0))|null|true|false') THEN false
        WHEN x >= '[' THEN
            regexp_matches(x, '[:\[,]-?(\d+(\.\d+)?[eE]|\d{17,}\.|0\.0000|NaN|Inf)')
        ELSE x IS NOT NULL END""",
    # Values are told by their first character, and comparing costs the least: `"` is before `#`.
    "is_object(x)": "coalesce(x >= '{', false)",
    "is_list(x)": "coalesce(x >= '[' AND x < ']', false)",
    "is_digits(x)": "x >= '-' AND x < ':'",
    # A number as Python writes integers, and one that is no infinity.
    "is_whole(x)": "is_digits(x) AND NOT regexp_matches(x, '[.eI]')",
    "is_finite(x)": "is_digits(x) AND NOT contains(x, 'I')",
    "has_no_objects(x)": """NOT (contains(x, '{') OR contains(x, 'NaN')
        OR contains(x, 'Infinity'))""",
    "items(x)": "json_extract(x::VARCHAR, '$[*]')::VARCHAR[]",
    "leaves(j, paths)": "json_extract(j, paths)::VARCHAR[]",
    "is_text(x)": "coalesce(x < '#', false)",
    "absent(x)": "coalesce(x = 'null', true)",
    "empty(x)": """coalesce(x IN ('null', '""', '[]', '{}'), true)""",
    "truthy(x)": """coalesce(
        x NOT IN ('null', 'false', '""', '0', '0.0', '-0.0', 'NaN'), false)""",
    "inside(x)": "substr(x, 2, length(x) - 2)",
    # A value as another type, where that's plain to see; else as it is.
    # DuckDB writes 1e-05 as 0.00001: numbers that Python writes with an exponent are left to it.
    "as_text(x)": r"""CASE WHEN ord(x) = 34 OR strlen(x) > 99 THEN x
        WHEN x IN ('true', 'false') THEN '"' || x || '"'
        WHEN is_finite(x) AND NOT regexp_matches(x, '[eE]|^-?0\.0000|[0-9]{16}\.')
            THEN '"' || CASE WHEN x = '-0.0' THEN '0' ELSE regexp_replace(x, '\.0$', '') END || '"'
        ELSE x END""",
    "as_whole(x)": """CASE WHEN ord(x) = 34 AND regexp_full_match(x, '"(0|-?[1-9][0-9]{0,17})"')
        THEN inside(x) ELSE x END""",
    "as_number(x)": r"""CASE WHEN ord(x) <> 34 THEN x
        WHEN regexp_full_match(x, '"(0|-?[1-9][0-9]{0,17})"') THEN inside(x)
        WHEN regexp_full_match(x, '"-?(0|[1-9][0-9]{0,9})\.[1-9]"') THEN inside(x)
        ELSE x END""",
    "as_boolean(x)": """CASE WHEN x IN ('"true"', '"false"') THEN inside(x) ELSE x END""",
    # What String(x) gives, escaped; NULL for an absent value. Not for what `unspeakable` tells.
    "js_text(x)": """CASE
        WHEN x < '#' THEN inside(x)
        WHEN x >= '{' THEN '[object Object]'
        WHEN x = 'null' OR is_list(x) THEN NULL
        WHEN x = '-0.0' THEN '0'
        WHEN x < ':' AND suffix(x, '.0') THEN substr(x, 1, length(x) - 2)
        ELSE x END""",
    # The same, and NULL for a blank text.
    "shown(x)": """CASE WHEN x = '""' THEN NULL ELSE js_text(x) END""",
    "unspeakable(x)": """coalesce(
        is_list(x) OR (is_digits(x) AND strlen(x) > 21), false)""",
    "number(x)": "CASE WHEN is_digits(x) THEN try_cast(x AS DOUBLE) END",
    # Whole numbers that a DOUBLE may not hold exactly.
    "big(x)": """coalesce(
        is_digits(x) AND strlen(x) > 15 AND NOT contains(x, '.'), false)""",
    "wordy(x)": """regexp_matches(x, '^"[A-HJ-Za-z]')""",
    # What Number("…") gives, if written plainly or blank; NULL otherwise.
    "text_number(x)": r"""CASE WHEN x >= '#' THEN NULL WHEN x = '""' THEN 0.0
        WHEN regexp_full_match(x, '"-?\d{1,15}(\.\d{1,15})?"') THEN try_cast(inside(x) AS DOUBLE)
        END""",
    # Long digits are left to Python, which keeps them all.
    "prefix_number(x)": r"""CASE WHEN x < '#' AND NOT regexp_matches(x, '^"-?\d{16}')
        THEN try_cast(regexp_extract(x,
        '^"(-?\d+(\.\d+)?([eE][+-]?\d+)?)', 1) AS DOUBLE) END""",
    "offset_minutes(t)": """(CASE WHEN contains(right(t, 6), '-') AND NOT contains(right(t, 6), '+')
        THEN -1 ELSE 1 END) * (substr(replace(right(t, 6), ':', ''), length(
        replace(right(t, 6), ':', '')) - 3, 2)::INTEGER * 60 + right(t, 2)::INTEGER)""",
    # The instant in UTC of an ISO 8601 text with at least a day; NULL for any other.
    "instant(x)": r"""CASE
        WHEN regexp_full_match(x, '"[12]\d{3}-\d\d-\d\d([T ]([01]\d|2[0-3]):[0-5]\d'
            '(:[0-5]\d(\.\d{1,6})?)?Z?)?"')
            THEN try_cast(rtrim(inside(x), 'Z') AS TIMESTAMP)
        WHEN regexp_full_match(x, '"[12]\d{3}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d'
            '(:[0-5]\d(\.\d{1,6})?)?[+-]\d\d:?\d\d"')
            THEN try_cast(regexp_replace(inside(x), '[+-]\d\d:?\d\d$', '') AS TIMESTAMP)
                - to_minutes(offset_minutes(inside(x)))
        END""",
    # Whether a text is a time in UTC to the second, so that its parts stand where they do. The last
    # days of a month are left to `instant`, which knows which there are.
    "is_utc(x)": r"""regexp_full_match(x, '"[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])'
        'T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?Z"')""",
}
"""The words of the plans' SQL. Those that end a CASE early keep what follows from being run."""


def columns(sql: str, texts: Texts) -> list[pa.ChunkedArray]:
    """What the SQL gives for the table `input`, whose column `j` holds the texts, by column.

    Texts that DuckDB can't read are NULL to the SQL.
    """
    tray = _tray(os.getpid())
    try:
        return tray.run(sql, texts)
    except duckdb.Error:
        return tray.run(sql, tray.run(_READABLE, texts)[0])


def text_column(texts: Sequence[str | None]) -> Texts:
    """The texts by Arrow; null for those that have half of a character, since that is no UTF-8."""
    try:
        found = text_array(texts)
    except (ValueError, pa.ArrowException):
        found = text_array([text if _encodable(text) else None for text in texts])
    return pa.chunked_array([found])


@lru_cache(maxsize=1)
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """One database for each process; it can neither open files nor be talked into it."""
    database = duckdb.connect(":memory:", config={"enable_external_access": "false"})
    for name, sql in MACROS.items():
        database.execute(f"CREATE MACRO {name} AS {sql}")
    # An IN of many values would become a join, which gives the rows in another order.
    database.execute("SET disabled_optimizers = 'in_clause'")
    database.execute("SET lock_configuration = true")
    return database


class _Tray:
    """What a thread hands to the database, again and again: the table `input` of its queries.

    To make a query ready takes longer than some thousand records do, and it's the same each time.
    """

    def __init__(self) -> None:
        self._cursor = _database(os.getpid()).cursor()
        self._table = _NONE
        self._cursor.register("input", self)
        self._ready = lru_cache(maxsize=READY)(self._cursor.sql)

    def run(self, sql: str, texts: Texts) -> list[pa.ChunkedArray]:
        """What the SQL gives for these texts, by column."""
        chunks = pa.Table.from_arrays([texts], schema=_SCHEMA).to_batches(max_chunksize=CHUNK)
        self._table = pa.Table.from_batches(chunks, _SCHEMA)
        try:
            # By Arrow: rows as tuples would cost as much as the query; Python tracks each of them.
            return list(self._ready(sql).to_arrow_table().columns)
        finally:
            self._table = _NONE

    def __arrow_c_schema__(self) -> object:
        return _SCHEMA.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


_trays = threading.local()


def _tray(process: int) -> _Tray:
    """The tray of this thread, and of this process: none lives on in a fork."""
    if getattr(_trays, "process", None) != process:
        _trays.process, _trays.tray = process, _Tray()
    tray: _Tray = _trays.tray
    return tray


def _encodable(text: str | None) -> bool:
    try:
        return text is None or bool(text.encode()) or True
    except UnicodeEncodeError:
        return False
