"""Several ways to authenticate over HTTP, with a real OAuth provider behind some of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from membrane_sync.apps.oidc_provider import OidcProvider
from tests.server.conftest import Api, open_api
from tests.server.helpers import EchoApp

CONNECTOR = """
base_url: {{$var: $.parameters.url}}
parameters_schema:
  type: object
  properties: {{url: {{type: string}}, secret: {{type: string}}, client: {{type: string}}}}
authentication:
  type: oauth2
  oauth2:
    authorize_url: {provider}/auth
    token_url: {provider}/token
    revoke_url: {provider}/token/revocation
    client_id: {{$var: $.parameters.client}}
    client_secret: {{$var: $.parameters.secret}}
    scopes: ["api:read"]
  options:
    browser:
      title: With your account
      oauth2:
        authorize_url: {provider}/auth
        token_url: {provider}/token
        client_id: {{$var: $.parameters.client}}
        client_secret: {{$var: $.parameters.secret}}
    machine:
      oauth2:
        grant: client_credentials
        token_url: {provider}/token
        client_id: {{$var: $.parameters.client}}
        client_secret: {{$var: $.parameters.secret}}
        scopes: ["api:read"]
    typed:
      type: bearer
      token: {{$var: $.credentials.token}}
      input_schema:
        type: object
        properties: {{token: {{type: string}}}}
        required: [token]
test: {{path: /things}}
"""


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, echo: EchoApp, oidc_provider: OidcProvider
) -> Iterator[Api]:
    root = tmp_path_factory.mktemp("options")
    integration = "\n".join(
        [
            "connector: machine",
            "parameters:",
            f"  url: {oidc_provider.api_url}",
            "  client: machine",
            f"  secret: {oidc_provider.secret('machine')}",
        ]
    )
    files = {
        "connectors/machine/connector.yaml": CONNECTOR.format(provider=oidc_provider.url),
        "mappings/integrations/machine/integration.yaml": integration,
    }
    with open_api(root, echo, files=files) as opened:
        yield opened


def test_the_ways_are_listed_without_the_products_parameters(
    api: Api, oidc_provider: OidcProvider
) -> None:
    answer = api.tenant()("GET", "/integrations/machine")
    options = {o["key"]: o for o in answer.json()["authentication_options"]}
    assert set(options) == {"browser", "machine", "typed"}
    assert options["browser"]["title"] == "With your account"
    assert options["typed"]["input_schema"]["required"] == ["token"]
    assert oidc_provider.secret("machine") not in answer.text
    assert oidc_provider.url not in answer.text


def test_credentials_that_the_app_gives_for_a_time_are_refreshed(
    api: Api, oidc_provider: OidcProvider
) -> None:
    acme = api.tenant()
    made = acme("POST", "/connections", {"integration": "machine", "option": "machine"})
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["option"], shown["status"]) == ("machine", "ready")
    assert shown["expires_at"] is not None
    first = api.runtime.ledger.connection(shown["key"])

    refreshed = acme("POST", f"/connections/{shown['key']}/refresh")
    assert refreshed.status_code == 200, refreshed.text
    second = api.runtime.ledger.connection(shown["key"])
    assert second.version == first.version + 1
    assert second.credentials["access_token"] != first.credentials["access_token"]
    through = acme("GET", f"/connections/{shown['key']}/proxy/things")
    assert (through.status_code, through.headers["X-Membrane-Answered-By"]) == (200, "app")
    for answer in (made, refreshed, through):
        assert first.credentials["access_token"] not in answer.text
        assert second.credentials["access_token"] not in str(answer.headers)


def test_what_needs_a_browser_is_for_connection_requests(api: Api) -> None:
    refused = api.tenant()("POST", "/connections", {"integration": "machine", "option": "browser"})
    assert refused.status_code == 422
    assert "POST /connection-requests" in refused.json()["error"]["hint"]


def test_one_of_several_ways_has_to_be_named(api: Api) -> None:
    several = api.tenant()("POST", "/connections", {"integration": "machine"}).json()["error"]
    assert (several["code"], several["hint"]) == ("fatal", "choose one")
    unknown = api.tenant()("POST", "/connections", {"integration": "machine", "option": "x"})
    assert unknown.status_code == 404


def test_what_is_typed_has_to_fit(api: Api) -> None:
    body = {"integration": "machine", "option": "typed", "credentials": {"tokem": "planted-1"}}
    refused = api.tenant()("POST", "/connections", body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (422, "invalid_input")
    assert {problem["element"] for problem in error["problems"]} == {"token", "tokem"}
    assert "planted-1" not in refused.text


def test_credentials_that_cannot_be_refreshed_say_so(api: Api) -> None:
    key = api.connect()
    answer = api.tenant()("POST", f"/connections/{key}/refresh")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "fatal")
