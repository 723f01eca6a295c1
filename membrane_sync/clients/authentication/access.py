"""Which authenticator carries out a declared authentication."""

from __future__ import annotations

from membrane_sync.clients.authentication.session import SessionAuthenticator
from membrane_sync.clients.authentication.typed import TypedAuthenticator
from membrane_sync.clients.authentication.way import Way
from membrane_sync.ports import Authenticator


def authenticator(way: Way) -> Authenticator:
    """Gets, renews and ends credentials as the way's connector declares."""
    declared = way.authentication
    # OAuth is imported only where it's used, as that takes long.
    if declared.type in ("oauth2", "client_credentials") and declared.oauth2 is not None:
        from membrane_sync.clients.authentication.oauth2 import OAuth2Authenticator

        return OAuth2Authenticator(way)
    if declared.type == "oauth1":
        from membrane_sync.clients.authentication.oauth1 import OAuth1Authenticator

        return OAuth1Authenticator(way)
    return (SessionAuthenticator if declared.type == "session" else TypedAuthenticator)(way)
