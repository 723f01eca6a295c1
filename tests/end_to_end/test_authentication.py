"""Connections of a project that log in at real apps: OAuth with options, and a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from membrane_sync.apps.oidc_provider import CALLBACK, OidcProvider
from membrane_sync.apps.pocketbase import PocketBase
from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.errors import Defunct, InvalidInput, NotAuthorized
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Call
from tests.project.projects import write

OAUTH_APP = """\
base_url: {$var: $.input.url}
input_schema: {properties: {url: {type: string, format: uri}}, required: [url]}
test: {path: /records}
authentication:
  parameters_schema:
    properties: {provider: {type: string}, client_id: {type: string}, client_secret: {type: string}}
    required: [provider, client_id]
  oauth2:
    authorize_url: {$concat: [{$var: $.parameters.provider}, /auth]}
    token_url: {$concat: [{$var: $.parameters.provider}, /token]}
    revoke_url: {$concat: [{$var: $.parameters.provider}, /token/revocation]}
    extra: {prompt: consent}
  options:
    user:
      type: oauth2
      oauth2: {scopes: [openid, offline_access, "api:read"]}
      functions: {credentials_from_token: account, test: alive}
    machine:
      type: client_credentials
"""

HOOKS = """\
def account(scope):
    found = yield {"path": "/records"}
    return {"account": found.body["sub"]}


def alive(scope):
    found = yield {"path": "/records"}
    return found.body["sub"] == scope["credentials"]["account"]
"""

SESSION_APP = """\
base_url: {$var: $.input.url}
input_schema: {properties: {url: {type: string}}, required: [url]}
test: {path: /api/collections, query: {perPage: 1}}
authentication:
  type: session
  prefix: ""
  input_schema:
    properties:
      email: {type: string}
      password: {type: string, isSensitive: true}
    required: [email, password]
  session:
    login:
      method: POST
      path: /api/collections/_superusers/auth-with-password
      body: {identity: {$var: $.credentials.email}, password: {$var: $.credentials.password}}
    token: {$var: $.body.token}
    expires_in: 1200
    renew: {method: POST, path: /api/collections/_superusers/auth-refresh}
"""


def runtime(root: Path, connector: str, integration: str, hooks: str = "") -> Runtime:
    files = {
        "connectors/app/connector.yaml": connector,
        "mappings/integrations/app/integration.yaml": integration,
        "pyproject.toml": "",
    }
    write(root, {**files, **({"connectors/app/hooks.py": hooks} if hooks else {})})
    return open_runtime(root)


@pytest.fixture
def oauth_app(oidc_provider: OidcProvider, tmp_path: Path) -> Runtime:
    parameters = {
        "provider": oidc_provider.url,
        "client_id": "basic",
        "client_secret": oidc_provider.secret("basic"),
    }
    machine = {"client_id": "machine", "client_secret": oidc_provider.secret("machine")}
    choices = {"machine": {"parameters": machine}}
    integration = f"parameters: {parameters}\nauthentication_options: {choices}\n"
    return runtime(tmp_path, OAUTH_APP, integration, HOOKS)


def test_a_user_connects_by_oauth(oidc_provider: OidcProvider, oauth_app: Runtime) -> None:
    assert [way.option for way in oauth_app.apps.accesses("app")] == ["user", "machine"]
    given, typed = oauth_app.apps.checked_input("app", "user", {"url": oidc_provider.api_url}, {})
    ours = oauth_app.apps.authenticator("app", "user", given)
    assert ours.needs_browser
    begun = ours.begin(CALLBACK, "state", typed)
    issued = ours.finish(oidc_provider.allow(begun.url, "ann"), CALLBACK, begun.kept)
    assert issued.credentials["account"] == "ann"
    record = connection(given, issued.credentials, "user")
    oauth_app.apps.prove(record)
    assert call(oauth_app, record, "/records")["sub"] == "ann"
    renewed = ours.refresh(record.credentials).credentials
    oauth_app.apps.prove(connection(given, renewed, "user"))
    other = connection(given, {**renewed, "account": "bob"}, "user")
    with pytest.raises(NotAuthorized, match="'alive' finds the credentials wrong"):
        oauth_app.apps.prove(other)
    ours.disconnect(renewed)
    with pytest.raises(NotAuthorized):
        oauth_app.apps.prove(connection(given, renewed, "user"))
    with pytest.raises(Defunct):
        ours.refresh(renewed)


def test_a_machine_connects_by_itself(oidc_provider: OidcProvider, oauth_app: Runtime) -> None:
    given = {"url": oidc_provider.api_url}
    issued = oauth_app.apps.authenticator("app", "machine", given).issue({})
    record = connection(given, issued.credentials, "machine")
    oauth_app.apps.prove(record)
    assert call(oauth_app, record, "/records")["sub"] == "machine"


def test_a_session(pocketbase: PocketBase, tmp_path: Path) -> None:
    app = runtime(tmp_path, SESSION_APP, "name: App\n")
    with pytest.raises(InvalidInput, match="'password' is required"):
        app.apps.checked_input("app", "", {"url": pocketbase.url}, {"email": pocketbase.email})
    given, typed = app.apps.checked_input(
        "app",
        "",
        {"url": pocketbase.url},
        {"email": pocketbase.email, "password": pocketbase.password},
    )
    ours = app.apps.authenticator("app", "", given)
    issued = ours.issue(typed)
    assert issued.expires_in == 1200
    app.apps.prove(connection(given, issued.credentials))
    renewed = ours.refresh(issued.credentials)
    assert renewed.credentials["password"] == pocketbase.password
    app.apps.prove(connection(given, renewed.credentials))
    # Where the old token is of no use any more, what was typed still is.
    again = ours.refresh({**issued.credentials, "token": "ended"})
    app.apps.prove(connection(given, again.credentials))
    with pytest.raises(Defunct) as caught:
        ours.refresh({**typed, "password": "planted-wrong", "token": "ended"})
    assert "planted" not in str(caught.value)


def test_a_wrong_password(pocketbase: PocketBase, tmp_path: Path) -> None:
    app = runtime(tmp_path, SESSION_APP, "name: App\n")
    ours = app.apps.authenticator("app", "", {"url": pocketbase.url})
    with pytest.raises(NotAuthorized) as caught:
        ours.issue({"email": pocketbase.email, "password": "planted-wrong"})
    assert "planted" not in str(caught.value)


def connection(given: dict[str, Any], credentials: Any, option: str = "") -> ConnectionRecord:
    return ConnectionRecord(
        "acme", "app", "acme", input=given, credentials=credentials, option=option
    )


def call(runtime: Runtime, record: ConnectionRecord, path: str) -> dict[str, Any]:
    api = runtime.apps.api(record)
    try:
        found: dict[str, Any] = api.send(Call("GET", path)).body
        return found
    finally:
        api.close()
