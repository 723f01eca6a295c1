"""Connection requests: the product asks, and a user answers by a link, on the connect page.

Here is what may happen to one, and when; `server/connect/` has the page.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from membrane_sync.elements.sensitive import sensitive_fields
from membrane_sync.errors import (
    Fatal,
    InvalidInput,
    LockTimeout,
    NotConnected,
    NotFound,
    SecretError,
)
from membrane_sync.ports import (
    Authenticator,
    ConnectionRecord,
    ConnectionRequest,
    ConnectionRequests,
    Issued,
    TenantLedger,
)
from membrane_sync.project.addresses import is_allowed
from membrane_sync.project.authentication import Access
from membrane_sync.project.inputs import fit
from membrane_sync.project.project import Project
from membrane_sync.project.settings import Settings

LINK_SECONDS = 3600
"""How long a link is good for, unless the product says otherwise."""
SHORTEST_LINK_SECONDS, LONGEST_LINK_SECONDS = 60, 7 * 86_400
MOST_LOOKED_AT = 1_000
"""Connections of one tenant in one integration."""


class Apps(Protocol):
    """How the apps are reached with credentials that aren't stored yet."""

    def accesses(self, integration: str) -> Sequence[Access]:
        """The ways to authenticate that users may choose from."""
        ...

    def authenticator(
        self, integration: str, option: str = "", input: Mapping[str, Any] | None = None
    ) -> Authenticator:
        """One way to authenticate, to get credentials by it."""
        ...

    def prove(self, connection: ConnectionRecord) -> str:
        """Call the app with the connection's credentials; gives which account it is, if known."""
        ...


class Lakes(Protocol):
    """Where records are kept."""

    def lake_path(self, connection: str) -> Path:
        """Where a connection's records are, or would be."""
        ...


class Host(Protocol):
    """What a connection request needs of a runtime."""

    @property
    def apps(self) -> Apps:
        """The apps that connections are made with."""
        ...

    @property
    def stores(self) -> Lakes:
        """The records that connections have."""
        ...

    @property
    def project(self) -> Project:
        """The declarations."""
        ...

    @property
    def settings(self) -> Settings:
        """The redirects that are allowed, above all."""
        ...

    @property
    def requests(self) -> ConnectionRequests:
        """The requests there are."""
        ...

    def tenant_ledger(self, tenant: str | None) -> TenantLedger:
        """The connections that a tenant may see; None for all."""
        ...

    def register(self, connection: ConnectionRecord, *, same_account: bool = False) -> None:
        """Store the connection."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What the product asks for; `connection` names the key, of one that's there to reconnect it.

    Without a key, the tenant's connection in the integration is reconnected if there's one, unless
    `allow_multiple_connections`.
    """

    tenant: str
    integration: str
    connection: str = ""
    name: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    option: str = ""
    allow_multiple_connections: bool = False
    redirect_uri: str = ""
    custom_state: str = ""
    expires_in: float = LINK_SECONDS


def create_request(
    host: Host, wanted: Wanted, *, now: Callable[[], float] = time.time
) -> tuple[ConnectionRequest, str]:
    """Keep a new request; gives it with the token of its link, of which only a hash is kept.

    Raises NotFound for an integration or option there isn't, and Fatal for what can't be done.
    """
    integration = host.project.integration(wanted.integration)
    rules = host.settings.connect.redirects
    if wanted.redirect_uri and not is_allowed(wanted.redirect_uri, rules):
        raise Fatal(
            "redirect_uri is not one of the addresses that users may be sent back to",
            hint="add it to connect.redirects in the settings (MEMBRANE_CONNECT_REDIRECTS)",
        )
    options = [access.option for access in host.apps.accesses(integration.key)]
    if wanted.option and wanted.option not in options:
        raise NotFound(
            f"integration {integration.key!r} offers no authentication option {wanted.option!r}",
            hint=f"it offers: {', '.join(options)}",
        )
    schema = host.project.connector(integration.key).input_schema
    _, wrong = fit({**schema, "required": []}, wanted.input)
    if wrong:
        raise InvalidInput(wrong)
    existing = _existing(host, wanted)
    input = {**(_input_of(host, existing) if existing else {}), **wanted.input}
    if existing and _is_another(existing, wanted.input, schema):
        raise Fatal(
            f"connection {existing.key!r} has another input; it stays with the account it has",
            hint="leave the input out to reconnect it, or name another connection",
        )
    token, began = secrets.token_urlsafe(32), now()
    request = ConnectionRequest(
        id=f"cr_{secrets.token_hex(12)}",
        tenant=wanted.tenant,
        integration=integration.key,
        connection=existing.key if existing else _new_key(host, wanted),
        token_hash=hashed(token),
        created_at=began,
        expires_at=began + wanted.expires_in,
        name=wanted.name,
        input=input,
        option=wanted.option,
        redirect_uri=wanted.redirect_uri,
        custom_state=wanted.custom_state,
    )
    host.requests.add(request)
    return request, token


