"""Inserts that know what to do where a row is there already, in both databases."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""By what SQLAlchemy calls the database; there are no others that we write."""


def inserting(transaction: sa.Connection) -> Any:
    """The `insert` that knows `on_conflict_do_nothing` in this database."""
    return INSERTS[transaction.dialect.name]
