"""The product's own table, which records are delivered to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.records import Delivery


@dataclass(frozen=True)
class Owner:
    """Whose rows are written: fills the tenant and connection columns."""

    tenant: str
    connection: str


@dataclass(frozen=True)
class Outcome:
    """What a destination did with a batch: ids it took, and what it refused, by external id."""

    written: Sequence[str] = ()
    removed: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Destination(Protocol):
    """A database of the product."""

    @property
    def place(self) -> str:
        """Tells databases apart, without user and password: another one gets all records."""
        ...

    def prepare(self, schema: DataSchema) -> None:
        """Make sure the table is there and has the schema's columns, or raise DestinationError."""
        ...

    def match(
        self,
        schema: DataSchema,
        owner: Owner,
        fields: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Sequence[str | None]:
        """For each row, the key of the one existing row equal in all `fields`, or None.

        Rows of other tenants and connections are left out.
        """
        ...

    def holds(self, schema: DataSchema, owner: Owner, app_ids: Sequence[str]) -> bool:
        """Is any row with one of these keys there?"""
        ...

    def write(
        self,
        schema: DataSchema,
        owner: Owner,
        deliveries: Sequence[Delivery],
        *,
        soft: bool = False,
    ) -> Outcome:
        """Delete, then upsert, by key, in one transaction; what it refuses holds up nothing else.

        A row that belongs to another tenant or connection is refused; one without a connection
        belongs to whoever writes it. Of one external id twice, the last counts.
        """
        ...
