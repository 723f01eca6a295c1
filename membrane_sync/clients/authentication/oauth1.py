"""OAuth 1.0a in three legs: a request token, the user's consent, an access token; by Authlib."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Generator, Mapping
from typing import Any

import httpx

from membrane_sync.clients.authentication.certificate import tls_of
from membrane_sync.clients.authentication.endpoint import (
    TIMEOUT_SECONDS,
    asking,
    endpoint,
    passable,
)
from membrane_sync.clients.authentication.values import (
    credential,
    declared_anew,
    parameter,
    text,
    texts,
)
from membrane_sync.clients.authentication.way import Way
from membrane_sync.clients.transport import AGENT
from membrane_sync.elements.authentication import AuthenticationOption, OAuth1
from membrane_sync.errors import Defunct, Fatal, NotAuthorized
from membrane_sync.ports import Authorization, DeviceCode, Issued

# After `endpoint`, which keeps its warning about httpx quiet.
from authlib.common.urls import quote  # isort: skip
from authlib.integrations.httpx_client import OAuth1Client  # isort: skip
from authlib.oauth1 import ClientAuth  # isort: skip
from authlib.oauth1.rfc5849.signature import generate_signature_base_string  # isort: skip

Credentials = Mapping[str, Any]
_NOTHING: Credentials = {}


def signer(authentication: AuthenticationOption, scope: Mapping[str, Any]) -> httpx.Auth:
    """Signs each request with the consumer's secret and the connection's."""
    declared = authentication.oauth1 or OAuth1()
    return _Signed(
        ClientAuth(
            **_consumer(declared, scope),
            token=credential({"$var": "$.credentials.oauth_token"}, scope, "token"),
            token_secret=text({"$var": "$.credentials.oauth_token_secret"}, scope, "token secret"),
            realm=text(declared.realm, scope, "oauth1.realm") or None,
        )
    )


def _refuse_plain(url: httpx.URL) -> None:
    if url.scheme != "https":
        raise Fatal(
            f"OAuth 1 is for https:// alone, and {url.host} is to be reached without it",
            hint="give the address that begins with https://",
        )


class _Signed(httpx.Auth):
    """Authlib's own flow for httpx would send a JSON body away empty."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        _refuse_plain(request.url)
        # Only the body of a form is signed, and we send none.
        _, headers, _ = self._client.prepare(request.method, str(request.url), {}, b"")
        request.headers["Authorization"] = headers["Authorization"]
        yield request


def _hmac_sha256(client: Any, request: Any) -> str:
    """What Authlib lacks of RFC 5849's successors; its base string is the same."""
    key = f"{quote(client.client_secret or '')}&{quote(client.token_secret or '')}"
    text = generate_signature_base_string(request)
    return b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


ClientAuth.register_signature_method("HMAC-SHA256", _hmac_sha256)


