"""Data link table: which external record is which record of the product, per connection.

Kept in the lake by `sync/link.py`, in one transaction with the rows it ties.
"""

from __future__ import annotations

from pydantic import Field

from membrane_sync.elements.base import Element


class DataLinkTable(Element):
    """The links of one kind of record."""

    one_to_one: bool = Field(
        default=True, description="Refuse a second external record for one record of the product"
    )
