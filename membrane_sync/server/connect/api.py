"""Connection requests over the API: the product asks for a link, and how it went."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from membrane_sync.connections.requests import (
    LINK_SECONDS,
    LONGEST_LINK_SECONDS,
    SHORTEST_LINK_SECONDS,
    Host,
    Wanted,
    create_request,
    find_request,
    revoke_request,
)
from membrane_sync.elements.base import KEY_PATTERN
from membrane_sync.ports import ConnectionRequest, RequestStatus
from membrane_sync.server.scope import CurrentScope, Workspace, scoped_router
from membrane_sync.server.values import Line, Values

RequestId = Annotated[str, Path(max_length=100, description="`id` of the connection request")]


class NewRequest(BaseModel):
    """What a user is to be asked; without `connection`, the tenant's only one is connected."""

    model_config = ConfigDict(extra="forbid")

    integration: str = Field(min_length=1, max_length=100)
    connection: str | None = Field(
        default=None,
        pattern=KEY_PATTERN,
        description="Of one that's there: reconnect it. Of a new one, its key, with an API key",
    )
    name: Line = Field(default="", max_length=255)
    input: Values = Field(default_factory=dict, description="What needn't be asked any more")
    option: str = Field(default="", max_length=100, description="The only way to be offered")
    allow_multiple_connections: bool = Field(
        default=False, description="Make one more, also if the tenant has one in the integration"
    )
    redirect_uri: Line = Field(
        default="", max_length=2000, description="Where the user goes afterwards"
    )
    custom_state: Line = Field(
        default="", max_length=2000, description="Comes back with the answer"
    )
    expires_in: int = Field(default=LINK_SECONDS, ge=SHORTEST_LINK_SECONDS, le=LONGEST_LINK_SECONDS)


class RequestError(BaseModel):
    """What went wrong last; a request that is pending can still be answered."""

    code: str


class RequestOut(BaseModel):
    """A connection request, and how it stands."""

    id: str
    status: RequestStatus
    integration: str
    tenant: str
    connection: str | None = Field(description="The connection's key, once it's there")
    error: RequestError | None
    custom_state: str
    created_at: datetime
    expires_at: datetime


class RequestMade(RequestOut):
    """A new request, with the link to give to the user; it's told this once."""

    url: str


def api_router(host: Host) -> APIRouter:
    """The routes for the product."""
    router = scoped_router(tags=["connection requests"])

    @router.post("/connection-requests", status_code=201)
    def create_connection_request(scope: CurrentScope, body: NewRequest) -> RequestMade:
        """Make a link by which a user connects an account, or reconnects one."""
        tenant = scope.owner()
        if body.connection is not None and not isinstance(scope, Workspace):
            scope.ledger.connection(body.connection)  # a tenant reconnects its own alone
        given = body.model_dump() | {"connection": body.connection or ""}
        request, token = create_request(host, Wanted(tenant=tenant, **given))
        url = f"{host.settings.connect.public_url}/connect/{token}"
        return RequestMade(**_shown(request).model_dump(), url=url)

    @router.get("/connection-requests/{request}")
    def read_connection_request(scope: CurrentScope, request: RequestId) -> RequestOut:
        """How a request stands."""
        return _shown(find_request(host, request, scope.tenant))

    @router.delete("/connection-requests/{request}")
    def revoke_connection_request(scope: CurrentScope, request: RequestId) -> RequestOut:
        """Take the link back, if it wasn't answered yet; says how the request ended."""
        return _shown(revoke_request(host, request, scope.tenant))

    return router


def _shown(request: ConnectionRequest) -> RequestOut:
    return RequestOut(
        id=request.id,
        status=request.status,
        integration=request.integration,
        tenant=request.tenant,
        connection=request.connection if request.status == "success" else None,
        error=RequestError(code=request.error) if request.error else None,
        custom_state=request.custom_state,
        created_at=datetime.fromtimestamp(request.created_at, UTC),
        expires_at=datetime.fromtimestamp(request.expires_at, UTC),
    )
