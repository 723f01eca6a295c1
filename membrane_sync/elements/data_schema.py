"""Data schema: the shape of a record on the product's side, and the table it lives in.

Checked and coerced by `sync/mapper.py`; delivered by `sync/push.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from membrane_sync.elements.base import Element, RefersTo, Schema, Spec


class Table(Spec):
    """Where the product keeps these records, reached through SQLAlchemy."""

    name: str = Field(min_length=1, description="`table`, or `schema.table`")
    key: str = Field(default="id", description="The column that identifies a row")
    tenant_column: str | None = Field(default=None, description="Filled with the tenant's key")
    connection_column: str | None = Field(
        default=None, description="Filled with the connection's key"
    )
    deleted_column: str | None = Field(
        default=None, description="Time of deletion, for syncs that delete softly"
    )
    database: Annotated[str, RefersTo("database")] = Field(
        default="app", description="A database named in the project's settings"
    )
    create: bool = Field(default=False, description="Create the table if it doesn't exist")


class DataSchema(Element):
    """The shape of a record on the product's side."""

    schema_: Schema = Field(alias="schema")
    table: Table | None = None
    function: str | None = Field(
        default=None,
        description="A function in hooks.py that gives a tenant's own schema, in place of `schema`",
    )
