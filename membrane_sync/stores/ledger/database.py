"""The database behind the ledger: its engine, its tables' version, and its transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.schema import CreateColumn

from membrane_sync.errors import Fatal, LedgerUnavailable
from membrane_sync.stores.sqlite_engine import sqlite_engine

VERSION = 7
"""Version of the tables; an older ledger gets what it lacks, one of a newer version is refused."""

_FORMER_INDEXES = ("membrane_events_dead",)
"""What `membrane_events_status` does since version 7."""

_LAYOUT_LOCK = 7_239_204
"""Number of PostgreSQL's advisory lock for creating the tables; any would do."""

metadata = sa.MetaData()
"""All tables of the ledger, each declared by the module that reads and writes it."""

_version = sa.Table(
    "membrane_version", metadata, sa.Column("version", sa.Integer, primary_key=True)
)


class LedgerDatabase:
    """SQLite or PostgreSQL by URL; the tables are made on first use."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._ready = False
        self._laying_out = Lock()

    def close(self) -> None:
        """Give back the database connections."""
        self._engine.dispose()

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """A transaction; raises LedgerUnavailable if the database can't be reached."""
        self._prepare()
        return self._transaction(self._engine)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes nothing: in SQLite it needn't wait for those that do.

        Use it for all that may take long, since SQLite's writers wait for one another.
        """
        self._prepare()
        return self._transaction(self._engine.execution_options(reads_only=True))

    def scrub(self) -> None:
        """Let nothing that was overwritten stay in SQLite's files, as far as nobody reads them now.

        Other databases look after that themselves.
        """
        if self._engine.dialect.name != "sqlite":
            return
        connection = self._engine.raw_connection()
        try:
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                connection.cursor().execute(statement).close()
        except sqlite3.OperationalError:
            pass  # Someone else is at it: what they write takes its place.
        finally:
            connection.close()

    def _prepare(self) -> None:
        if not self._ready:
            with self._laying_out:
                if not self._ready:
                    self._lay_out()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        try:
            with engine.begin() as transaction:
                yield transaction
        except OperationalError as error:
            raise LedgerUnavailable(
                f"the ledger at {self._engine.url.render_as_string()} can't be reached: "
                f"{str(error).splitlines()[0]}",
                hint="is the database running, and MEMBRANE_LEDGER_URL right?",
            ) from None

    def _lay_out(self) -> None:
        with self._transaction(self._engine) as transaction:
            if transaction.dialect.name == "postgresql":
                # Others may be creating the same tables: SQLite lets one in at a time anyway.
                transaction.execute(sa.select(sa.func.pg_advisory_xact_lock(_LAYOUT_LOCK)))
            metadata.create_all(transaction)
            found = transaction.execute(sa.select(_version.c.version)).scalar_one_or_none()
            if found is None:
                transaction.execute(sa.insert(_version).values(version=VERSION))
            elif found < VERSION:
                _add_columns(transaction)
                _add_indexes(transaction)
                transaction.execute(sa.update(_version).values(version=VERSION))
            elif found > VERSION:
                raise Fatal(
                    f"the ledger was written by a newer version (tables of version {found})",
                    hint="install the newer membrane-sync",
                )
        self._ready = True


def _add_columns(transaction: sa.Connection) -> None:
    """Give older tables the columns of newer versions; each has a default, or may be null."""
    inspector = sa.inspect(transaction)
    for table in metadata.tables.values():
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = CreateColumn(column).compile(dialect=transaction.dialect)
                name = transaction.dialect.identifier_preparer.format_table(table)
                transaction.execute(sa.text(f"ALTER TABLE {name} ADD COLUMN {definition}"))


def _add_indexes(transaction: sa.Connection) -> None:
    """Give older tables the indexes of newer versions, and take those that nothing uses now."""
    inspector = sa.inspect(transaction)
    for table in metadata.tables.values():
        there = {index["name"] for index in inspector.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in there:
                index.create(transaction)
    for name in _FORMER_INDEXES:
        transaction.execute(sa.text(f"DROP INDEX IF EXISTS {name}"))


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        # Its words may quote what was taken for a port, and is a part of the password.
        raise Fatal(
            "the ledger's address is no URL of a database",
            hint="set ledger_url or MEMBRANE_LEDGER_URL as docs/settings.md says; in a password, "
            "percent-encode what isn't a letter or digit",
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(parsed, wal=True)
    engine = sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
    if engine.driver == "psycopg":
        sa.event.listens_for(engine, "connect")(_send_arrays_as_they_are)
    return engine


def _send_arrays_as_they_are(connection: Any, _record: Any) -> None:
    """In the text that is psycopg's own choice, each quote of each JSON text would be escaped."""
    from psycopg.types.array import ListBinaryDumper

    connection.adapters.register_dumper(list, ListBinaryDumper)


def aware(moment: datetime | None) -> datetime | None:
    """SQLite gives times back without their zone, which is UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
