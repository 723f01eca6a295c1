"""From a declared authentication and a connection's credentials to an httpx auth flow."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import httpx

from membrane_sync.elements.authentication import Authentication
from membrane_sync.errors import Fatal, NotAuthorized
from membrane_sync.formulas import MISSING, evaluate


def auth_flow(
    authentication: Authentication, credentials: Mapping[str, Any], values: Mapping[str, Any]
) -> httpx.Auth | None:
    """The auth flow for requests, None if the app asks for none.

    Formulas see `$.credentials`, `$.input` and `$.parameters`. Raises NotAuthorized where the
    credentials lack what the declaration uses.
    """
    scope = {**values, "credentials": dict(credentials)}
    if authentication.type == "none":
        return None
    if authentication.type == "basic":
        password = _secret(authentication.password, scope, "password", needed=False)
        return httpx.BasicAuth(_secret(authentication.username, scope, "username"), password)
    if authentication.type == "bearer":
        return _Token(
            "header", "Authorization", f"Bearer {_secret(authentication.token, scope, 'token')}"
        )
    if authentication.type == "api_key":
        token = authentication.prefix + _secret(authentication.token, scope, "token")
        return _Token(authentication.location, authentication.parameter, token)
    raise Fatal(f"authentication of type {authentication.type!r} is not supported yet")


class _Token(httpx.Auth):
    """Sends one secret in a header, the query or a cookie."""

    def __init__(self, location: str, name: str, token: str) -> None:
        if location != "query" and not (token.isascii() and token.isprintable()):
            raise NotAuthorized(
                f"the connection's token has a character that a {location} can't hold",
                hint="connect again: a line break may have been copied along with it",
            )
        self._location = location
        self._name = name
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._location == "query":
            request.url = request.url.copy_set_param(self._name, self._token)
        elif self._location == "cookie":
            present = request.headers.get("Cookie")
            cookie = f"{self._name}={self._token}"
            request.headers["Cookie"] = f"{present}; {cookie}" if present else cookie
        else:
            request.headers[self._name] = self._token
        yield request


def _secret(formula: Any, scope: Mapping[str, Any], what: str, *, needed: bool = True) -> str:
    value = evaluate(formula, scope) if formula is not None else MISSING
    if value is MISSING or value is None or value == "":
        if needed:
            raise NotAuthorized(
                f"the connection's credentials give no {what}",
                hint="connect again: membrane connect",
            )
        return ""
    return str(value)
