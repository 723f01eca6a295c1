"""The HTTP API as an ASGI app.

uvicorn.run(create_app(open_runtime(root)))
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from membrane_sync.bootstrap import Runtime
from membrane_sync.server import failures
from membrane_sync.server.connect import api as connect_api
from membrane_sync.server.connect import routes as connect_pages
from membrane_sync.server.envelope import REQUEST_ID, Envelope
from membrane_sync.server.failures import Failure
from membrane_sync.server.routes import (
    connections,
    events,
    health,
    integrations,
    internal_events,
    me,
    proxy,
    subscriptions,
    tenants,
)
from membrane_sync.server.scope import TENANT_HEADER, Reception
from membrane_sync.server.webhooks.routes import Webhooks, webhook_router

_DESCRIPTION = (
    "Connects the product's tenants to the apps they use. Send an API key, or a tenant's token, "
    "as `Authorization: Bearer …`."
)
_FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Failure, "description": "It can't be done as it was asked"},
    "5XX": {"model": Failure, "description": "It can't be done now"},
}


def create_app(runtime: Runtime) -> FastAPI:
    """The API of one project; raises Fatal where a key for tokens can't be read."""
    settings = runtime.settings.server
    webhooks = Webhooks(runtime)
    app = FastAPI(
        title="membrane_sync",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the address would be made of what the caller says is our host
        lifespan=_closing(runtime, webhooks),
        generate_unique_id_function=_operation,
        responses=_FAILURES,
    )
    app.state.reception = Reception(runtime)
    app.state.check_health = lambda: runtime.ledger.tenants.tenants("", 1)
    app.state.proxy_limiter = CapacityLimiter(proxy.MOST_AT_ONCE)
    app.state.webhooks = webhooks
    app.state.largest_answer = settings.largest_answer
    failures.install(app)
    # The first, since they're asked for most, and FastAPI tries one route after another.
    app.include_router(webhook_router(webhooks))
    api = (health, me, integrations, tenants, connections, subscriptions)
    for routes in (*api, internal_events, events, proxy):
        app.include_router(routes.router)
    app.include_router(connect_api.api_router(runtime))
    app.include_router(connect_pages.page_router(runtime))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", TENANT_HEADER],
            expose_headers=[REQUEST_ID, "Retry-After"],
        )
    app.add_middleware(Envelope, largest_request=settings.largest_request)
    return app


def _operation(route: APIRoute) -> str:
    """Names an operation in the OpenAPI document by its function."""
    return route.name


def _closing(runtime: Runtime, webhooks: Webhooks) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await webhooks.close()
        runtime.close()

    return lifespan
