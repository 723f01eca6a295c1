"""What one request may see and do: routes get a `Scope`, and it has no way to another tenant.

    @router.get("/things")
    def things(scope: CurrentScope) -> list[Thing]: ...

Every route of a `scoped_router` is closed to whoever can't say who they are, before anything of the
request is read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from membrane_sync.bootstrap import Runtime
from membrane_sync.errors import Fatal, NotAuthorized
from membrane_sync.events.internal import InternalEvents
from membrane_sync.events.replay import Replay, WebhookReplay
from membrane_sync.ports import Tenant, TenantLedger, Tenants
from membrane_sync.ports.event_log import EventLog, WebhookLog
from membrane_sync.project.project import Project
from membrane_sync.project.values import is_tenant_key
from membrane_sync.server.accounts import Accounts
from membrane_sync.server.guesses import Guesses
from membrane_sync.server.tokens import Door, Identity, Unknown

TENANT_HEADER = "X-Membrane-Tenant"


class Forbidden(NotAuthorized):
    """The request says who asks, and they may not do this."""

    code = "forbidden"


@dataclass(frozen=True)
class Scope:
    """What a request may see: one tenant's, or all of the workspace where `tenant` is None."""

    tenant: str | None
    ledger: TenantLedger
    accounts: Accounts
    project: Project
    internal_events: InternalEvents
    events: EventLog
    replay: Replay
    about: Tenant | None
    """What is known of the tenant; None for a tenant that nobody has told of."""

    def owner(self) -> str:
        """The tenant that something new will belong to; raises Fatal if none is named."""
        if self.tenant is None:
            raise Fatal(
                "no tenant is named",
                hint=f"name one in the header {TENANT_HEADER}, with an API key",
            )
        return self.tenant


@dataclass(frozen=True)
class Workspace(Scope):
    """What the product's backend may see: the scope of the tenant it names, and all tenants."""

    tenants: Tenants
    webhooks: WebhookLog
    webhook_replay: WebhookReplay

    def of(self, tenant: str) -> TenantLedger:
        """The connections of one of the tenants."""
        return self._for_tenant(tenant)

    _for_tenant: Callable[[str], TenantLedger] = field(repr=False)


class Reception:
    """Turns a request's credentials into a Scope; makes a tenant known at its first sight."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._door = Door(runtime.settings.server, runtime.fetch_json)
        self._guesses = Guesses(runtime.settings.server.wrong_keys_per_minute)

    def scope(self, headers: Mapping[str, str], address: str) -> Scope:
        """Raises NotAuthenticated, or Forbidden where a tenant names another one.

        Where wrong credentials come too often from one address, RateLimited.
        """
        runtime = self._runtime
        try:
            identity = self._door.identity(headers.get("authorization", ""))
        except Unknown:
            self._guesses.count(address)
            raise
        named = _utf8(headers.get(TENANT_HEADER.lower(), ""))
        tenant = self._named(named, identity) if named else identity.tenant
        ledger = runtime.ledger.for_tenant(tenant)
        tenants = runtime.ledger.tenants
        accounts = Accounts(runtime, ledger)
        log, replay = runtime.ledger.event_log(tenant), runtime.events.replay(tenant)
        events = runtime.events.internal, log, replay
        parts = (tenant, ledger, accounts, runtime.project, *events)
        if identity.tenant is None:
            webhooks = runtime.ledger.webhooks, runtime.events.webhook_replay
            return Workspace(*parts, None, tenants, *webhooks, runtime.ledger.for_tenant)
        known = tenants.keep(identity.tenant, name=identity.name, fields=identity.fields)
        return Scope(*parts, known)

    @staticmethod
    def _named(named: str, identity: Identity) -> str:
        if identity.tenant not in (None, named):
            raise Forbidden(
                f"a tenant's token is good for that tenant; {TENANT_HEADER} is for API keys",
                hint="leave the header out",
            )
        if not is_tenant_key(named):
            raise Fatal(f"{TENANT_HEADER} can't be the key of a tenant")
        return named


def _utf8(header: str) -> str:
    """The header as it was meant: servers read headers as Latin-1, and clients write UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


class _ScopedRoute(APIRoute):
    """Asks who's there before the request's parameters and body are looked at."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def scoped(request: Request) -> Response:
            reception: Reception = request.app.state.reception
            address = request.client.host if request.client else ""
            request.state.scope = await run_in_threadpool(reception.scope, request.headers, address)
            return await handle(request)

        return scoped


_bearer = HTTPBearer(
    auto_error=False, description="An API key of the workspace, or a tenant's token (JWT)"
)


def scoped_router(**options: Any) -> APIRouter:
    """A router whose routes all need to know who asks."""
    return APIRouter(route_class=_ScopedRoute, dependencies=[Security(_bearer)], **options)


async def _current_scope(request: Request) -> Scope:
    scope: Scope = request.state.scope
    return scope


async def _workspace(request: Request) -> Workspace:
    scope = request.state.scope
    if not isinstance(scope, Workspace):
        raise Forbidden(
            "this is for the product's backend", hint="ask with an API key, not a tenant's token"
        )
    return scope


CurrentScope = Annotated[Scope, Depends(_current_scope)]
"""What the request may see; a route takes it as a parameter."""

CurrentWorkspace = Annotated[Workspace, Depends(_workspace)]
"""The same, for routes that no tenant may use."""
