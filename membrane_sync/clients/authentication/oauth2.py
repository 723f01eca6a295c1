"""OAuth 2: from an authorization, a grant or a device code to tokens, and from old to new ones.

The protocol is Authlib's; here it's told what the connector declares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httpx
from authlib.common.security import generate_token

from membrane_sync.clients.authentication.certificate import tls_of
from membrane_sync.clients.authentication.endpoint import (
    TIMEOUT_SECONDS,
    OAuthError,
    asking,
    endpoint,
    passable,
)
from membrane_sync.clients.authentication.signing import signed_jwt, signing_key
from membrane_sync.clients.authentication.values import (
    declared_anew,
    mapping,
    parameter,
    text,
    texts,
    value,
)
from membrane_sync.clients.authentication.way import Way
from membrane_sync.clients.transport import AGENT
from membrane_sync.elements.authentication import OAuth2, oauth2_words
from membrane_sync.errors import Defunct, Fatal, NotAuthorized, UnexpectedAnswer
from membrane_sync.ports import Authorization, DeviceCode, Issued

# After `endpoint`, which keeps its warning about httpx quiet.
from authlib.integrations.httpx_client import OAuth2Client  # isort: skip
from authlib.oauth2.rfc7523 import PrivateKeyJWT  # isort: skip

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_USERLESS = ("client_credentials", "jwt_bearer")
_SLOWER_SECONDS = 5.0
_ENDED = ("invalid_token", "unsupported_token_type")
"""What an app says that ends no such token, or has ended it already."""

Credentials = Mapping[str, Any]
_NOTHING: Credentials = {}


class OAuth2Authenticator:
    """Implements `ports.Authenticator` for one way of OAuth 2."""

    def __init__(self, way: Way) -> None:
        self._way = way
        declared = way.authentication.oauth2 or OAuth2()
        userless = way.authentication.type == "client_credentials"
        self._grant = "client_credentials" if userless else declared.grant
        self._declared = declared

    @property
    def needs_browser(self) -> bool:
        return self._grant == "authorization_code"

    @property
    def offers_device(self) -> bool:
        return self._declared.device_url is not None or self._grant == "device_code"

    @property
    def refreshable(self) -> bool:
        return bool(self._way.hooks.refresh) or self._grant in _USERLESS or self._declared.refresh

    def begin(self, redirect_uri: str, state: str, typed: Credentials = _NOTHING) -> Authorization:
        app = self._app(typed, redirect_uri=redirect_uri, state=state)
        kept: dict[str, Any] = {"typed": dict(typed)} if typed else {}
        if app.config.pkce:
            kept["code_verifier"] = generate_token(64)
        wanted = {"redirect_uri": redirect_uri, **app.scopes(), **app.texts("extra")}
        with app.client() as client:
            url, _ = client.create_authorization_url(
                app.url("authorize_url"), state, kept.get("code_verifier"), **wanted
            )
        return Authorization(url, kept)

    def finish(
        self, answer: Mapping[str, str], redirect_uri: str, kept: Mapping[str, Any]
    ) -> Issued:
        typed = kept.get("typed", {})
        code = self._code(answer, typed)
        app = self._app(typed, redirect_uri=redirect_uri)
        given = {"code": code, "redirect_uri": redirect_uri}
        if kept.get("code_verifier"):
            given["code_verifier"] = kept["code_verifier"]
        function = self._way.hooks.token_data
        if function:
            scope = self._way.scope(typed, **given, answer=dict(answer))
            made = self._way.run_mapping(function, scope, typed, signed=False)
            token = _checked(made, self._name)
        else:
            token = app.token("authorization_code", {**given, **app.texts("token_extra")})
        return self._issued(typed, token)

    def begin_device(self, typed: Credentials = _NOTHING) -> DeviceCode:
        app = self._app(typed)
        data = {"client_id": app.client_id, **app.scopes()}
        found = app.post("device_url", data, "device endpoint")
        try:
            return DeviceCode(
                user_code=str(found["user_code"]),
                verification_url=str(found.get("verification_uri") or found["verification_url"]),
                expires_in=float(found.get("expires_in", 600)),
                interval=float(found.get("interval", _SLOWER_SECONDS)),
                complete_url=str(found.get("verification_uri_complete") or ""),
                kept={"device_code": found["device_code"], "typed": dict(typed)},
            )
        except (KeyError, TypeError, ValueError):
            raise UnexpectedAnswer(
                f"{self._name}: the device endpoint gave no code", hint="is device_url right?"
            ) from None

    def poll_device(self, code: DeviceCode) -> Issued | float:
        typed = code.kept.get("typed", {})
        app = self._app(typed)
        given = {"device_code": code.kept["device_code"], **app.texts("token_extra")}
        try:
            token = app.token(DEVICE_CODE, given, waiting=True)
        except TooEarly as early:
            return code.interval + (_SLOWER_SECONDS if early.slower else 0.0)
        return self._issued(typed, token)

    def issue(self, typed: Credentials) -> Issued:
        if self._grant not in _USERLESS:
            raise Fatal(f"{self._name}: the user has to allow it", hint="use begin and finish")
        return self._granted(typed)

    def refresh(self, credentials: Credentials) -> Issued:
        way, hooks = self._way, self._way.hooks
        if hooks.refresh:
            scope = way.scope(credentials)
            token: Mapping[str, Any] = way.run_mapping(
                hooks.refresh, scope, credentials, signed=False
            )
        elif self._grant in _USERLESS:
            return self._granted(credentials, renewing=True)
        else:
            token = self._renewed(credentials)
        template = way.authentication.credentials_from_refresh
        function = hooks.credentials_from_refresh
        return way.issued({**credentials, **token}, template, function, token=dict(token))

    def disconnect(self, credentials: Credentials) -> None:
        self._way.disconnect(credentials)
        if self._declared.revoke_url is None:
            return
        app = self._app(credentials)
        for hint in ("refresh_token", "access_token"):
            if credentials.get(hint):
                app.revoke(str(credentials[hint]), hint)

    @property
    def _name(self) -> str:
        return self._way.connector.key

    def _app(self, credentials: Credentials, **seen: Any) -> _App:
        return _App(self._way, self._declared, credentials, seen)

    def _issued(self, typed: Credentials, token: Mapping[str, Any]) -> Issued:
        template = self._way.authentication.credentials_from_token
        function = self._way.hooks.credentials_from_token
        return self._way.issued({**typed, **token}, template, function, token=dict(token))

    def _granted(self, typed: Credentials, *, renewing: bool = False) -> Issued:
        """What the app gives without a user."""
        app = self._app(typed)
        given = {**app.scopes(), **app.texts("token_extra")}
        grant = "client_credentials"
        if self._grant == "jwt_bearer":
            grant, given["assertion"] = JWT_BEARER, app.assertion()
        return self._issued(typed, app.token(grant, given, renewing=renewing))

    def _renewed(self, credentials: Credentials) -> dict[str, Any]:
        secret = credentials.get("refresh_token")
        if not secret:
            raise Defunct(
                f"{self._name}: the access has ended, and the app gave no refresh token",
                hint="connect again: membrane connect",
            )
        return self._app(credentials).renewed(str(secret))

    def _code(self, answer: Mapping[str, str], typed: Credentials) -> str:
        error = answer.get("error")
        with asking(self._way.words(typed), self._name, "app"):
            if error:
                raise OAuthError(error, answer.get("error_description"))
        if not answer.get("code"):
            raise NotAuthorized(
                f"{self._name}: the app sent the user back without a code", hint="start anew"
            )
        return answer["code"]


class TooEarly(Exception):  # no error: the user isn't done yet
    """The user hasn't allowed it yet; `slower`: one asks too often."""

    def __init__(self, *, slower: bool) -> None:
        super().__init__()
        self.slower = slower


