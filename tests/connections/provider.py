"""The real OAuth provider: an authenticator for it, a user's grant, and what it was asked."""

from __future__ import annotations

from typing import Any

import httpx

from membrane_sync.apps.oidc_provider import CALLBACK, OidcProvider
from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.way import Way
from membrane_sync.elements.connector import Connector
from membrane_sync.ports import Authenticator, Issued

CLIENT = "basic"


def connector(provider: OidcProvider) -> dict[str, Any]:
    """The provider's API as connector.yaml has it."""
    oauth2 = {
        "authorize_url": provider.authorize_url,
        "token_url": provider.token_url,
        "scopes": ["openid", "offline_access", "api:read"],
        "extra": {"prompt": "consent"},
    }
    authentication = {"type": "oauth2", "oauth2": oauth2}
    return {"key": "app", "base_url": provider.api_url, "authentication": authentication}


def authenticator_of(provider: OidcProvider) -> Authenticator:
    return made(connector(provider), provider.secret(CLIENT))


def made(declared: dict[str, Any], secret: str) -> Authenticator:
    """What carries out a declared authentication."""
    parameters = {"client_id": CLIENT, "client_secret": secret}
    way = Way(Connector.model_validate(declared), _no_call, _no_call, parameters=parameters)
    return authenticator(way)


def _no_call(*_: Any) -> Any:
    raise AssertionError("no other calls are made")


def grant(provider: OidcProvider, user: str) -> Issued:
    """What a user gives who logs in and agrees."""
    ours = authenticator_of(provider)
    begun = ours.begin(CALLBACK, "a-state")
    return ours.finish(provider.allow(begun.url, user), CALLBACK, begun.kept)


def refreshes(provider: OidcProvider) -> list[int]:
    """The status of each refresh that the provider was asked for."""
    return [call["status"] for call in provider.calls() if call.get("grant") == "refresh_token"]


def works(provider: OidcProvider, access_token: str) -> bool:
    """Whether the provider's API takes the token."""
    bearer = {"Authorization": f"Bearer {access_token}"}
    return httpx.get(f"{provider.api_url}/records", headers=bearer, timeout=30).status_code == 200
