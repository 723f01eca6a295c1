"""The product's customers, for its backend; a token makes its tenant known by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from membrane_sync.errors import Fatal
from membrane_sync.ports import Tenant
from membrane_sync.project.values import LONGEST_KEY, is_tenant_key
from membrane_sync.server.routes.pages import Cursor, Limit, Page, page
from membrane_sync.server.scope import CurrentWorkspace, scoped_router
from membrane_sync.server.values import Line, Values

router = scoped_router(tags=["tenants"])

TenantKey = Annotated[str, Path(min_length=1, max_length=LONGEST_KEY)]


class TenantOut(BaseModel):
    """A tenant as the API shows it."""

    key: str
    name: str
    fields: dict[str, Any]
    created_at: datetime | None


class TenantIn(BaseModel):
    """What can be said of a tenant; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: Line | None = Field(default=None, max_length=LONGEST_KEY)
    fields: Values | None = None


class Connected(Fatal):
    """It has connections yet."""

    code = "in_use"


@router.get("/tenants")
def list_tenants(
    workspace: CurrentWorkspace, limit: Limit = 50, cursor: Cursor = ""
) -> Page[TenantOut]:
    """All tenants, by key."""
    return page(workspace.tenants.tenants, _shown, lambda tenant: tenant.key, cursor, limit)


@router.get("/tenants/{tenant:path}")
def read_tenant(workspace: CurrentWorkspace, tenant: TenantKey) -> TenantOut:
    """One tenant."""
    return _shown(workspace.tenants.tenant(_checked(tenant)))


@router.put("/tenants/{tenant:path}")
def write_tenant(workspace: CurrentWorkspace, tenant: TenantKey, body: TenantIn) -> TenantOut:
    """Make a tenant, or change what is said of it."""
    kept = workspace.tenants.keep(_checked(tenant), name=body.name, fields=body.fields)
    return _shown(kept)


@router.delete("/tenants/{tenant:path}", status_code=204)
def delete_tenant(workspace: CurrentWorkspace, tenant: TenantKey) -> None:
    """Forget a tenant, once all its connections are archived."""
    known = workspace.tenants.tenant(_checked(tenant))
    for status in ("ready", "paused", "reconnect_needed"):
        if workspace.of(known.key).connections("", 1, status=status):
            raise Connected(
                f"tenant {known.key!r} has connections", hint="archive them first: DELETE each"
            )
    workspace.tenants.forget(known.key)


def _checked(tenant: str) -> str:
    if not is_tenant_key(tenant):
        raise Fatal("this can't be the key of a tenant", hint="use printable characters")
    return tenant


def _shown(tenant: Tenant) -> TenantOut:
    return TenantOut(
        key=tenant.key, name=tenant.name, fields=dict(tenant.fields), created_at=tenant.created_at
    )