class OAuth1Authenticator:
    """Implements `ports.Authenticator` for OAuth 1; its tokens don't end by themselves."""

    needs_browser = True
    offers_device = False

    def __init__(self, way: Way) -> None:
        self._way = way

    @property
    def refreshable(self) -> bool:
        return bool(self._way.hooks.refresh)

    def begin(self, redirect_uri: str, state: str, typed: Credentials = _NOTHING) -> Authorization:
        # The protocol knows no state, but sends the user back to this very address.
        back = str(httpx.URL(redirect_uri).copy_merge_params({"state": state}))
        declared, scope = self._declared(typed, redirect_uri=redirect_uri, state=state)
        extra = texts(declared.extra, scope, "oauth1.extra")
        url = self._url(declared.authorize_url, scope, "authorize_url")
        with self._asking(typed), self._client(declared, scope, redirect_uri=back) as client:
            asked = self._url(declared.request_token_url, scope, "request_token_url")
            token = _parsed(client.post(asked), self._way.connector.key)
            client.redirect_uri = None
            to = client.create_authorization_url(url, token["oauth_token"], **extra)
        return Authorization(to, {**token, "typed": dict(typed)})

    def finish(
        self, answer: Mapping[str, str], redirect_uri: str, kept: Mapping[str, Any]
    ) -> Issued:
        typed = kept.get("typed", {})
        verifier = answer.get("oauth_verifier")
        if not verifier or answer.get("oauth_token") != kept["oauth_token"]:
            raise NotAuthorized(
                f"{self._way.connector.key}: the user did not allow it", hint="start anew"
            )
        declared, scope = self._declared(typed, redirect_uri=redirect_uri)
        given = {"token": kept["oauth_token"], "token_secret": kept.get("oauth_token_secret")}
        with (
            self._asking({**typed, **kept}),
            self._client(declared, scope, verifier=verifier, **given) as client,
        ):
            asked = self._url(declared.access_token_url, scope, "access_token_url")
            token = _parsed(client.post(asked), self._way.connector.key)
        template = self._way.authentication.credentials_from_token
        function = self._way.hooks.credentials_from_token
        return self._way.issued({**typed, **token}, template, function, token=token)

    def begin_device(self, *_: Any) -> DeviceCode:
        raise Fatal(f"{self._way.connector.key}: OAuth 1 has no device codes", hint="use begin")

    def poll_device(self, *_: Any) -> Issued | float:
        raise Fatal(f"{self._way.connector.key}: OAuth 1 has no device codes", hint="use begin")

    def issue(self, *_: Any) -> Issued:
        raise Fatal(
            f"{self._way.connector.key}: the user has to allow it", hint="use begin and finish"
        )

    def refresh(self, credentials: Credentials) -> Issued:
        name = self._way.hooks.refresh
        if not name:
            raise Defunct(
                f"{self._way.connector.key}: the app takes the token no longer",
                hint="connect again: membrane connect",
            )
        scope = self._way.scope(credentials)
        made = self._way.run_mapping(name, scope, credentials, signed=False)
        return self._way.issued({**credentials, **made}, {}, None)

    def disconnect(self, credentials: Credentials) -> None:
        self._way.disconnect(credentials)

    def _declared(self, credentials: Credentials, **seen: Any) -> tuple[OAuth1, dict[str, Any]]:
        scope = self._way.scope(credentials, **seen)
        declared = self._way.authentication.oauth1 or OAuth1()
        name = self._way.hooks.config
        if name:
            made = self._way.run_mapping(name, scope, credentials, signed=False)
            declared = declared_anew(declared, made, name)
        return declared, scope

    def _client(self, declared: OAuth1, scope: Mapping[str, Any], **given: Any) -> Any:
        return OAuth1Client(
            **_consumer(declared, scope),
            realm=text(declared.realm, scope, "oauth1.realm") or None,
            headers={"User-Agent": AGENT},
            timeout=TIMEOUT_SECONDS,
            verify=tls_of(self._way.authentication, scope),
            transport=self._way.transport,
            **given,
        )

    def _asking(self, credentials: Credentials) -> Any:
        return asking(self._way.words(credentials), self._way.connector.key, "token endpoint")

    def _url(self, formula: Any, scope: Mapping[str, Any], key: str) -> str:
        url = endpoint(text(formula, scope, key), key, self._way.connector.key)
        _refuse_plain(httpx.URL(url))
        return url


def _consumer(declared: OAuth1, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Who asks, and how it's signed."""
    key = parameter(declared.consumer_key, scope, "consumer_key")
    secret = parameter(declared.consumer_secret, scope, "consumer_secret")
    if not key:
        raise Fatal(
            "there is no consumer_key to authenticate with",
            hint="set consumer_key in the integration's parameters",
        )
    by_rsa = declared.signature_method == "RSA-SHA1"
    return {
        "client_id": key,
        "client_secret": "" if by_rsa else secret,
        "rsa_key": secret if by_rsa else None,
        "signature_method": declared.signature_method,
    }


def _parsed(answer: httpx.Response, app: str) -> dict[str, str]:
    """A token out of a form; raises ValueError where it's none."""
    if answer.status_code in (400, 401, 403):
        raise NotAuthorized(
            f"{app}: the token endpoint refused ({answer.status_code})",
            hint="compare the integration's consumer_key and consumer_secret, and the redirect "
            "URL, with the app's",
        )
    found = dict(httpx.QueryParams(passable(answer, app).text.strip()))
    if not found.get("oauth_token"):
        raise ValueError
    return {name: value for name, value in found.items() if name != "oauth_callback_confirmed"}
