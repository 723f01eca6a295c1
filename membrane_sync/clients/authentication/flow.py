"""From a declared authentication and a connection's credentials to an httpx auth flow."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from membrane_sync.clients.authentication.signing import hmac_signer, self_signed
from membrane_sync.clients.authentication.values import (
    Functions,
    Scope,
    called,
    credential,
    given_mapping,
    text,
    texts,
)
from membrane_sync.elements.authentication import AuthenticationOption
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import Fatal, NotAuthorized

Step = Callable[[httpx.Request], None]
"""Changes a request in place, just before it's sent."""


def auth_flow(
    authentication: AuthenticationOption,
    credentials: Mapping[str, Any],
    values: Mapping[str, Any],
    functions: Functions | None = None,
) -> httpx.Auth | None:
    """The auth flow for requests, None if nothing is to be added to them.

    Formulas see `$.credentials`, `$.input` and `$.parameters`, and so do `functions` of hooks.py.
    Raises NotAuthorized where the credentials lack what the declaration uses.
    """
    scope = {**values, "credentials": dict(credentials)}
    config = client_config(authentication, scope, functions or {})
    steps: list[Step] = []
    if config["headers"] or config["query"]:
        steps.append(_sends(config["headers"], config["query"]))
    if authentication.type == "oauth1":
        # Only here, as it takes long to import.
        from membrane_sync.clients.authentication.oauth1 import signer

        return _Flow(steps, signer(authentication, scope))
    steps += _proofs(authentication, scope)
    return _Flow(steps) if steps else None


def client_config(
    authentication: AuthenticationOption, scope: Scope, functions: Functions
) -> dict[str, Any]:
    """What `client`, and the function of this name, say: base_url, headers, query, and `errors`.

    Membrane's names `baseUri`, `auth` and `responseHandlers` are understood.
    """
    declared, named = authentication.client, authentication.functions
    config: dict[str, Any] = {"base_url": "", "headers": {}, "query": {}, "errors": []}
    if declared is not None:
        config["base_url"] = text(declared.base_url, scope, "client.base_url")
        config["headers"] = texts(declared.headers, scope, "client.headers")
        config["query"] = texts(declared.query, scope, "client.query")
        config["errors"] = declared.errors
    if named is not None and named.client:
        made = given_mapping(named.client, called(functions, named.client, scope))
        config["base_url"] = str(made.get("base_url") or made.get("baseUri") or config["base_url"])
        config["headers"] |= {k: str(v) for k, v in (made.get("headers") or {}).items()}
        config["query"] |= {k: str(v) for k, v in (made.get("query") or {}).items()}
        config["errors"] = [*_rules(named.client, made), *config["errors"]]
        if isinstance(made.get("auth"), Mapping):
            user, password = made["auth"].get("username", ""), made["auth"].get("password", "")
            config["headers"]["Authorization"] = _basic(str(user), str(password))
    for value in config["headers"].values():
        _refuse_unsendable(value, "header")
    return config


def _rules(function: str, made: Mapping[str, Any]) -> list[ErrorRule]:
    """The error rules that the function gave."""
    given = made.get("errors") or made.get("responseHandlers") or []
    try:
        return [ErrorRule.model_validate(rule) for rule in given]
    except (ValidationError, TypeError):
        raise Fatal(
            f"function {function!r} of hooks.py gave `errors` that are no list of error rules",
            hint="their keys are those that connector.yaml has for `errors`",
        ) from None


def _proofs(authentication: AuthenticationOption, scope: Scope) -> list[Step]:
    """What the type adds to a request."""
    kind = authentication.type
    if kind == "basic":
        user = credential(authentication.username, scope, "username")
        password = text(authentication.password, scope, "password")
        return [_sends({"Authorization": _basic(user, password)}, {})]
    if kind == "hmac" and authentication.signing is not None:
        return [hmac_signer(authentication.signing, scope, authentication)]
    if kind == "jwt" and authentication.jwt is not None:
        jwt = authentication.jwt
        return [lambda request: _token(authentication, self_signed(jwt, scope))(request)]
    formula = _TOKENS.get(kind) if authentication.token is None else authentication.token
    if kind in ("none", "mutual_tls") or formula is None:
        return []
    return [_token(authentication, credential(formula, scope, "token"))]


_TOKENS: dict[str, Any] = {
    "oauth2": {"$var": "$.credentials.access_token"},
    "client_credentials": {"$var": "$.credentials.access_token"},
    "session": {"$var": "$.credentials.token"},
}
"""Where credentials have the token to send, unless `token` says otherwise."""


def _token(authentication: AuthenticationOption, token: str) -> Step:
    """Sends one secret in a header, the query, a cookie, or as the user name of basic auth."""
    where, name = authentication.location, authentication.parameter
    bearer = authentication.type != "api_key" and (where, name) == ("header", "Authorization")
    prefix = authentication.prefix
    token = (("Bearer " if bearer else "") if prefix is None else prefix) + token
    if where != "query":
        _refuse_unsendable(token, where)
    if where == "query":
        return _sends({}, {name: token})
    if where == "basic":
        return _sends({"Authorization": _basic(token, "")}, {})
    return _cookie(name, token) if where == "cookie" else _sends({name: token}, {})


def _sends(headers: Mapping[str, str], query: Mapping[str, str]) -> Step:
    def step(request: httpx.Request) -> None:
        request.headers.update(headers)
        for name, value in query.items():
            request.url = request.url.copy_set_param(name, value)

    return step


def _cookie(name: str, token: str) -> Step:
    def step(request: httpx.Request) -> None:
        present = request.headers.get("Cookie")
        cookie = f"{name}={token}"
        request.headers["Cookie"] = f"{present}; {cookie}" if present else cookie

    return step


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


def _refuse_unsendable(secret: str, where: str) -> None:
    if not (secret.isascii() and secret.isprintable()):
        raise NotAuthorized(
            f"the connection's token has a character that a {where} can't hold",
            hint="connect again: a line break may have been copied along with it",
        )


class _Flow(httpx.Auth):
    """Each step in turn; then the flow, if there's one, that signs what they made."""

    requires_request_body = True

    def __init__(self, steps: Sequence[Step], then: httpx.Auth | None = None) -> None:
        self._steps = steps
        self._then = then

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for step in self._steps:
            step(request)
        if self._then is None:
            yield request
        else:
            yield from self._then.auth_flow(request)
