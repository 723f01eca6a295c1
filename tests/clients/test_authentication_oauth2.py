"""OAuth 2 against a certified provider: every grant, every way for a client to prove itself."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from membrane_sync.apps.oidc_provider import CALLBACK, OidcProvider
from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.way import Way
from membrane_sync.elements.connector import Connector
from membrane_sync.ports import Authenticator
from membrane_sync.records import Answer, Call


def no_call(call: Call, credentials: Any) -> Answer:
    raise AssertionError("the connector's host isn't asked")


def way(authentication: dict[str, Any], parameters: dict[str, Any], **more: Any) -> Way:
    connector = Connector.model_validate(
        {"key": "app", "base_url": "https://app.test", "authentication": authentication}
    )
    return Way(connector, no_call, None, parameters=parameters, **more)  # type: ignore[arg-type]


def of(provider: OidcProvider, client: str = "basic", **oauth2: Any) -> Authenticator:
    declared = {
        "authorize_url": provider.authorize_url,
        "token_url": provider.token_url,
        "revoke_url": provider.revoke_url,
        "device_url": provider.device_url,
        "scopes": ["openid", "offline_access", "api:read"],
        "extra": {"prompt": "consent"},
        **oauth2,
    }
    parameters = {"client_id": client}
    if client in ("basic", "post", "machine"):
        parameters["client_secret"] = provider.secret(client)
    return authenticator(way({"type": "oauth2", "oauth2": declared}, parameters))


def connected(provider: OidcProvider, ours: Authenticator, login: str = "ann") -> dict[str, Any]:
    begun = ours.begin(CALLBACK, "state-1")
    back = provider.allow(begun.url, login)
    assert back["state"] == "state-1"
    issued = ours.finish(back, CALLBACK, begun.kept)
    assert issued.expires_in == 3600
    return dict(issued.credentials)


def status(provider: OidcProvider, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{provider.api_url}/records", headers=headers).status_code


@pytest.mark.parametrize(
    ("client", "location"), [("basic", "header"), ("post", "body"), ("public", "header")]
)
def test_code_and_refresh(oidc_provider: OidcProvider, client: str, location: str) -> None:
    ours = of(oidc_provider, client, client_auth_location=location)
    credentials = connected(oidc_provider, ours)
    assert status(oidc_provider, credentials["access_token"]) == 200
    renewed = ours.refresh(credentials)
    assert renewed.expires_in == 3600
    assert renewed.credentials["refresh_token"] != credentials["refresh_token"]
    assert status(oidc_provider, renewed.credentials["access_token"]) == 200
