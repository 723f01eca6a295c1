"""OAuth 2 against a certified provider: every grant, every way for a client to prove itself."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from membrane_sync.apps.oidc_provider import CALLBACK, OidcProvider, start_oidc_provider
from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.way import Way
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    Fatal,
    MembraneError,
    NotAuthorized,
    RateLimited,
)
from membrane_sync.ports import Authenticator, Issued
from membrane_sync.records import Answer, Call


def no_call(call: Call, credentials: Any, signed: bool) -> Answer:
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


def test_a_refresh_token_used_twice_is_defunct(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider)
    credentials = connected(oidc_provider, ours)
    renewed = ours.refresh(credentials).credentials
    with pytest.raises(Defunct, match="invalid_grant") as caught:
        ours.refresh(credentials)
    assert "membrane connect" in caught.value.hint
    assert no_secret_in(caught.value, credentials, renewed)
    assert status(oidc_provider, str(renewed["access_token"])) == 401


def test_a_refresh_that_does_not_rotate(oidc_provider_dir: Path, tmp_path: Path) -> None:
    with start_oidc_provider(oidc_provider_dir, data=tmp_path, rotate=False) as provider:
        ours = of(provider)
        credentials = connected(provider, ours)
        renewed = ours.refresh(credentials).credentials
        assert renewed["refresh_token"] == credentials["refresh_token"]
        assert renewed["access_token"] != credentials["access_token"]


def test_client_credentials(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider, "machine", grant="client_credentials", scopes="api:read api:write")
    assert not ours.needs_browser
    assert ours.refreshable
    issued = ours.issue({"note": "typed"})
    assert issued.credentials["scope"] == "api:read api:write"
    assert issued.credentials["note"] == "typed"
    assert status(oidc_provider, str(issued.credentials["access_token"])) == 200
    again = ours.refresh(issued.credentials)
    assert again.credentials["access_token"] != issued.credentials["access_token"]


def test_private_key_jwt(oidc_provider_dir: Path, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})
    public = key.as_dict(private=False)
    with start_oidc_provider(oidc_provider_dir, data=tmp_path, public_key=public) as provider:
        assertion = {
            "key": {"$var": "$.parameters.private_key"},
            "key_id": "k1",
            "algorithm": "ES256",
            "audience": provider.url,
        }
        oauth2 = {"client_auth_location": "private_key_jwt", "assertion": assertion}
        declared = {
            "authorize_url": provider.authorize_url,
            "token_url": provider.token_url,
            "scopes": ["api:read"],
            "extra": {"prompt": "consent"},
            **oauth2,
        }
        parameters = {"client_id": "key", "private_key": key.as_pem(private=True).decode()}
        ours = authenticator(way({"type": "oauth2", "oauth2": declared}, parameters))
        credentials = connected(provider, ours)
        assert status(provider, credentials["access_token"]) == 200
        machine = {**declared, "grant": "client_credentials"}
        ours = authenticator(way({"type": "oauth2", "oauth2": machine}, parameters))
        assert status(provider, str(ours.issue({}).credentials["access_token"])) == 200


def test_device_code(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider)
    assert ours.offers_device
    code = ours.begin_device()
    assert ours.poll_device(code) == code.interval
    assert code.user_code in code.complete_url
    oidc_provider.allow(code.complete_url, "dora")
    issued = ours.poll_device(code)
    assert isinstance(issued, Issued)
    assert status(oidc_provider, str(issued.credentials["access_token"])) == 200
    with pytest.raises(NotAuthorized):
        ours.poll_device(code)


def test_a_user_who_cancels(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider)
    begun = ours.begin(CALLBACK, "state-2")
    back = oidc_provider.allow(begun.url, "carl", cancel=True)
    with pytest.raises(NotAuthorized, match="access_denied"):
        ours.finish(back, CALLBACK, begun.kept)


def test_disconnecting_revokes(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider)
    credentials = connected(oidc_provider, ours)
    ours.disconnect(credentials)
    assert status(oidc_provider, credentials["access_token"]) == 401
    with pytest.raises(Defunct):
        ours.refresh(credentials)
    ours.disconnect(credentials)


def test_a_code_is_of_no_use_without_the_verifier(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider)
    begun = ours.begin(CALLBACK, "state-3")
    assert "code_challenge_method=S256" in begun.url
    assert begun.kept["code_verifier"] not in begun.url
    assert begun.kept["code_verifier"] not in repr(begun)
    back = oidc_provider.allow(begun.url, "eve")
    with pytest.raises(NotAuthorized, match="invalid_grant"):
        ours.finish(back, CALLBACK, {"code_verifier": "x" * 64})


def test_without_pkce(oidc_provider: OidcProvider) -> None:
    ours = of(oidc_provider, pkce=False)
    begun = ours.begin(CALLBACK, "state-4")
    assert "code_challenge" not in begun.url
    assert ours.finish(oidc_provider.allow(begun.url, "fay"), CALLBACK, begun.kept)


def test_a_wrong_client_secret_is_the_developers_fault(oidc_provider: OidcProvider) -> None:
    declared = {"token_url": oidc_provider.token_url, "grant": "client_credentials"}
    parameters = {"client_id": "machine", "client_secret": "not-the-real-secret"}
    ours = authenticator(way({"type": "oauth2", "oauth2": declared}, parameters))
    with pytest.raises(Fatal, match="invalid_client") as caught:
        ours.issue({})
    assert not isinstance(caught.value, NotAuthorized)
    assert "integration's parameters" in caught.value.hint
    assert no_secret_in(caught.value, parameters)


# --- what no certified provider does -------------------------------------------------------------


OAUTH2 = {
    "type": "oauth2",
    "oauth2": {
        "authorize_url": "https://app.test/allow",
        "token_url": "https://app.test/token",
        "revoke_url": "https://app.test/revoke",
    },
}
CLIENT = {"client_id": "ours", "client_secret": "planted-client-secret"}
OLD = {"access_token": "planted-access", "refresh_token": "planted-refresh"}


def answering(
    response: httpx.Response | Exception, authentication: dict[str, Any] = OAUTH2, **more: Any
) -> tuple[Authenticator, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def provider(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(response, Exception):
            raise response
        return response

    transport = httpx.MockTransport(provider)
    parameters = {**CLIENT, **more.pop("parameters", {})}
    return authenticator(way(authentication, parameters, transport=transport, **more)), asked


def form(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode()))


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (httpx.Response(400, json={"error": "invalid_grant"}), Defunct, "invalid_grant"),
        (httpx.Response(200, json={"error": "bad_refresh_token"}), Defunct, "bad_refresh_token"),
        (httpx.Response(401, json={"error": "invalid_client"}), Fatal, "invalid_client"),
        (httpx.Response(400, json={"error": "invalid_scope"}), Fatal, "invalid_scope"),
        (httpx.Response(503, text="busy"), AppUnavailable, "answered 503"),
        (httpx.Response(500, json={"error": "server_error"}), AppUnavailable, "answered 500"),
        (httpx.Response(400, json={"error": "temporarily_unavailable"}), AppUnavailable, "refused"),
        (httpx.Response(429, headers={"Retry-After": "7"}), RateLimited, "asks to wait"),
        (httpx.Response(403, text="<html>blocked</html>"), NotAuthorized, "answered 403"),
        (httpx.Response(400, json={"message": "no"}), NotAuthorized, "answered 400"),
        (httpx.Response(400, json={"error": {"message": "no"}}), NotAuthorized, "refused: an er"),
        (httpx.Response(302, headers={"Location": "https://evil.test"}), Fatal, "answered 302"),
        (httpx.Response(200, text='{"access_tok'), AppUnavailable, "no token"),
        (httpx.Response(200, json=["planted-access"]), AppUnavailable, "no token"),
        (httpx.Response(200, json={"ok": True}), Fatal, "no access_token"),
        (httpx.ReadTimeout("planted-refresh"), AppUnavailable, "gave no answer in time"),
        (httpx.ConnectError("refused"), AppUnavailable, "can't be reached"),
        (httpx.ReadError("planted-refresh"), AppUnavailable, "can't be reached: ReadError"),
    ],
)
def test_what_refusals_mean(
    response: httpx.Response | Exception, error: type[MembraneError], words: str
) -> None:
    ours, asked = answering(response)
    with pytest.raises(error, match=words) as caught:
        ours.refresh(OLD)
    assert len(asked) == 1
    assert no_secret_in(caught.value, OLD, CLIENT)
    if error is Defunct:
        return
    assert not isinstance(caught.value, Defunct)
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


def test_the_apps_own_words_are_told_without_secrets() -> None:
    said = "token planted-refresh of client planted-client-secret is dead"
    ours, _ = answering(
        httpx.Response(400, json={"error": "invalid_grant", "error_description": said})
    )
    with pytest.raises(Defunct, match=r"token \*\*\* of client \*\*\* is dead") as caught:
        ours.refresh(OLD)
    assert no_secret_in(caught.value, OLD, CLIENT)


@pytest.mark.parametrize("error", ["invalid_token", "unsupported_token_type"])
def test_what_has_ended_already_need_not_be_revoked(error: str) -> None:
    ours, asked = answering(httpx.Response(400, json={"error": error}))
    ours.disconnect(OLD)
    assert [form(request)["token_type_hint"] for request in asked] == [
        "refresh_token",
        "access_token",
    ]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(401, json={"error": "invalid_client"}), Fatal),
        (httpx.Response(503), AppUnavailable),
        (httpx.Response(403), NotAuthorized),
    ],
)
def test_a_revocation_that_fails(response: httpx.Response, error: type[MembraneError]) -> None:
    ours, _ = answering(response)
    with pytest.raises(error, match="revocation endpoint") as caught:
        ours.disconnect(OLD)
    assert no_secret_in(caught.value, OLD, CLIENT)


def test_an_assertion_that_is_refused() -> None:
    key = RSAKey.generate_key(2048).as_pem(private=True).decode()
    declared = {
        "type": "oauth2",
        "oauth2": {
            "token_url": "https://app.test/token",
            "grant": "jwt_bearer",
            "assertion": {"key": {"$var": "$.credentials.key"}},
        },
    }
    ours, _ = answering(httpx.Response(400, json={"error": "invalid_grant"}), declared)
    with pytest.raises(NotAuthorized) as first:
        ours.issue({"key": key})
    assert not isinstance(first.value, Defunct)
    with pytest.raises(Defunct):
        ours.refresh({"key": key, "access_token": "planted-access"})


def test_an_app_that_gives_no_refresh_tokens() -> None:
    declared = {**OAUTH2, "oauth2": {**OAUTH2["oauth2"], "noRefreshToken": True}}  # type: ignore[dict-item]
    ours, asked = answering(httpx.Response(200), declared)
    assert not ours.refreshable
    with pytest.raises(Defunct, match="no refresh token"):
        ours.refresh({"access_token": "planted-access"})
    assert asked == []


def test_a_refresh_keeps_what_does_not_change() -> None:
    ours, asked = answering(
        httpx.Response(200, json={"access_token": "new", "expires_in": "120"}),
        {**OAUTH2, "credentials_from_refresh": {"seen": {"$var": "$.token.access_token"}}},
    )
    issued = ours.refresh({**OLD, "instance_url": "https://eu.app.test"})
    assert issued.expires_in == 120
    assert issued.credentials == {
        "access_token": "new",
        "refresh_token": "planted-refresh",
        "instance_url": "https://eu.app.test",
        "seen": "new",
    }
    assert form(asked[0]) == {"grant_type": "refresh_token", "refresh_token": "planted-refresh"}
    assert asked[0].headers["Authorization"].startswith("Basic ")


def test_credentials_from_the_token() -> None:
    token = {"access_token": "a", "site": {"url": "https://eu.app.test"}, "expires_at": 1}
    declared = {
        **OAUTH2,
        "credentials_from_token": {"instance_url": {"$var": "$.token.site.url"}},
        "functions": {"credentials_from_token": "account", "config": "config"},
    }
    functions = {
        "account": lambda scope: {"account": scope["credentials"]["instance_url"][8:10]},
        "config": lambda scope: {"scopes": [scope["parameters"]["level"]], "skipPkce": True},
    }
    ours, asked = answering(
        httpx.Response(200, json=token),
        declared,
        functions=functions,
        parameters={"level": "all"},
    )
    begun = ours.begin("https://us.test/callback", "s", {"note": "typed"})
    asking = dict(parse_qsl(urlsplit(begun.url).query))
    assert asking == {
        "response_type": "code",
        "client_id": "ours",
        "redirect_uri": "https://us.test/callback",
        "scope": "all",
        "state": "s",
    }
    issued = ours.finish({"code": "c"}, "https://us.test/callback", begun.kept)
    assert issued.credentials["instance_url"] == "https://eu.app.test"
    assert issued.credentials["account"] == "eu"
    assert issued.credentials["note"] == "typed"
    assert issued.expires_in is not None
    assert issued.expires_in < 0
    assert form(asked[0])["code"] == "c"


def test_a_function_exchanges_the_code_and_another_refreshes() -> None:
    def exchange(scope: dict[str, Any]) -> Generator[Any, Answer, dict[str, Any]]:
        answer = yield {"path": "/exchange", "method": "POST", "body": {"code": scope["code"]}}
        return {"access_token": answer.body["t"], "expires_in": 60}

    asked: list[tuple[Call, bool]] = []

    def ask(call: Call, credentials: Any, signed: bool) -> Answer:
        asked.append((call, signed))
        return Answer(200, {}, {"t": "made"})

    declared = {**OAUTH2, "functions": {"token_data": "exchange", "refreshCredentials": "renew"}}
    functions = {"exchange": exchange, "renew": lambda scope: {"access_token": "renewed"}}
    given = replace(way(declared, CLIENT, functions=functions), ask=ask)
    ours = authenticator(given)
    issued = ours.finish({"code": "c"}, CALLBACK, {})
    assert issued.credentials == {"access_token": "made"}
    assert issued.expires_in == 60
    assert asked[0][0].body == {"code": "c"}
    assert asked[0][1] is False
    assert ours.refresh(OLD).credentials == {**OLD, "access_token": "renewed"}


def test_a_function_that_fails_tells_no_secret() -> None:
    def renew(scope: dict[str, Any]) -> None:
        raise RuntimeError(scope["credentials"]["refresh_token"])

    declared = {**OAUTH2, "functions": {"refresh": "renew"}}
    ours, _ = answering(httpx.Response(200), declared, functions={"renew": renew})
    with pytest.raises(Fatal, match="function 'renew' of hooks.py raised RuntimeError") as caught:
        ours.refresh(OLD)
    assert no_secret_in(caught.value, OLD)


def test_jwt_bearer() -> None:
    key = RSAKey.generate_key(2048)
    declared = {
        "type": "oauth2",
        "oauth2": {
            "token_url": "https://app.test/token",
            "grant": "jwt_bearer",
            "client_id": "",
            "assertion": {
                "key": {"$var": "$.credentials.private_key"},
                "issuer": {"$var": "$.credentials.email"},
                "claims": {"scope": "read"},
            },
        },
    }
    ours, asked = answering(httpx.Response(200, json={"access_token": "a"}), declared)
    typed = {"private_key": key.as_pem(private=True).decode(), "email": "robot@app.test"}
    issued = ours.issue(typed)
    assert issued.credentials == {**typed, "access_token": "a"}
    sent = form(asked[0])
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(sent["assertion"], key).claims
    assert claims["iss"] == "robot@app.test"
    assert claims["aud"] == "https://app.test/token"
    assert claims["scope"] == "read"
    assert claims["exp"] - claims["iat"] == 300
    assert "Authorization" not in asked[0].headers


@pytest.mark.parametrize(
    "url", ["ftp://app.test", "app.test/token", "https://", "https://a:b@app.test/token", ""]
)
def test_endpoints_are_http_addresses(url: str) -> None:
    declared = {**OAUTH2, "oauth2": {"token_url": {"$var": "$.input.url"}}}
    ours, asked = answering(httpx.Response(200), declared, input={"url": url})
    with pytest.raises(Fatal, match="token_url") as caught:
        ours.refresh(OLD)
    assert asked == []
    assert no_secret_in(caught.value, OLD)


def test_no_secret_shows_in_what_is_handed_around() -> None:
    ours, _ = answering(httpx.Response(200, json={**OLD, "expires_in": 9}))
    issued = ours.refresh(OLD)
    shown = repr(issued) + repr(ours) + repr(way(OAUTH2, CLIENT))
    assert "planted" not in shown


def no_secret_in(error: BaseException, *secrets: Mapping[str, object]) -> bool:
    """Neither in its words, nor in those of the errors that led to it."""
    shown = "".join(traceback.format_exception(error))
    texts = [str(value) for given in secrets for value in given.values()]
    secret = [text for text in texts if len(text) >= 12]
    assert secret
    return not any(text in shown for text in secret)
