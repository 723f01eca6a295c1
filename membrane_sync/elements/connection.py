"""Connection: one tenant's account in one app; also the name of the lowest layer.

A connection is registered in the ledger (`membrane connect`); a file
`mappings/connections/<key>/connection.yaml` is only needed to say something beside it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from membrane_sync.elements.base import Element, RefersTo


class Connection(Element):
    """What a file may say of a connection; credentials are never in files."""

    integration: Annotated[str, RefersTo("integration")]
    tenant: str = Field(min_length=1)
    input: dict[str, Any] = Field(default_factory=dict)
    authentication_option: str | None = None
    is_test: bool = False
