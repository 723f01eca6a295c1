"""Who the request speaks for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from membrane_sync.server.scope import CurrentScope, Workspace, scoped_router

router = scoped_router(tags=["me"])


class Me(BaseModel):
    """Who asks, and for which tenant; none for the whole workspace."""

    kind: Literal["workspace", "tenant"]
    tenant: str | None
    name: str = ""
    fields: dict[str, Any] = {}


@router.get("/me")
def read_me(scope: CurrentScope) -> Me:
    """Who you are here."""
    kind: Literal["workspace", "tenant"] = "workspace" if isinstance(scope, Workspace) else "tenant"
    about = scope.about
    if about is None:
        return Me(kind=kind, tenant=scope.tenant)
    return Me(kind=kind, tenant=about.key, name=about.name, fields=dict(about.fields))
