"""Authentication: how a connection proves itself to the external app, never the secrets themselves.

Carried out by `clients/authentication.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import Formula, Schema, Spec, Template, Unfit
from membrane_sync.elements.request import Request

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


class OAuth2(Spec):
    """The provider's OAuth 2 endpoints and habits; client id and secret are parameters."""

    authorize_url: Formula = None
    token_url: Formula = None
    revoke_url: Formula = None
    device_url: Formula = None
    client_id: Formula = None
    client_secret: Formula = None
    scopes: list[str] = Field(default_factory=list)
    client_auth_location: Literal["header", "body", "private_key_jwt"] = "header"
    grant: Literal["authorization_code", "client_credentials", "jwt_bearer", "device_code"] = (
        "authorization_code"
    )
    pkce: bool = True
    refresh: bool = True
    extra: Template = Field(default_factory=dict, description="More parameters of authorize_url")


class OAuth1(Spec):
    """The provider's three-legged OAuth 1 endpoints."""

    request_token_url: Formula
    authorize_url: Formula
    access_token_url: Formula
    consumer_key: Formula = None
    consumer_secret: Formula = None


class Session(Spec):
    """Log in with a call, take a token out of the answer, send it with each request."""

    login: Request
    token: Formula
    expires_in: Formula = None
    renew: Request | None = None


class Signing(Spec):
    """How a request is signed (`hmac`), or a token of our own is made (`jwt`)."""

    algorithm: str = "sha256"
    key: Formula = None
    message: Formula = None
    claims: Template = Field(default_factory=dict)
    encoding: Literal["hex", "base64"] = "hex"


class Authentication(Spec):
    """One way to authenticate; `options` lets the end user choose between several."""

    type: AuthenticationType = "none"
    title: str | None = None
    description: str | None = None
    enabled: Formula = True
    input_schema: Schema = Field(
        default_factory=dict, description="What the end user types; fields here are secrets"
    )
    parameters_schema: Schema = Field(
        default_factory=dict, description="What the developer sets on the integration"
    )
    username: Formula = Field(default=None, description="basic: the user name")
    password: Formula = Field(default=None, description="basic: the password")
    token: Formula = Field(default=None, description="bearer, api_key: the secret to send")
    location: Literal["header", "query", "cookie"] = "header"
    parameter: str = Field(default="Authorization", description="api_key: header or query name")
    prefix: str = Field(default="", description="api_key: text before the token, as `Token `")
    oauth2: OAuth2 | None = None
    oauth1: OAuth1 | None = None
    session: Session | None = None
    signing: Signing | None = None
    options: dict[str, Authentication] = Field(default_factory=dict)

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
}
