"""Authentication: how a connection proves itself to the external app, never the secrets themselves.

Carried out by `clients/authentication/`; `project/authentication.py` makes one of root and option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import Formula, Schema, Spec, Template, Unfit
from membrane_sync.elements.request import ErrorRule, Request

AuthenticationType = Literal[
    "none",
    "basic",
    "bearer",
    "api_key",
    "oauth2",
    "oauth1",
    "client_credentials",
    "session",
    "jwt",
    "hmac",
    "mutual_tls",
]

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip


class SignedJwt(Spec):
    """A JWT that we sign: sent as the token, or given to the token endpoint for one."""

    key: Formula = Field(default=None, description="PEM, JWK, or for HS256 and the like the secret")
    key_id: Formula = Field(default=None, description="`kid` of the header")
    algorithm: Algorithm = "RS256"
    issuer: Formula = None
    subject: Formula = None
    audience: Formula = None
    claims: Template = Field(default_factory=dict, description="More claims, or others than these")
    lifetime_seconds: int = Field(default=300, gt=0)


class OAuth2(Spec):
    """The provider's OAuth 2 endpoints and habits; client id and secret are parameters."""

    authorize_url: Formula = Field(default=None, alias="authorizeUri")
    token_url: Formula = Field(default=None, alias="tokenUri")
    revoke_url: Formula = None
    device_url: Formula = None
    client_id: Formula = Field(default=None, description="By default $.parameters.client_id")
    client_secret: Formula = Field(default=None, description="$.parameters.client_secret")
    scopes: Formula = Field(default_factory=list, description="A list, or a formula for one")
    scope_separator: str = " "
    client_auth_location: Literal["header", "body", "private_key_jwt"] = "header"
    grant: Literal["authorization_code", "client_credentials", "jwt_bearer", "device_code"] = (
        "authorization_code"
    )
    assertion: SignedJwt | None = Field(
        default=None, description="What private_key_jwt and the grant jwt_bearer sign with"
    )
    pkce: bool = True
    refresh: bool = Field(default=True, description="false: the app gives no refresh tokens")
    extra: Template = Field(default_factory=dict, description="More parameters of authorize_url")
    token_extra: Template = Field(default_factory=dict, description="More for token_url")

    @model_validator(mode="before")
    @classmethod
    def _by_membranes_names(cls, value: Any) -> Any:
        return oauth2_words(value) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _leaves_the_flow_alone(self) -> OAuth2:
        for key, reserved in (("extra", _AUTHORIZING), ("token_extra", _ASKING)):
            for name in getattr(self, key):
                if name in reserved:
                    raise Unfit(((key, name), f"{name!r} is set by the flow itself"))
        return self


_AUTHORIZING = {"client_id", "redirect_uri", "scope", "state", "code_challenge", "code_verifier"}
_ASKING = {
    *("grant_type", "code", "code_verifier", "redirect_uri", "refresh_token", "device_code"),
    *("client_secret", "assertion", "client_assertion", "url", "body", "auth", "headers"),
    *("method", "state", "cookies", "timeout"),
}
"""What the extra parameters of an endpoint can't be."""


def oauth2_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with Membrane's `skipPkce`, `noRefreshToken` and `headers` in our words."""
    ours = dict(config)
    for theirs, name in (("skipPkce", "pkce"), ("noRefreshToken", "refresh")):
        if theirs in ours:
            ours[name] = not ours.pop(theirs)
    for name in ("clientAuthLocation", "client_auth_location"):
        if ours.get(name) == "headers":
            ours[name] = "header"
    return ours


class OAuth1(Spec):
    """The provider's three-legged OAuth 1 endpoints."""

    request_token_url: Formula = Field(default=None, alias="requestTokenUri")
    authorize_url: Formula = Field(default=None, alias="authorizeUri")
    access_token_url: Formula = Field(default=None, alias="tokenUri")
    consumer_key: Formula = Field(default=None, description="By default $.parameters.consumer_key")
    consumer_secret: Formula = Field(default=None, description="$.parameters.consumer_secret")
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "RSA-SHA1", "PLAINTEXT"] = "HMAC-SHA1"
    realm: Formula = None
    extra: Template = Field(default_factory=dict, description="More parameters of authorize_url")


class Session(Spec):
    """Log in with a call, take a token out of the answer, send it with each request."""

    login: Request
    token: Formula
    expires_in: Formula = Field(default=None, description="Seconds, over the answer's $.body")
    renew: Request | None = Field(default=None, description="A call with the token, for a new one")


