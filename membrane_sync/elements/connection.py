"""Connection: one tenant's account in one app; also the name of the lowest layer.

A connection is registered in the ledger (`membrane connect`). A file
`mappings/connections/<key>/connection.yaml` is needed where the folder refines elements, since it
says which integration's elements these are. Used by `project/`.
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
    authentication_option: str | None = Field(default=None, alias="authOptionKey")
    is_test: bool = False
