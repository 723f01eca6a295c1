"""What tenants can connect to, and what they're asked for; never the product's own parameters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from membrane_sync.project.authentication import Access
from membrane_sync.server.routes.pages import Cursor, Limit, Page, page
from membrane_sync.server.scope import CurrentScope, Scope, scoped_router

router = scoped_router(tags=["integrations"])


class OptionOut(BaseModel):
    """One way to authenticate; `input_schema` is what the user types for it, all of it secret."""

    key: str
    type: str
    title: str
    description: str
    input_schema: dict[str, Any]


class IntegrationOut(BaseModel):
    """An app that can be connected."""

    key: str
    name: str
    description: str
    logo_url: str | None
    docs_url: str | None
    input_schema: dict[str, Any]
    authentication_options: list[OptionOut]


@router.get("/integrations")
def list_integrations(
    scope: CurrentScope, limit: Limit = 50, cursor: Cursor = ""
) -> Page[IntegrationOut]:
    """All integrations, by key."""

    def read(after: str, most: int) -> list[str]:
        return [key for key in sorted(scope.project.integrations) if key > after][:most]

    return page(read, lambda key: _shown(scope, key), lambda key: key, cursor, limit)


@router.get("/integrations/{integration}")
def read_integration(scope: CurrentScope, integration: str) -> IntegrationOut:
    """One integration."""
    return _shown(scope, integration)


def _shown(scope: Scope, key: str) -> IntegrationOut:
    integration, connector = scope.project.integration(key), scope.project.connector(key)
    return IntegrationOut(
        key=key,
        name=integration.name or connector.title,
        description=integration.description or connector.description or "",
        logo_url=connector.logo_url,
        docs_url=connector.docs_url,
        input_schema=connector.input_schema,
        authentication_options=[_option(access) for access in scope.accounts.accesses(key)],
    )


def _option(access: Access) -> OptionOut:
    declared = access.authentication
    return OptionOut(
        key=access.option,
        type=declared.type,
        title=declared.title or declared.type.replace("_", " ").capitalize(),
        description=declared.description or "",
        input_schema=declared.input_schema,
    )
