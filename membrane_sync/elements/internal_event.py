"""Internal event: something changed in the product.

Taken in by `events/internal.py`, from an outbox by `events/outbox.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from membrane_sync.elements.action import HttpRequest
from membrane_sync.elements.base import Element, Formula, RefersTo, Schema, Spec
from membrane_sync.elements.webhook import DAY


class Outbox(Spec):
    """A table in the product's database, written in the product's own transactions.

    It's read by the cursor column alone, unless rows are marked or deleted once they're read.
    """

    table: str = Field(min_length=1, description="`table`, or `schema.table`")
    cursor_column: str = Field(default="id", description="A whole number that counts up")
    tenant_column: str | None = "tenant"
    payload_column: str = Field(default="payload", description="The event as JSON")
    type_column: str | None = Field(
        default=None, description="Holds the event's key, where several share the table"
    )
    handled_column: str | None = Field(
        default=None, description="A time that we set in rows that were read, null before"
    )
    delete: bool = Field(default=False, description="Delete rows that were read")
    settle_seconds: float = Field(
        default=60, ge=0, description="How much later than a higher number a lower one may come"
    )
    database: Annotated[str, RefersTo("database")] = "app"

    @property
    def is_emptied(self) -> bool:
        """Whether the rows say themselves which of them were read."""
        return self.delete or self.handled_column is not None

    @model_validator(mode="after")
    def _one_way(self) -> Outbox:
        if self.delete and self.handled_column:
            raise ValueError("rows are marked in handled_column or deleted, not both")
        return self


class InternalEvent(Element):
    """A type of event the product tells us of: by HTTP, by `publish()`, or by an outbox table."""

    schema_: Schema = Field(default_factory=dict, alias="schema")
    data_schema: Annotated[str, RefersTo("data_schema")] | None = None
    example: dict[str, Any] = Field(default_factory=dict)
    tenant: Formula = Field(default=None, description="The tenant's key, over the payload")
    event_id: Formula = Field(
        default=None, description="The same whenever the event is told, over the payload"
    )
    dedupe_seconds: float = Field(
        default=3 * DAY, ge=0, description="For how long an event that comes again is the same"
    )
    subscribe: HttpRequest | None = Field(
        default=None, description="Asks your product to tell of a tenant's events"
    )
    unsubscribe: HttpRequest | None = Field(
        default=None, description="The same to end it; sees $.state, the answer to subscribe"
    )
    outbox: Outbox | None = None
