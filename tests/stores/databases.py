"""Databases for tests of the stores: a fresh SQLite file, or a schema of its own on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind, for the `conftest.py` that imports it."""
    with fresh_database(request.param, tmp_path, request) as fresh:
        yield fresh


@contextmanager
def fresh_database(kind: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database; only PostgreSQL needs a server, which the request gives."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'app.db'}"
        return
    postgresql_url = request.getfixturevalue("postgresql_url")
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(driver_url(postgresql_url))
    with server.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    url = driver_url(postgresql_url).update_query_dict({"options": f"-csearch_path={name}"})
    yield url.render_as_string(hide_password=False)
    with server.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {name} CASCADE"))
    server.dispose()


def driver_url(url: str) -> sa.URL:
    return sa.make_url(url).set(drivername="postgresql+psycopg")


def run(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def read(url: str, sql: str) -> list[dict[str, object]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(sa.text(sql)).mappings()]
    engine.dispose()
    return rows