class Signing(Spec):
    """How a request is signed with a shared secret (`hmac`).

    Formulas see `$.request` (method, url, host, path, query, body, body_hash), `$.timestamp`,
    `$.timestamp_ms`, `$.date` and `$.nonce`; headers and query see `$.signature` too.
    """

    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: Formula
    key_encoding: Literal["text", "base64", "hex"] = "text"
    message: Formula
    encoding: Literal["hex", "base64"] = "hex"
    headers: Template = Field(default_factory=dict)
    query: Template = Field(default_factory=dict)


class Certificate(Spec):
    """A client certificate and its key, as PEM."""

    certificate: Formula
    private_key: Formula
    passphrase: Formula = None
    authority: Formula = Field(default=None, description="PEM of who signed the app's certificate")


class ClientConfig(Spec):
    """What else goes with every request, by formulas over `$.credentials` (makeApiClient)."""

    base_url: Formula = Field(default=None, alias="baseUri")
    headers: Template = Field(default_factory=dict)
    query: Template = Field(default_factory=dict)
    errors: list[ErrorRule] = Field(
        default_factory=list,
        alias="responseHandlers",
        description="What answers mean; tried before those of authentication and connector",
    )


class AuthenticationFunctions(Spec):
    """Functions of the connector's hooks.py, for what the keys can't say."""

    config: str | None = Field(default=None, alias="getOAuthConfig")
    token_data: str | None = Field(default=None, alias="getTokenData")
    credentials_from_token: str | None = Field(
        default=None, alias="getCredentialsFromAccessTokenResponse"
    )
    credentials_from_refresh: str | None = Field(
        default=None, alias="getCredentialsFromRefreshTokenResponse"
    )
    credentials_from_input: str | None = Field(
        default=None, alias="getCredentialsFromConnectionParameters"
    )
    refresh: str | None = Field(default=None, alias="refreshCredentials")
    client: str | None = Field(default=None, alias="makeApiClient")
    test: str | None = None
    disconnect: str | None = None


class AuthenticationOption(Spec):
    """One way to authenticate; what it leaves open is as the connector's `authentication` says."""

    type: AuthenticationType = "none"
    title: str | None = None
    description: str | None = None
    enabled: Formula = Field(default=True, description="Over $.parameters: is it offered?")
    input_schema: Schema = Field(
        default_factory=dict, description="What the end user types; fields here are secrets"
    )
    parameters_schema: Schema = Field(
        default_factory=dict, description="What the developer sets on the integration"
    )
    username: Formula = Field(default=None, description="basic: the user name")
    password: Formula = Field(default=None, description="basic: the password")
    token: Formula = Field(default=None, description="The secret to send, where it's a token")
    location: Literal["header", "query", "cookie", "basic"] = "header"
    parameter: str = Field(default="Authorization", description="Name of header, query or cookie")
    prefix: str | None = Field(default=None, description="Text before the token, as `Token `")
    oauth2: OAuth2 | None = None
    oauth1: OAuth1 | None = None
    session: Session | None = None
    jwt: SignedJwt | None = None
    signing: Signing | None = None
    certificate: Certificate | None = Field(
        default=None, description="A client certificate, whatever the type"
    )
    credentials_from_token: Template = Field(
        default_factory=dict,
        alias="getCredentialsFromAccessTokenResponse",
        description="More credentials, over the token endpoint's $.token",
    )
    credentials_from_refresh: Template = Field(
        default_factory=dict, alias="getCredentialsFromRefreshTokenResponse"
    )
    credentials_from_input: Template = Field(
        default_factory=dict,
        alias="getCredentialsFromConnectionParameters",
        description="More credentials, over what was typed, $.credentials",
    )
    client: ClientConfig | None = Field(default=None, alias="makeApiClient")
    test: Request | None = Field(default=None, description="Instead of the connector's")
    account_id: Formula = Field(
        default=None,
        description="Which account it is, over $.credentials and the test's answer: $.body and all",
    )
    disconnect: Request | None = Field(default=None, description="A call that ends the access")
    errors: list[ErrorRule] = Field(
        default_factory=list, description="Tried before the connector's"
    )
    functions: AuthenticationFunctions | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_membranes_types(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, Mapping) else None
        return {**value, "type": kind.replace("-", "_")} if isinstance(kind, str) else value


class Authentication(AuthenticationOption):
    """How to authenticate; `options` lets the end user choose between several ways."""

    options: dict[str, AuthenticationOption] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Authentication:
        needed = _NEEDED.get(self.type)
        if needed and getattr(self, needed) is None and not self.options:
            message = f"authentication of type {self.type} needs the key {needed!r}"
            raise Unfit((("type",), message))
        return self


_NEEDED = {
    "basic": "username",
    "bearer": "token",
    "api_key": "token",
    "oauth2": "oauth2",
    "oauth1": "oauth1",
    "session": "session",
    "jwt": "jwt",
    "hmac": "signing",
    "mutual_tls": "certificate",
}
"""The key without which a type says nothing."""
