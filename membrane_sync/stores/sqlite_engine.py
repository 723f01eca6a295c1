"""SQLite through SQLAlchemy, with transactions that are what they say."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa


def sqlite_engine(url: sa.URL, *, wal: bool = False) -> sa.Engine:
    """An engine that waits 30 s for other writers; makes the file's folder.

    Python's driver begins transactions late and by its own rules: DDL stands outside of them, and
    the release of a savepoint commits. So it's told to keep out of it, and each transaction takes
    the write lock at once, for one that reads first and writes later could not wait for it. With
    the execution option `reads_only`, it takes none.
    """
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    patience = {} if "timeout" in url.query else {"timeout": 30}
    engine = sa.create_engine(url, connect_args=patience, hide_parameters=wal)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        if wal:
            _keep_wal(connection)

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _keep_wal(connection: Any) -> None:
    """Switch to WAL, once for the file; SQLite doesn't wait by itself for others who do so too."""
    for _ in range(100):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            time.sleep(0.02)
    connection.execute("PRAGMA journal_mode=WAL")
