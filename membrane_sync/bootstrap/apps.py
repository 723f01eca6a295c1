"""How connections reach their apps, and what they prove to them who they are with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from membrane_sync.bootstrap.registration import secret_input
from membrane_sync.bootstrap.stores import Stores
from membrane_sync.clients.api import DEADLINE_SECONDS, HttpApi
from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.account import account_of
from membrane_sync.clients.authentication.flow import client_config
from membrane_sync.clients.authentication.way import Ask, Way
from membrane_sync.clients.hosts import Hosts
from membrane_sync.clients.transport import guarded_transport
from membrane_sync.connections.tokens import Tokens
from membrane_sync.elements.authentication import Authentication
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import NotAuthorized
from membrane_sync.ports import Authenticator, ConnectionRecord, Priority
from membrane_sync.project.authentication import Access, access, accesses
from membrane_sync.project.inputs import checked_input
from membrane_sync.project.project import Project
from membrane_sync.project.trust import address_is_typed
from membrane_sync.records import Answer, Call
from membrane_sync.sync.collection import render

INTERACTIVE_SECONDS = 30.0
"""How long a person who connects is made to wait for an app that's busy."""


class Apps:
    """The apps, as connections reach them."""

    def __init__(self, project: Project, stores: Stores) -> None:
        self._project = project
        self._stores = stores

    def api(
        self,
        connection: ConnectionRecord,
        priority: Priority = "interactive",
        *,
        longest_wait: float = DEADLINE_SECONDS,
    ) -> HttpApi:
        """The external app as the connection reaches it; close it after use.

        The connection is one of the ledger's: its credentials are refreshed there.
        """
        live = self._tokens(connection)
        return self._api(connection, live=live, priority=priority, longest_wait=longest_wait)

    def _api(self, connection: ConnectionRecord, **options: Any) -> HttpApi:
        way = self.access(connection.integration, self.option(connection))
        return HttpApi(
            _reached(way, connection),
            connection,
            way.parameters,
            functions=way.functions,
            quotas=self._stores.quotas,
            hosts=self._hosts(way),
            **options,
        )

    def _hosts(self, way: Access) -> Hosts | None:
        """The hosts that may be called, where whoever asks the API may type in the address."""
        server = self._project.settings.server
        is_typed = server.is_open and address_is_typed(way.connector)
        return Hosts(server.private_hosts) if is_typed else None

    def refresh(self, connection_key: str) -> ConnectionRecord:
        """Refresh the connection's credentials now, though they may still work.

        One that had to be connected anew is ready again if the app goes along. Raises Fatal where
        there's nothing to refresh with, and what the app has against it.
        """
        self._tokens(self._stores.ledger.connection(connection_key)).renew()
        return self._stores.ledger.connection(connection_key)

    def _tokens(self, connection: ConnectionRecord) -> Tokens:
        def authenticator() -> Authenticator:
            option = self.option(connection)
            return self.authenticator(connection.integration, option, connection.input)

        return Tokens(connection, self._stores.ledger.credentials, authenticator)

    def accesses(self, integration: str) -> list[Access]:
        """The ways to authenticate that users of the integration may choose from."""
        return accesses(self._project, integration)

    def access(self, integration: str, option: str = "") -> Access:
        """One way to authenticate; raises NotFound, or Fatal where one has to be chosen."""
        return access(self._project, integration, option)

    def option(self, connection: ConnectionRecord) -> str:
        """The option that the connection authenticates by, as the ledger or its file says."""
        declared = self._project.connection(connection.key)
        return connection.option or (declared.authentication_option or "" if declared else "")

    def authenticator(
        self, integration: str, option: str = "", input: Mapping[str, Any] | None = None
    ) -> Authenticator:
        """Gets and renews credentials for a connection with this input; it's not stored yet."""
        way = self.access(integration, option)
        given = dict(input or {})
        hosts = self._hosts(way)

        def ask(call: Call, credentials: Mapping[str, Any], signed: bool) -> Answer:
            record = ConnectionRecord(
                f"new {integration}", integration, "", input=given, credentials=credentials
            )
            api = HttpApi(
                _reached(way, record) if signed else _open(way),
                record,
                way.parameters,
                functions=way.functions,
                longest_wait=INTERACTIVE_SECONDS,
                hosts=hosts,
            )
            try:
                return api.send(call)
            finally:
                api.close()

        return authenticator(_way(way, given, ask, hosts))

    def secret_input(self, integration: str) -> tuple[str, ...]:
        """Fields of a connection's input that are secrets; none of an integration that's gone."""
        return secret_input(self._project, integration)

    def checked_input(
        self, integration: str, option: str, input: Mapping[str, Any], typed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The connection's input, and what was typed for the option, in their schemas' types.

        Raises InvalidInput, which says of every field what's wrong with it.
        """
        connector = self.access(integration, option).connector
        return (
            checked_input(connector.input_schema, input),
            checked_input(connector.authentication.input_schema, typed),
        )

    def prove(self, connection: ConnectionRecord, *, stored: bool = False) -> str:
        """Call the app's `test`, a request or a function, with the credentials, if it declares one.

        Gives which account they are for, by the connector's `account_id`. Those of a `stored`
        connection are refreshed where that's needed. Raises NotAuthorized, or whatever else the app
        has against it.
        """
        way = self.access(connection.integration, self.option(connection))
        function = way.authentication.functions.test if way.authentication.functions else None
        scope = {"input": dict(connection.input), "parameters": dict(way.parameters)}
        live = self._tokens(connection) if stored else None
        wait, answer = INTERACTIVE_SECONDS, {}
        api = self._api(connection, live=live, priority="interactive", longest_wait=wait)
        try:
            if function:
                asked = _way(way, connection.input, lambda call, *_: api.send(call))
                seen = {**scope, "credentials": dict(connection.credentials)}
                answer = {"body": asked.run(function, seen, connection.credentials)}
                if not answer["body"]:
                    raise NotAuthorized(
                        f"{way.connector.key}: function {function!r} finds the credentials wrong",
                        hint="connect again: membrane connect",
                    )
            elif way.connector.test is not None:
                found = api.send(render(way.connector.test, scope))
                answer = {"body": found.body, "headers": found.headers, "status": found.status}
        finally:
            api.close()
        credentials = dict(connection.credentials)
        return account_of(way.connector, {**scope, "credentials": credentials, **answer})


def _reached(way: Access, connection: ConnectionRecord) -> Connector:
    """The connector as its `client` makes it for these credentials: the address, error rules."""
    scope = {
        "input": dict(connection.input),
        "parameters": dict(way.parameters),
        "credentials": dict(connection.credentials),
    }
    config = client_config(way.authentication, scope, way.functions)
    changed = {"errors": [*config["errors"], *way.connector.errors]} if config["errors"] else {}
    changed |= {"base_url": config["base_url"]} if config["base_url"] else {}
    return way.connector.model_copy(update=changed) if changed else way.connector


def _way(access: Access, input: Mapping[str, Any], ask: Ask, hosts: Hosts | None = None) -> Way:
    return Way(
        connector=access.connector,
        ask=ask,
        render=render,
        input=input,
        parameters=access.parameters,
        functions=access.functions,
        transport=guarded_transport(hosts) if hosts is not None else None,
    )


def _open(way: Access) -> Connector:
    """The connector for calls that go without credentials, as a login does."""
    certificate = way.authentication.certificate
    return way.connector.model_copy(
        update={"authentication": Authentication(certificate=certificate)}
    )