class _App:
    """The provider, as one set of credentials and parameters describes it."""

    def __init__(
        self, way: Way, declared: OAuth2, credentials: Credentials, seen: Mapping[str, Any]
    ) -> None:
        self._way = way
        self._credentials = credentials
        self._scope = way.scope(credentials, **seen)
        self._words = way.words(credentials)
        self.config = _configured(way, declared, self._scope, credentials)
        self.client_id = parameter(self.config.client_id, self._scope, "client_id")

    def url(self, key: str) -> str:
        """One of the provider's addresses."""
        found = text(getattr(self.config, key), self._scope, key)
        return endpoint(found, key, self._way.connector.key)

    def texts(self, key: str) -> dict[str, str]:
        """More parameters for one of the endpoints."""
        return texts(getattr(self.config, key), self._scope, key)

    def scopes(self) -> dict[str, str]:
        """The parameter `scope`; none where no scope is asked for."""
        found = value(self.config.scopes, self._scope, "scopes")
        if isinstance(found, list | tuple):
            found = self.config.scope_separator.join(str(item) for item in found)
        return {"scope": str(found)} if found else {}

    def assertion(self) -> str:
        """A JWT in place of a code."""
        if self.config.assertion is None:
            raise Fatal(f"{self._way.connector.key}: oauth2 needs `assertion`, to sign with")
        defaults = {"aud": self.url("token_url")}
        defaults |= {"iss": self.client_id} if self.client_id else {}
        return signed_jwt(self.config.assertion, self._scope, **defaults)

    def client(self) -> Any:
        """Authlib's client; close it after use."""
        if not self.client_id and self.config.grant != "jwt_bearer":
            raise Fatal(
                f"{self._way.connector.key}: there is no client_id to authenticate with",
                hint="set client_id in the integration's parameters",
            )
        method, secret = self._proof()
        client = OAuth2Client(
            client_id=self.client_id,
            client_secret=secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            code_challenge_method="S256",
            headers={"User-Agent": AGENT},
            timeout=TIMEOUT_SECONDS,
            verify=tls_of(self._way.authentication, self._scope),
            transport=self._way.transport,
        )
        usable = partial(passable, app=self._way.connector.key)
        client.register_compliance_hook("access_token_response", usable)
        client.register_compliance_hook("refresh_token_response", usable)
        return client

    def token(
        self,
        grant: str,
        given: Mapping[str, str],
        *,
        renewing: bool = False,
        waiting: bool = False,
    ) -> dict[str, Any]:
        """The token that the endpoint gives; `waiting`: TooEarly where the user isn't done."""
        # Without a client, the assertion is all the proof there is.
        auth = None if self.client_id else httpx.Auth()

        def fetch(client: Any) -> Any:
            return client.fetch_token(self.url("token_url"), grant_type=grant, auth=auth, **given)

        return self._asked(fetch, renewing=renewing, waiting=waiting)

    def renewed(self, secret: str) -> dict[str, Any]:
        """The tokens that follow upon a refresh token."""
        extra = self.texts("token_extra")
        return self._asked(
            lambda client: client.refresh_token(
                self.url("token_url"), refresh_token=secret, **extra
            ),
            renewing=True,
        )

    def revoke(self, token: str, hint: str) -> None:
        """End a token; one that has ended already is no error."""
        what = "revocation endpoint"
        with self._asking(what), self.client() as client:
            answer = client.revoke_token(self.url("revoke_url"), token=token, token_type_hint=hint)
            passable(answer, self._way.connector.key, what)
            error = answer.json().get("error") if answer.is_error else None
            if error and error not in _ENDED:
                raise OAuthError(error, answer.json().get("error_description"))

    def post(self, key: str, data: Mapping[str, str], what: str) -> dict[str, Any]:
        """What another endpoint answers, asked with the client's own proof."""
        with self._asking(what), self.client() as client:
            proof = client.client_auth(client.token_endpoint_auth_method)
            answer = client.post(self.url(key), data=data, auth=proof, headers=_JSON)
            body = passable(answer, self._way.connector.key, what).json()
            if not isinstance(body, dict):
                raise ValueError
            if "error" in body:
                raise OAuthError(body["error"], body.get("error_description"))
            return body

    def _asked(
        self, fetch: Callable[[Any], Any], *, renewing: bool = False, waiting: bool = False
    ) -> dict[str, Any]:
        with self._asking("token endpoint", renewing=renewing), self.client() as client:
            try:
                token = dict(fetch(client))
            except OAuthError as error:
                if waiting and error.error in ("authorization_pending", "slow_down"):
                    raise TooEarly(slower=error.error == "slow_down") from None
                raise
        return _checked(token, self._way.connector.key)

    def _asking(self, what: str, *, renewing: bool = False) -> Any:
        return asking(self._words, self._way.connector.key, what, renewing=renewing)

    def _proof(self) -> tuple[Any, Any]:
        """How the client authenticates at the endpoints, and what with."""
        location = self.config.client_auth_location
        if location == "private_key_jwt":
            return self._signed_proof()
        secret = parameter(self.config.client_secret, self._scope, "client_secret")
        if not secret:
            return "none", None
        return ("client_secret_post" if location == "body" else "client_secret_basic"), secret

    def _signed_proof(self) -> tuple[Any, Any]:
        declared = self.config.assertion
        if declared is None:
            raise Fatal(f"{self._way.connector.key}: private_key_jwt needs `assertion`")
        claims = mapping(declared.claims, self._scope, "claims")
        audience = text(declared.audience, self._scope, "audience")
        claims |= {"aud": audience} if audience else {}
        key_id = text(declared.key_id, self._scope, "key_id")
        proof = PrivateKeyJWT(
            claims=claims, headers={"kid": key_id} if key_id else {}, alg=declared.algorithm
        )
        return proof, signing_key(declared, self._scope)


_JSON = {"Accept": "application/json"}


def _configured(
    way: Way, declared: OAuth2, scope: Mapping[str, Any], credentials: Credentials
) -> OAuth2:
    """What is declared, and over it what the function `config` gives."""
    function = way.hooks.config
    if not function:
        return declared
    made = oauth2_words(way.run_mapping(function, scope, credentials, signed=False))
    return declared_anew(declared, made, function)


def _checked(token: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The token, if it is one; Authlib's own note of when it ends is left out."""
    if not token.get("access_token"):
        raise UnexpectedAnswer(
            f"{app}: the token endpoint gave no access_token", hint="is token_url right?"
        )
    made_by_authlib = "expires_in" in token
    return {k: v for k, v in token.items() if k != "expires_at" or not made_by_authlib}
