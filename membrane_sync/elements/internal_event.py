"""Internal event: something changed in the product.

Taken in by `events/internal.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from membrane_sync.elements.action import HttpRequest
from membrane_sync.elements.base import Element, Formula, RefersTo, Schema, Spec


class Outbox(Spec):
    """A table in the product's database, written in the product's own transactions."""

    table: str
    cursor_column: str = "id"
    tenant_column: str = "tenant"
    payload_column: str = "payload"
    database: Annotated[str, RefersTo("database")] = "app"


class InternalEvent(Element):
    """A type of event the product tells us of: by HTTP, by `publish()`, or by an outbox table."""

    schema_: Schema = Field(default_factory=dict, alias="schema")
    data_schema: Annotated[str, RefersTo("data_schema")] | None = None
    example: dict[str, Any] = Field(default_factory=dict)
    tenant: Formula = Field(default=None, description="The tenant's key, over the payload")
    subscribe: HttpRequest | None = None
    outbox: Outbox | None = None