def find_request(
    host: Host, id: str, tenant: str | None, *, now: Callable[[], float] = time.time
) -> ConnectionRequest:
    """A tenant's request, or any for None; raises NotFound, for those of others just so."""
    request = host.requests.find(id)
    if request is None or tenant not in (None, request.tenant):
        raise NotFound(f"there is no connection request {id!r}")
    return as_of(request, now())


def revoke_request(
    host: Host, id: str, tenant: str | None, *, now: Callable[[], float] = time.time
) -> ConnectionRequest:
    """Take a link back, so that nobody can answer it any more; gives the request as it then stands.

    One that has ended stays as it ended. Raises NotFound, and LockTimeout while it's answered.
    """
    if find_request(host, id, tenant, now=now).status == "pending":
        host.requests.revoke(id, now())
    request = find_request(host, id, tenant, now=now)
    if request.status == "pending":
        raise LockTimeout(
            f"connection request {id!r} is being answered just now",
            hint="look how it went in a moment: GET /connection-requests/{request}",
        )
    return request


def request_of_link(
    host: Host, token: str, *, now: Callable[[], float] = time.time
) -> ConnectionRequest:
    """The request that a link belongs to; raises NotFound."""
    request = host.requests.find_by_token(hashed(token))
    if request is None:
        raise NotFound("there is no such link")
    return as_of(request, now())


def as_of(request: ConnectionRequest, moment: float) -> ConnectionRequest:
    """How the request stands at a moment: one that nobody answered in time has failed."""
    last = max(request.expires_at, request.away_until)
    if request.status == "pending" and last < moment:
        return replace(request, status="error", error="expired")
    return request


def existing_connection(host: Host, request: ConnectionRequest) -> ConnectionRecord | None:
    """The connection that the request reconnects, without its credentials."""
    try:
        found = host.tenant_ledger(request.tenant).connection(request.connection)
    except NotConnected:
        return None
    return found if found.integration == request.integration else None


def with_credentials(record: ConnectionRecord, issued: Issued, now: float) -> ConnectionRecord:
    """The connection with what an app has just issued."""
    return replace(
        record,
        credentials=dict(issued.credentials),
        connected_at=datetime.fromtimestamp(now, UTC),
        status="ready",
        reason="",
        expires_at=now + issued.expires_in if issued.expires_in is not None else None,
    )


def hashed(secret: str) -> str:
    """What is kept of a secret that somebody brings along: enough to know it by."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _existing(host: Host, wanted: Wanted) -> ConnectionRecord | None:
    """The connection to reconnect, if it's one of this tenant in this integration."""
    mine = host.tenant_ledger(wanted.tenant)
    if wanted.connection:
        try:
            named = mine.connection(wanted.connection)
        except NotConnected:
            return None
        if named.integration != wanted.integration:
            raise Fatal(
                f"connection {named.key!r} is one in {named.integration!r}",
                hint="ask for that integration, or name another connection",
            )
        return named
    if wanted.allow_multiple_connections:
        return None
    found = mine.connections("", MOST_LOOKED_AT, integration=wanted.integration)
    alive = [connection for connection in found if connection.status != "archived"]
    return min(alive, key=_first_to_mend, default=None)


def _input_of(host: Host, connection: ConnectionRecord) -> Mapping[str, Any]:
    """A connection's input, with what is secret of it unless that can't be read any more."""
    try:
        return host.tenant_ledger(connection.tenant).opened(connection.key).input
    except SecretError:
        return connection.input


def _is_another(
    connection: ConnectionRecord, given: Mapping[str, Any], schema: Mapping[str, Any]
) -> bool:
    """Whether the input would make it another account; its secrets may change."""
    shown = given.keys() - set(sensitive_fields(schema))
    return any(connection.input.get(name) != given[name] for name in shown)


def _first_to_mend(connection: ConnectionRecord) -> tuple[bool, str]:
    return connection.status != "reconnect_needed", connection.key


def _new_key(host: Host, wanted: Wanted) -> str:
    """A key that nobody has; a tenant's only connection gets the same one each time it's asked for.

    So a user who follows two links has one connection in the end.
    """
    start = wanted.integration[:80]
    own = wanted.connection or f"{start}_{hashed(wanted.tenant)[:12]}"
    if not wanted.allow_multiple_connections or wanted.connection:
        if not _is_taken(host, own):
            return own
        if wanted.connection:
            raise Fatal(f"the key {own!r} is taken", hint="leave it out, or choose another one")
    return f"{start}_{secrets.token_hex(6)}"


def _is_taken(host: Host, key: str) -> bool:
    if host.stores.lake_path(key).exists():
        return True
    try:
        host.tenant_ledger(None).connection(key)
    except NotConnected:
        return False
    return True
