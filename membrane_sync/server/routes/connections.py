"""A tenant's accounts in apps: connect, look, test, pause, archive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from membrane_sync.elements.base import KEY_PATTERN
from membrane_sync.elements.sensitive import sensitive_fields
from membrane_sync.errors import NotAuthorized, UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord, ConnectionStatus
from membrane_sync.project.project import Project
from membrane_sync.project.schemas import fields
from membrane_sync.server.accounts import Typed
from membrane_sync.server.routes.pages import Cursor, Limit, Page, page
from membrane_sync.server.scope import CurrentScope, Forbidden, Scope, Workspace, scoped_router
from membrane_sync.server.values import Line, Values

router = scoped_router(tags=["connections"])

ConnectionKey = Annotated[str, Path(pattern=KEY_PATTERN, description="Key of the connection")]


class ConnectionOut(BaseModel):
    """A connection as the API shows it: never its credentials, nor input that is secret."""

    key: str
    name: str
    integration: str
    tenant: str
    status: ConnectionStatus
    reason: str = Field(description="Why it isn't `ready`")
    option: str
    input: dict[str, Any]
    account: str = Field(description="What the app calls the account, if its connector can tell")
    connected_at: datetime | None
    expires_at: datetime | None = Field(description="When its credentials end, if that's known")


class TypedIn(BaseModel):
    """Input and credentials as the integration's schemas ask for them."""

    model_config = ConfigDict(extra="forbid")

    option: str = Field(default="", max_length=100, description="Which way to authenticate")
    input: Values = Field(default_factory=dict)
    credentials: Values = Field(default_factory=dict)
    test: bool = Field(default=True, description="Ask the app whether they work, first")


class NewConnection(TypedIn):
    """A connection to be made; only the product's backend may choose its `key`."""

    integration: str = Field(min_length=1, max_length=100)
    key: str | None = Field(default=None, pattern=KEY_PATTERN)
    name: Line = Field(default="", max_length=255)


class NewCredentials(TypedIn):
    """What a connection is to go on with; `input` that is left out stays."""

    input: Values | None = None  # type: ignore[assignment]
    same_account: bool = Field(
        default=False, description="The account is the same, though its input is another"
    )


class Changes(BaseModel):
    """What can be changed of a connection; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: Line | None = Field(default=None, max_length=255)
    paused: bool | None = None


class Tested(BaseModel):
    """Whether the app takes the credentials; `message` and `hint` if it doesn't."""

    works: bool
    code: str = ""
    message: str = ""
    hint: str = ""


@router.get("/connections")
def list_connections(
    scope: CurrentScope,
    limit: Limit = 50,
    cursor: Cursor = "",
    integration: Annotated[str, Query(pattern=f"{KEY_PATTERN}|^$")] = "",
    status: ConnectionStatus | None = None,
) -> Page[ConnectionOut]:
    """Connections by key; an API key sees those of all tenants, unless it names one."""

    def read(after: str, most: int) -> list[ConnectionRecord]:
        return list(scope.ledger.connections(after, most, integration=integration, status=status))

    return page(read, _shower(scope), lambda record: record.key, cursor, limit)


@router.post("/connections", status_code=201)
def create_connection(scope: CurrentScope, body: NewConnection) -> ConnectionOut:
    """Connect an account by credentials that take no browser.

    For those that do, there are connection requests.
    """
    if body.key is not None and not isinstance(scope, Workspace):
        raise Forbidden(
            "a connection that a tenant makes gets a key of its own", hint="leave `key` out"
        )
    made = scope.accounts.connect(
        scope.owner(),
        body.integration,
        Typed(body.input, body.credentials, body.option, body.test),
        key=body.key or "",
        name=body.name,
    )
    return _shower(scope)(made)


@router.get("/connections/{connection}")
def read_connection(scope: CurrentScope, connection: ConnectionKey) -> ConnectionOut:
    """One connection."""
    return _shower(scope)(scope.ledger.connection(connection))


@router.patch("/connections/{connection}")
def change_connection(
    scope: CurrentScope, connection: ConnectionKey, body: Changes
) -> ConnectionOut:
    """Rename it, pause its syncs, or let them go on."""
    scope.ledger.connection(connection)
    if body.paused is not None:
        scope.accounts.pause(connection) if body.paused else scope.accounts.resume(connection)
    if body.name is not None:
        scope.ledger.rename(connection, body.name)
    return _shower(scope)(scope.ledger.connection(connection))


@router.put("/connections/{connection}/credentials")
def replace_credentials(
    scope: CurrentScope, connection: ConnectionKey, body: NewCredentials
) -> ConnectionOut:
    """Connect the same account anew: its records and links stay, its syncs go on."""
    typed = Typed(body.input, body.credentials, body.option, body.test, body.same_account)
    return _shower(scope)(scope.accounts.reconnect(connection, typed))


@router.delete("/connections/{connection}")
def archive_connection(scope: CurrentScope, connection: ConnectionKey) -> ConnectionOut:
    """Tell the app, and wipe the credentials; the key stays taken, and the records stay."""
    scope.accounts.archive(connection)
    return _shower(scope)(scope.ledger.connection(connection))


@router.post("/connections/{connection}/test")
def test_connection(scope: CurrentScope, connection: ConnectionKey) -> Tested:
    """Ask the app whether it takes the credentials."""
    try:
        scope.accounts.test(connection)
    except (NotAuthorized, UnexpectedAnswer) as error:
        return Tested(works=False, code=error.code, message=error.message, hint=error.hint)
    return Tested(works=True)


@router.post("/connections/{connection}/refresh")
def refresh_connection(scope: CurrentScope, connection: ConnectionKey) -> ConnectionOut:
    """Get new credentials by the old ones, for apps that give some out for a time."""
    scope.accounts.refresh(connection)
    return _shower(scope)(scope.ledger.connection(connection))


def _shower(scope: Scope) -> Callable[[ConnectionRecord], ConnectionOut]:
    """Shows connections of the scope's project."""

    def shown(record: ConnectionRecord) -> ConnectionOut:
        names = ("key", "name", "integration", "tenant", "status", "reason", "option", "account")
        ends = record.expires_at
        return ConnectionOut(
            **{name: getattr(record, name) for name in names},
            input=_public(scope.project, record),
            connected_at=record.connected_at,
            expires_at=None if ends is None else datetime.fromtimestamp(ends, UTC),
        )

    return shown


def _public(project: Project, record: ConnectionRecord) -> dict[str, Any]:
    """The input without what is secret by its schema, and without what no schema knows."""
    if record.integration not in project.integrations:
        return {}
    schema = project.connector(record.integration).input_schema
    shown = set(fields(schema)) - set(sensitive_fields(schema))
    return {name: value for name, value in record.input.items() if name in shown}
